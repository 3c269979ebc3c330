import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint

from tlprune import LitClassifier, PrunedSourceDataModule, RandomSelector
from tlprune.errors import InputError
from tlprune.modules.optim import WarmupCosineLR


def data(coloured, **options):
    return PrunedSourceDataModule(coloured(6, 20), augment="none", batch_size=20, val_share=0.2, **options)


def test_learns_and_reports(coloured, trainer):
    right = []
    for seed in range(3):
        seed_everything(seed, verbose=False)
        run = trainer(max_epochs=6)
        module = LitClassifier("resnet8_w8", lr_scheduler=WarmupCosineLR)
        run.fit(module, datamodule=data(coloured))
        assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= set(run.callback_metrics)
        right.append(float(run.callback_metrics["val/accuracy"]))
        [again] = run.validate(module, datamodule=data(coloured), verbose=False)
        assert again["val/accuracy"] == pytest.approx(right[-1], abs=0.1)  # of 24 images
    assert torch.tensor(right).mean() > 0.6  # of six colours


def test_accuracy_and_loss_equal_a_plain_computation(coloured, trainer):
    torch.manual_seed(0)
    module = LitClassifier("resnet8_w8", num_classes=6, label_smoothing=0.3)
    [logged] = trainer().validate(module, datamodule=data(coloured), verbose=False)
    whole = data(coloured)
    whole.setup()
    module.eval()
    logits, labels = zip(*((module(images), labels) for images, labels in whole.val_dataloader()), strict=True)
    logits, labels = torch.cat(logits), torch.cat(labels)
    assert logged["val/accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    expected = -logits.log_softmax(1)[range(len(labels)), labels].mean()  # smoothing is for training alone
    assert logged["val/loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_label_smoothing_is_used_in_training():
    torch.manual_seed(0)
    module = LitClassifier("resnet8_w8", num_classes=3, label_smoothing=0.3)
    module.log = lambda *_, **__: None
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    logs = module(images).log_softmax(1)
    expected = -(0.7 * logs[range(4), labels] + 0.3 * logs.mean(1)).mean()
    torch.testing.assert_close(module.training_step((images, labels), 0), expected)


def test_head_takes_its_width_from_the_data(coloured, trainer):
    module = LitClassifier("resnet8_w8")
    trainer().fit(module, datamodule=data(coloured, selector=RandomSelector(), keep_units=2))
    assert module.head.weight.shape == (2, 32)
    assert module.hparams["num_classes"] == 2
    with pytest.raises(InputError, match="`num_classes` is 9, the data has 6 classes"):
        trainer().fit(LitClassifier("resnet8_w8", num_classes=9), datamodule=data(coloured))


def test_one_class_is_refused_by_name(coloured, trainer):
    one = data(coloured, selector=RandomSelector(), keep_units=1)
    with pytest.raises(InputError, match="`num_classes` must be at least 2, got 1; a budget that keeps one class"):
        trainer(max_epochs=1).fit(LitClassifier("resnet8_w8"), datamodule=one)
    with pytest.raises(InputError, match="`num_classes` must be at least 2, got 1"):
        LitClassifier("resnet8_w8", num_classes=1)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # that is where it resumes from
def test_resume_at_the_end_of_an_epoch_equals_an_uninterrupted_run(coloured, tmp_path, trainer):
    class Unshuffled(PrunedSourceDataModule):
        train_dataloader = PrunedSourceDataModule.val_dataloader

    def fit(**options):
        seed_everything(0, verbose=False)
        module = LitClassifier("resnet8_w8", lr_scheduler=WarmupCosineLR)
        source = Unshuffled(coloured(6, 20), augment="none", batch_size=20, val_share=0.5)
        each = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, enable_version_counter=False)
        run = trainer(max_epochs=3, callbacks=[each], enable_checkpointing=True)
        run.fit(module, datamodule=source, **options)
        return run, module.state_dict()

    whole, expected = fit()
    resumed, found = fit(ckpt_path=tmp_path / "epoch=0.ckpt", weights_only=True)
    assert whole.global_step == resumed.global_step == 9
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.filterwarnings("ignore:The provided params to be frozen")  # it leaves BatchNorm trainable, then says so
def test_works_with_lightnings_own_backbone_finetuning(coloured, trainer):
    module = LitClassifier("resnet8_w8", lr_scheduler=None)
    freeze = BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)
    trainer(max_epochs=2, callbacks=[freeze]).fit(module, datamodule=data(coloured))
    assert all(parameter.requires_grad for parameter in module.backbone.parameters())


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_flip_averaging_judges_the_mean_of_both_views(coloured, trainer, stage):
    torch.manual_seed(0)
    module = LitClassifier("resnet8_w8", num_classes=6, flip_average=True)
    images = data(coloured)
    [logged] = getattr(trainer(), stage)(module, datamodule=images, verbose=False)
    module.eval()
    losses = []
    for batch, labels in images.val_dataloader():
        logits = (module(batch) + module(batch.flip(3))) / 2
        losses.append(-logits.log_softmax(1)[range(len(labels)), labels])
    name = "val" if stage == "validate" else "test"
    assert logged[f"{name}/loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-4)


def test_flip_averaging_leaves_training_alone():
    torch.manual_seed(0)
    module = LitClassifier("resnet8_w8", num_classes=3, flip_average=True)
    module.log = lambda *_, **__: None
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    expected = -module(images).log_softmax(1)[range(4), labels].mean()
    torch.testing.assert_close(module.training_step((images, labels), 0), expected)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_reduced_precision_trains_to_finite_weights(coloured, trainer, precision):
    module = LitClassifier("resnet8_w8")
    run = trainer(max_epochs=2, precision=precision)
    run.fit(module, datamodule=data(coloured))
    assert torch.isfinite(run.callback_metrics["train/loss"])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
