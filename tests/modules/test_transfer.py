import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from tlprune import DownstreamDataModule, ExportBackbone, LitClassifier, PrunedSourceDataModule, TransferModule
from tlprune.data.datasets import TensorImages
from tlprune.data.target_splits import TargetSplits
from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import load_backbone, read_weights
from tlprune.modules.optim import WarmupCosineLR
from tlprune.preprocessing import Preprocessing

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
    weights, right = str(surrogate_file(9)), []
    for seed in range(3):
        torch.manual_seed(seed)
        module = TransferModule(weights=weights)
        before = module.backbone.network.stem.weight.clone()
        run = trainer(max_epochs=15)
        run.fit(module, datamodule=DownstreamDataModule(target, batch_size=8))
        assert not torch.equal(before, module.backbone.network.stem.weight)
        validated = float(run.callback_metrics["val/accuracy"])
        [tested] = run.test(module, datamodule=DownstreamDataModule(target), verbose=False)
        right.append([validated, tested["test/accuracy"]])
    assert torch.tensor(right).mean(0).min() > 0.6  # of four colours


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
    with pytest.raises(InputError, match="a linear probe needs pretrained weights, got none"):
        trainer().fit(TransferModule("resnet8_w8", mode="probe"), datamodule=DownstreamDataModule(target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `backbone`"),
        ({"backbone": "resnet8"}, "unknown backbone 'resnet8': did you mean 'resnet8_w8'|did you mean"),
        ({"backbone": "resnet8_w8", "mode": "linear"}, "`mode` must be 'probe' or 'finetune', got 'linear'"),
        ({"weights": "none.ckpt"}, "weights none.ckpt: no such file"),
        ({"backbone": "resnet8_w8", "num_classes": 0}, "`num_classes` must be at least 2, got 0"),
        ({"backbone": "resnet8_w8", "label_smoothing": 2}, r"`label_smoothing` must be in \[0, 1\], got 2"),
    ],
)
def test_bad_arguments_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        TransferModule(**options)


@pytest.fixture
def fitted(target, surrogate_file, tmp_path, trainer):
    """A module fitted to a target of four classes, the data, and the checkpoint."""
    data = DownstreamDataModule(target, batch_size=8)
    module = TransferModule(weights=str(surrogate_file(9)))
    run = trainer(max_epochs=1)
    run.fit(module, datamodule=data)
    run.save_checkpoint(tmp_path / "four.ckpt")
    return module, data, tmp_path / "four.ckpt"


def test_foreign_checkpoints_are_refused(fitted, trainer):
    _, data, path = fitted
    with pytest.raises(InputError, match="head maps 32 features to 4 classes, this model's 32 to 7"):
        trainer().test(TransferModule("resnet8_w8", num_classes=7), PlainLoader(), ckpt_path=path)
    with pytest.raises(InputError, match="head maps 32 features to 4 classes, this model's 64 to "):
        trainer().test(TransferModule("resnet8_w16"), datamodule=data, ckpt_path=path)


class OfOtherNames(PlainDataModule):
    """As many classes as the target has, with other names."""

    classes = ("w", "x", "y", "z")
    test_dataloader = PlainDataModule.train_dataloader


def test_a_test_on_as_many_other_classes_is_warned_of(fitted, target, surrogate_file, trainer):
    module, _, path = fitted
    first = target.train.classes[0]
    message = f"this model was trained with label 0 for '{first}', the data have it for 'w': accuracy is right only"
    others = OfOtherNames(target)
    with pytest.warns(UserWarning, match=message):
        trainer().test(module, others, verbose=False)
    loaded = TransferModule.load_from_checkpoint(path, weights_only=True)
    with pytest.warns(UserWarning, match=message):
        trainer().test(loaded, others, verbose=False)
    fresh = TransferModule(weights=str(surrogate_file(9)))
    with pytest.warns(UserWarning, match=message):
        trainer().test(fresh, others, ckpt_path=path, weights_only=True, verbose=False)
    with pytest.warns(UserWarning, match=message):
        trainer(max_epochs=1).fit(module, datamodule=others)


