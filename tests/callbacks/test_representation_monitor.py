import itertools
import math

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from tlprune import LitClassifier, LitSSL, PrunedSourceDataModule, RepresentationMonitor
from tlprune.callbacks.representation_monitor import alignment, feature_std, uniformity
from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone


def unit(count, width, seed):
    values = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return values / values.norm(dim=1, keepdim=True)


def test_formulas_equal_slow_references():
    first, second = unit(6, 4, 0), unit(6, 4, 1)
    apart = [math.dist(a, b) ** 2 for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert float(alignment(first, second)) == pytest.approx(sum(apart) / 6, rel=1e-5)
    pairs = [math.exp(-2 * math.dist(a, b) ** 2) for a, b in itertools.combinations(first.tolist(), 2)]
    assert float(uniformity(first)) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)
    assert float(feature_std(unit(20_000, 64, 2))) == pytest.approx(1.0, abs=0.01)


class Views(LightningModule):
    """Somebody else's module, whose features are those that it is told."""

    def __init__(self, collapsed):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 8)
        self.collapsed = collapsed

    def forward(self, images):
        features = self.layer(images.flatten(1))
        return features * 0 + 1 if self.collapsed else features

    def training_step(self, batch, batch_idx):
        return (self(batch[0][0]) - self(batch[0][1])).square().mean() + 0 * self.layer.weight.sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-4)


def fit(module, coloured, trainer, augment="simclr", **options):
    data = PrunedSourceDataModule(coloured(4, 8), batch_size=8, val_share=0.0, augment=augment)
    run = trainer(max_epochs=3, callbacks=[RepresentationMonitor(**options)], limit_val_batches=0)
    run.fit(module, datamodule=data)
    return run.callback_metrics


def test_logs_in_somebody_elses_trainer(coloured, trainer):
    found = fit(Views(collapsed=False), coloured, trainer)
    assert found["train/feature_std"] > 0.1
    assert found["train/uniformity"] < 0 < found["train/alignment"]


def test_warns_once_of_collapse(coloured, trainer):
    with pytest.warns(UserWarning, match="features collapse: their standard deviation is 0 in epoch 1") as caught:
        found = fit(Views(collapsed=True), coloured, trainer)
    assert len([one for one in caught if "collapse" in str(one.message)]) == 1
    assert found["train/feature_std"] == found["train/alignment"] == 0
    assert found["train/uniformity"] == 0


class Attracted(LightningModule):
    """Learns to bring views together, with nothing to hold images apart: the textbook way to collapse."""

    def __init__(self):
        super().__init__()
        self.backbone = create_backbone("resnet8_w8")

    def training_step(self, batch, batch_idx):
        first, second = (nn.functional.normalize(self.backbone(view), dim=1) for view in batch[0])
        return (first - second).square().sum(1).mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, 0.9)


def test_a_network_that_really_collapses_is_noticed_and_simclr_is_not(coloured, trainer):
    torch.manual_seed(0)
    data = PrunedSourceDataModule(coloured(8, 64), batch_size=64, val_share=0.0, augment="simclr_small")
    run = trainer(max_epochs=30, callbacks=[RepresentationMonitor(every_n_steps=4)], limit_val_batches=0)
    with pytest.warns(UserWarning, match="features collapse"):
        run.fit(Attracted(), datamodule=data)
    found = fit(LitSSL("resnet8_w8", hidden_dim=32, output_dim=16), coloured, trainer, augment="simclr_small")
    assert found["train/feature_std"] > 0.2


def test_monitoring_does_not_change_training(coloured, trainer):
    weights = []
    for callbacks in ([], [RepresentationMonitor(every_n_steps=1)]):
        torch.manual_seed(0)
        data = PrunedSourceDataModule(coloured(4, 8), batch_size=8, val_share=0.0, augment="simclr")
        module = LitSSL("resnet8_w8", hidden_dim=8, output_dim=8)
        trainer(max_epochs=2, callbacks=callbacks, limit_val_batches=0).fit(module, datamodule=data)
        weights.append(module.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_batches_without_two_views_are_refused(coloured, trainer):
    with pytest.raises(InputError, match="needs batches that begin with two views; set `augment`"):
        fit(LitClassifier("resnet8_w8"), coloured, trainer, augment="shift", every_n_steps=1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "`every_n_steps` must be"),
        ({"max_images": 1}, "`max_images` must be"),
        ({"collapse_below": -1.0}, "`collapse_below` must be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RepresentationMonitor(**options)
