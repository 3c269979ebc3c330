import math

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from tlprune import DownstreamDataModule, KNNProbe, LitSSL, PrunedSourceDataModule, TransferModule
from tlprune.callbacks.knn_probe import knn_accuracy
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.models.weights import load_backbone
from tlprune.preprocessing import Preprocessing
from tlprune.selection.features import extract_features


def slow_knn(bank, labels, queries, right, count, temperature):
    """Wu et al., 2018, in plain Python."""
    hits = 0
    for query, wanted in zip(queries.tolist(), right.tolist(), strict=True):
        similar = []
        for row, label in zip(bank.tolist(), labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, row, strict=True))
            similar.append((dot / math.hypot(*query) / math.hypot(*row), label))
        votes = {}
        for similarity, label in sorted(similar, reverse=True)[:count]:
            votes[label] = votes.get(label, 0.0) + math.exp(similarity / temperature)
        hits += max(votes, key=votes.get) == wanted
    return hits / len(queries)


@pytest.mark.parametrize("seed", range(20))
def test_knn_equals_a_slow_reference(seed):
    generator = torch.Generator().manual_seed(seed)
    bank, queries = torch.randn(30, 5, generator=generator), torch.randn(12, 5, generator=generator)
    labels, right = torch.randint(0, 4, (30,), generator=generator), torch.randint(0, 4, (12,), generator=generator)
    for count in (1, 7, 30):
        found = knn_accuracy(bank, labels, queries, right, count, 0.1)
        assert found == pytest.approx(slow_knn(bank, labels, queries, right, count, 0.1))


def test_a_bank_smaller_than_the_number_of_neighbours_is_used_whole():
    bank, labels = torch.eye(3), torch.arange(3)
    assert knn_accuracy(bank, labels, bank, labels, 200, 0.1) == 1.0


class Colours(LightningModule):
    """Somebody else's module: its features are the mean colours, which tell the target's classes apart."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.9)
        self.logged = []

    def forward(self, images):
        return self.dropout(images.mean((2, 3)) * self.scale)

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.001)


def test_in_somebody_elses_trainer(coloured, target, trainer, tmp_path):
    data = PrunedSourceDataModule(coloured(4, 8), batch_size=8, val_share=0.25, augment="none")
    best = ModelCheckpoint(tmp_path, "best", monitor="val/knn_accuracy", mode="max")
    fit = trainer(max_epochs=2, callbacks=[KNNProbe(target), best], enable_checkpointing=True)
    module = Colours()
    fit.fit(module, datamodule=data)
    assert float(best.best_model_score) == 1.0
    assert module.training
    again = trainer(callbacks=[KNNProbe(target, metric="colours")])
    assert again.validate(module, datamodule=data, verbose=False) == [{"colours": 1.0}]


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_probing_does_not_change_training(coloured, target, trainer, method):
    weights = []
    for callbacks in ([], [KNNProbe(target)]):
        torch.manual_seed(0)
        data = PrunedSourceDataModule(coloured(4, 8), batch_size=8, val_share=0.0, augment="moco")
        module = LitSSL("resnet8_w8", method, hidden_dim=8, output_dim=8, queue_size=16)
        trainer(max_epochs=2, callbacks=callbacks, limit_val_batches=0).fit(module, datamodule=data)
        weights.append(module.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("val_share", [0.0, 0.25])
def test_every_n_epochs_and_the_last(coloured, target, trainer, val_share):
    logged = []

    class Logged(LitSSL):
        def log(self, name, *args, **kwargs):
            if name == "val/knn_accuracy":
                logged.append(self.current_epoch)
            super().log(name, *args, **kwargs)

    data = PrunedSourceDataModule(coloured(2, 8), batch_size=4, val_share=val_share, augment="simclr_small")
    options = {} if val_share else {"limit_val_batches": 0}
    module = Logged("resnet8_w8", hidden_dim=8)
    trainer(max_epochs=5, callbacks=[KNNProbe(target, every_n_epochs=2)], **options).fit(module, datamodule=data)
    assert logged == [1, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "digit"}, "did you mean .digits"),
        ({"num_neighbours": 0}, "`num_neighbours` must be"),
        ({"temperature": 0.0}, "`temperature` must be above 0, got 0.0"),
        ({"every_n_epochs": 0}, "`every_n_epochs` must be"),
        ({"image_size": 0}, "`image_size` must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        KNNProbe(**options)


def test_images_are_seen_as_the_modules_weights_expect(target, surrogate_file, trainer):
    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5), 24, 0.75, "bicubic")
    weights = surrogate_file(4, preprocessing=half)
    run = trainer(callbacks=[KNNProbe(target, num_neighbours=3)])
    run.validate(TransferModule(weights=str(weights)), datamodule=DownstreamDataModule(target), verbose=False)
    parts = [TransformedDataset(part, EvalTransform(24, half)) for part in (target.train, target.val)]
    bank, queries = (extract_features(load_backbone(weights), part) for part in parts)
    wanted = knn_accuracy(bank, target.train.labels, queries, target.val.labels, 3, 0.1)
    assert float(run.callback_metrics["val/knn_accuracy"]) == pytest.approx(wanted)
