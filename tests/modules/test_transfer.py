import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from tlprune import DownstreamDataModule, TransferModule
from tlprune.errors import InputError
from tlprune.modules.optim import WarmupCosineLR

pytestmark = pytest.mark.filterwarnings("ignore:Found .* module")


class PlainDataModule(LightningDataModule):
    """Somebody else's DataModule, which cannot cache features."""

    num_classes = 4

    def __init__(self, target):
        super().__init__()
        self.pairs = TensorDataset(target.train.pixels.float() / 255, target.train.labels)

    def train_dataloader(self):
        return DataLoader(self.pairs, batch_size=8)

    val_dataloader = train_dataloader


def test_probe_trains_the_head_alone(target, surrogate_file, trainer):
    module = TransferModule(weights=str(surrogate_file(9)), mode="probe")
    before = {key: value.clone() for key, value in module.backbone.state_dict().items()}
    trainer().fit(module, datamodule=DownstreamDataModule(target, batch_size=8))
    assert all(torch.equal(before[key], value) for key, value in module.backbone.state_dict().items())
    assert module.head.weight.shape == (4, 32)
    assert not module.backbone.training


@pytest.mark.parametrize("schedule", [None, WarmupCosineLR])
def test_probe_sees_each_image_once(target, surrogate_file, trainer, schedule):
    module = TransferModule(weights=str(surrogate_file(9)), mode="probe", lr_scheduler=schedule)
    seen = []
    module.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    trainer(max_epochs=5, num_sanity_val_steps=0).fit(module, datamodule=DownstreamDataModule(target, batch_size=8))
    assert sum(seen) == len(target.train) + len(target.val)


def test_cached_and_uncached_probes_are_the_same(target, surrogate_file, trainer):
    """The same images in the same order, with features computed once or at every step."""
    heads = []
    for data in (PlainDataModule(target), _Caching(target)):
        torch.manual_seed(0)
        module = TransferModule(weights=str(surrogate_file(9)), mode="probe")
        trainer().fit(module, datamodule=data)
        heads.append(module.head.weight.detach())
    torch.testing.assert_close(heads[0], heads[1], atol=1e-5, rtol=1e-4)


class _Caching(PlainDataModule):
    def cache_features(self, backbone):
        images, labels = self.pairs.tensors
        assert not backbone.training
        with torch.no_grad():
            self.pairs = TensorDataset(backbone(images), labels)
        return True


def test_finetuning_trains_everything_with_a_new_head(target, surrogate_file, trainer):
    module = TransferModule(weights=str(surrogate_file(9)))
    before = module.backbone.network.stem.weight.clone()
    run = trainer(max_epochs=15)
    run.fit(module, datamodule=DownstreamDataModule(target, batch_size=8))
    assert not torch.equal(before, module.backbone.network.stem.weight)
    assert run.callback_metrics["val/accuracy"] > 0.8
    assert run.test(module, datamodule=DownstreamDataModule(target), verbose=False)[0]["test/accuracy"] > 0.8


def test_checkpoint_gives_the_model_back_without_its_weights_file(target, surrogate_file, tmp_path, trainer):
    weights = surrogate_file(9)
    module = TransferModule(weights=str(weights), mode="probe")
    run = trainer()
    run.fit(module, datamodule=DownstreamDataModule(target, batch_size=8))
    run.save_checkpoint(tmp_path / "probe.ckpt")
    weights.unlink()
    again = TransferModule.load_from_checkpoint(tmp_path / "probe.ckpt", weights_only=True)
    assert (again.mode, again.num_classes, again.classes) == ("probe", 4, list(target.classes))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.eval()(images), module.eval()(images))


def test_predicts_probabilities(target, surrogate_file, trainer):
    module = TransferModule(weights=str(surrogate_file(9)), num_classes=4)
    data = DownstreamDataModule(target, batch_size=50)
    [probabilities] = trainer().predict(module, datamodule=data)
    assert probabilities.shape == (24, 4)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(24))


def test_probe_of_random_weights_is_refused(target, trainer):
    with pytest.raises(InputError, match="a linear probe of random weights says nothing"):
        trainer().fit(TransferModule("resnet8_w8", mode="probe"), datamodule=DownstreamDataModule(target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `backbone`"),
        ({"backbone": "resnet8"}, "unknown backbone 'resnet8': did you mean 'resnet8_w8'|did you mean"),
        ({"backbone": "resnet8_w8", "mode": "linear"}, "`mode` must be 'probe' or 'finetune', got 'linear'"),
        ({"weights": "none.ckpt"}, "weights none.ckpt: no such file"),
        ({"backbone": "resnet8_w8", "num_classes": 0}, "`num_classes` must be at least 1, got 0"),
        ({"backbone": "resnet8_w8", "label_smoothing": 2}, r"`label_smoothing` must be in \[0, 1\], got 2"),
    ],
)
def test_bad_arguments_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        TransferModule(**options)


def test_foreign_checkpoints_are_refused(target, surrogate_file, tmp_path, trainer):
    data = DownstreamDataModule(target, batch_size=8)
    module = TransferModule(weights=str(surrogate_file(9)))
    run = trainer(max_epochs=1)
    run.fit(module, datamodule=data)
    run.save_checkpoint(tmp_path / "four.ckpt")
    with pytest.raises(InputError, match="head maps 32 features to 4 classes, this model's 32 to 7"):
        trainer().test(TransferModule("resnet8_w8", num_classes=7), PlainLoader(), ckpt_path=tmp_path / "four.ckpt")
    with pytest.raises(InputError, match="head maps 32 features to 4 classes, this model's 64 to "):
        trainer().test(TransferModule("resnet8_w16"), datamodule=data, ckpt_path=tmp_path / "four.ckpt")


def PlainLoader():  # noqa: N802 - reads like the DataModules beside it
    return DataLoader(TensorDataset(torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)))


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
@pytest.mark.parametrize("mode", ["probe", "finetune"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_reduced_precision_trains_to_finite_weights(trainer, target, surrogate_file, mode, precision):
    module = TransferModule(weights=str(surrogate_file(6)), mode=mode)
    run = trainer(max_epochs=2, precision=precision)
    run.fit(module, datamodule=DownstreamDataModule(target, batch_size=8))
    assert torch.isfinite(run.callback_metrics["train/loss"])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_a_second_run_on_the_same_data_sees_images_again(trainer, target, surrogate_file):
    data = DownstreamDataModule(target, batch_size=8)
    weights = str(surrogate_file(6))
    trainer().fit(TransferModule(weights=weights, mode="probe"), datamodule=data)
    assert next(iter(data.train_dataloader()))[0].ndim == 2
    trainer().fit(TransferModule(weights=weights, mode="probe", flip_average=True), datamodule=data)
    assert next(iter(data.train_dataloader()))[0].ndim == 4
    trainer().fit(TransferModule(weights=weights, mode="finetune"), datamodule=data)