def test_a_test_on_its_own_classes_says_nothing(fitted, trainer, recwarn):
    module, data, path = fitted
    trainer().test(module, data, verbose=False)
    loaded = TransferModule.load_from_checkpoint(path, weights_only=True)
    trainer().test(loaded, data, verbose=False)
    trainer().test(module, data, ckpt_path=path, weights_only=True, verbose=False)
    assert not [one for one in recwarn if "was trained with label" in str(one.message)]


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


HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5), 24, 0.75, "bicubic")
"""How the weights of these tests expect images."""

BLACK_AS_HALF = [-1.0, -2.0, -1.0]
BLACK_AS_IMAGENET = pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-4)


class Noting(TransferModule):
    """Notes what it is shown."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.shown = set()
        self.backbone.register_forward_hook(self.note)

    def note(self, _, inputs, __):
        self.shown |= {(tuple(image.shape[1:]), *image[:, 0, 0].tolist()) for image in inputs[0]}


@pytest.fixture
def black():
    """A target whose images are black: what is left of them is how they were normalised."""

    def part(each):
        return TensorImages(torch.zeros(4 * each, 3, 32, 32, dtype=torch.uint8), torch.arange(4).repeat(each), "abcd")

    return TargetSplits("black", part(4), part(2), part(2), 32, "made for tests")


@pytest.fixture
def half(surrogate_file):
    return str(surrogate_file(9, "half.safetensors", HALF))


def shown(module, size, colour):
    assert {(height, width) for (height, width), *_ in module.shown} == {(size, size)}
    return all(rest == colour for _, *rest in module.shown) and len(module.shown) > 0


@pytest.mark.parametrize("mode", ["probe", "finetune"])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_as_the_weights_expect(black, half, trainer, mode, workers):
    module = Noting(weights=half, mode=mode)
    data = DownstreamDataModule(black, batch_size=4, num_workers=workers)
    trainer().fit(module, datamodule=data)
    trainer().test(module, datamodule=data, verbose=False)
    assert shown(module, 24, BLACK_AS_HALF)


def test_one_datamodule_serves_one_module_after_the_other(black, half, surrogate_file, trainer):
    data = DownstreamDataModule(black, batch_size=4)
    for weights, size, colour in (
        (half, 24, BLACK_AS_HALF),
        (str(surrogate_file(9)), 32, BLACK_AS_IMAGENET),
        (half, 24, BLACK_AS_HALF),
    ):
        module = Noting(weights=weights)
        trainer().fit(module, datamodule=data)
        assert shown(module, size, colour)


@pytest.mark.filterwarnings("ignore:You have overridden")
def test_a_module_with_a_hook_of_its_own_gets_them_too(black, half, trainer):
    class Hooked(Noting):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            assert batch[0].is_floating_point()
            return batch

    module = Hooked(weights=half)
    trainer().fit(module, datamodule=DownstreamDataModule(black, batch_size=4))
    assert shown(module, 24, BLACK_AS_HALF)


@pytest.mark.parametrize("augment", ["crop_flip", "shift", "none"])
def test_the_source_is_seen_as_the_weights_expect_too(black, half, trainer, augment):
    module = Noting(weights=half)
    trainer().fit(module, datamodule=PrunedSourceDataModule(black.train, augment=augment, batch_size=4, val_share=0.25))
    assert shown(module, 24, BLACK_AS_HALF)


def test_the_users_size_beats_the_weights(black, half, trainer):
    module = Noting(weights=half)
    trainer().fit(module, datamodule=DownstreamDataModule(black, image_size=16, batch_size=4))
    assert shown(module, 16, BLACK_AS_HALF)


def test_cached_features_are_those_of_images_as_expected(target, half, trainer):
    data = DownstreamDataModule(target, batch_size=50)
    trainer().fit(TransferModule(weights=half, mode="probe"), datamodule=data)
    alone = DownstreamDataModule(target, batch_size=50, preprocessing=HALF)
    alone.setup()
    images, labels = next(iter(alone.val_dataloader()))
    features, theirs = next(iter(data.val_dataloader()))
    assert torch.equal(labels, theirs)
    with torch.inference_mode():
        torch.testing.assert_close(features, load_backbone(half).eval()(images), atol=1e-5, rtol=1e-4)


def test_what_is_known_of_images_is_exported_and_kept_in_checkpoints(black, half, tmp_path, trainer):
    run = trainer(callbacks=[ExportBackbone(str(tmp_path / "out.safetensors"))])
    run.fit(TransferModule(weights=half), datamodule=DownstreamDataModule(black, batch_size=4))
    run.save_checkpoint(tmp_path / "run.ckpt")
    assert read_weights(tmp_path / "out.safetensors").preprocessing == HALF
    assert read_weights(tmp_path / "run.ckpt").preprocessing == HALF
    again = Noting.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    trainer().test(again, datamodule=DownstreamDataModule(black, batch_size=4), verbose=False)
    assert shown(again, 24, BLACK_AS_HALF)


def test_a_checkpoint_says_how_its_run_has_seen_images(black, half, surrogate_file, tmp_path, trainer):
    """Whatever the module that takes it up was made from."""
    data = DownstreamDataModule(black, batch_size=4)
    run = trainer()
    run.fit(TransferModule(weights=half), datamodule=data)
    run.save_checkpoint(tmp_path / "new.ckpt")
    older = torch.load(tmp_path / "new.ckpt", weights_only=True)
    del older["preprocessing"]
    torch.save(older, tmp_path / "older.ckpt")
    for weights, file, size, colour in (
        (str(surrogate_file(9)), "new.ckpt", 24, BLACK_AS_HALF),
        (half, "older.ckpt", 32, BLACK_AS_IMAGENET),
    ):
        module = Noting(weights=weights)
        trainer().test(module, datamodule=data, ckpt_path=tmp_path / file, weights_only=True, verbose=False)
        assert shown(module, size, colour)


def test_what_the_user_says_of_a_silent_file_is_used_and_exported(black, surrogate_file, tmp_path, trainer):
    module = Noting(weights=str(surrogate_file(9)), preprocessing=HALF)
    run = trainer(callbacks=[ExportBackbone(str(tmp_path / "out.safetensors"))])
    run.fit(module, datamodule=DownstreamDataModule(black, batch_size=4))
    assert shown(module, 24, BLACK_AS_HALF)
    assert read_weights(tmp_path / "out.safetensors").preprocessing == HALF


def test_data_that_is_said_to_be_otherwise_is_refused(black, half, surrogate_file, trainer):
    data = DownstreamDataModule(black, batch_size=4, preprocessing=Preprocessing(mean=(0.4, 0.4, 0.4)))
    message = (
        r"`preprocessing` of DownstreamDataModule is 'mean 0.4, .*', TransferModule expects '24 pixels, mean 0.5, "
    )
    with pytest.raises(InputError, match=message):
        trainer().fit(TransferModule(weights=half), datamodule=data)
    with pytest.raises(InputError, match="TransferModule expects 'as ImageNet'; give it to the model alone"):
        trainer().fit(TransferModule(weights=str(surrogate_file(9))), datamodule=data)


def test_training_from_scratch_is_as_before(black, trainer):
    class NotingClassifier(LitClassifier):
        note = Noting.note

    module = NotingClassifier("resnet8_w8")
    module.shown = set()
    module.backbone.register_forward_hook(module.note)
    trainer().fit(module, datamodule=PrunedSourceDataModule(black.train, augment="shift", batch_size=4))
    assert shown(module, 32, BLACK_AS_IMAGENET)


def test_images_that_a_network_does_not_take_are_one_line(black, trainer):
    module = LitClassifier("vit_b_32", num_classes=4)
    message = "the backbone does not accept images of 3 x 32 x 32: Wrong image height"
    with pytest.raises(InputError, match=message) as said:
        trainer().validate(module, datamodule=DownstreamDataModule(black, batch_size=4))
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("mode", ["probe", "finetune"])
def test_the_first_weights_of_a_head_are_those_of_earlier_versions(surrogate_file, mode, said):
    """Published numbers hang on them. They follow two networks, or one where the number of classes is given."""
    weights = str(surrogate_file(9))
    torch.manual_seed(3)
    found = TransferModule(weights=weights, mode=mode, num_classes=4 if said else None)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    create_backbone(found.hparams["backbone"])
    expected = torch.nn.Linear(32, 4) if said else None
    create_backbone(found.hparams["backbone"])
    assert torch.equal(torch.get_rng_state(), after)
    if expected is not None:
        assert torch.equal(found.head.weight, expected.weight)
        assert torch.equal(found.head.bias, expected.bias)
