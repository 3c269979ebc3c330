from statistics import mean

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from tlprune import LitAdversarialClassifier, LitClassifier, PrunedSourceDataModule
from tlprune.errors import InputError
from tlprune.models.weights import load_backbone


@pytest.fixture
def fit(coloured, trainer):
    def run(made, precision="32-true", epochs=8, seed=0, **options):
        seed_everything(seed, verbose=False)
        module = made("resnet8_w8", optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05, 0.9), **options)
        data = PrunedSourceDataModule(coloured(6, 20), augment="none", batch_size=20, val_share=0.2)
        run = trainer(max_epochs=epochs, precision=precision)
        run.fit(module, datamodule=data)
        return module, data, run

    return run


def robust_accuracy(module, data):
    """Under an attack of its own, ten steps long."""
    from tlprune.models.adversarial import PGD

    torch.manual_seed(1)
    module.eval()
    attack = PGD(24, 10)
    right = [(module(attack(module, *batch)).argmax(1) == batch[1]).float() for batch in data.val_dataloader()]
    return torch.cat(right).mean().item()


def test_it_learns_to_withstand_the_attack(fit):
    """Of six colours, by four seeds: how one small training goes hangs on the processor."""
    clean, robust, gained = [], [], []
    for seed in range(4):
        hardened, data, run = fit(LitAdversarialClassifier, epsilon=24.0, seed=seed)
        plain, _, _ = fit(LitClassifier, seed=seed)
        clean.append(float(run.callback_metrics["val/accuracy"]))
        robust.append(float(run.callback_metrics["val/robust_accuracy"]))
        gained.append(robust_accuracy(hardened, data) - robust_accuracy(plain, data))
    assert all(one <= other for one, other in zip(robust, clean, strict=True))
    assert mean(clean) > 0.5
    assert mean(robust) > 0.35
    assert mean(gained) > 0.05


def test_test_reports_both_accuracies(fit):
    module, data, run = fit(LitAdversarialClassifier, epochs=1)
    [logged] = run.test(module, datamodule=data, verbose=False)
    assert {"test/loss", "test/accuracy", "test/robust_accuracy"} <= logged.keys()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_reduced_precision(fit, precision):
    module, _, run = fit(LitAdversarialClassifier, precision, epochs=2)
    assert torch.isfinite(run.callback_metrics["train/loss"])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_its_checkpoint_is_a_surrogate_like_any_other(fit, tmp_path):
    module, _, run = fit(LitAdversarialClassifier, epochs=1)
    run.save_checkpoint(tmp_path / "w.ckpt")
    backbone = load_backbone(tmp_path / "w.ckpt")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone.eval()(images), module.eval().backbone(images))


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")
def test_a_run_that_goes_on_ends_with_the_same_weights(coloured, trainer, tmp_path):
    def fit(epochs, resume=None):
        seed_everything(0, verbose=False)
        module = LitAdversarialClassifier("resnet8_w8", optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05))
        data = PrunedSourceDataModule(coloured(3, 10), batch_size=8, val_share=0.2)
        save = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
        run = trainer(max_epochs=epochs, callbacks=[save], enable_checkpointing=True)
        torch.rand(3 if resume else 1)  # other draws before must not matter
        run.fit(module, datamodule=data, ckpt_path=resume)
        return torch.cat([value.flatten().double() for value in module.state_dict().values()])

    whole = fit(3)
    fit(1)
    assert torch.equal(fit(3, tmp_path / "epoch=0.ckpt"), whole)


def test_flip_averaging_and_one_view(fit, coloured, trainer):
    _, _, run = fit(LitAdversarialClassifier, epochs=1, flip_average=True)
    assert 0 <= run.callback_metrics["val/robust_accuracy"] <= 1
    data = PrunedSourceDataModule(coloured(3, 10), batch_size=8, augment="simclr_small")
    for made in (LitClassifier, LitAdversarialClassifier):
        with pytest.raises(InputError, match=f"{made.__name__} takes one view of each image, got 2"):
            trainer().fit(made("resnet8_w8"), datamodule=data)


def test_batches_follow_the_mean_and_deviation_that_it_attacks_with(coloured, trainer):
    seen = []

    class Noting(LitAdversarialClassifier):
        def training_step(self, batch, batch_idx):
            seen.append(batch[0])
            return super().training_step(batch, batch_idx)

    module = Noting("resnet8_w8", steps=1, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    trainer().fit(module, datamodule=PrunedSourceDataModule(coloured(3, 10), augment="none", batch_size=4))
    pixels = (torch.cat(seen) / 2 + 0.5) * 255
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    assert 0 <= pixels.min() < pixels.max() <= 255.001
