from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tlprune import CostMonitor, PrunedSourceDataModule, RandomSelector, Selection
from tlprune.callbacks import cost_monitor
from tlprune.callbacks.cost_monitor import _images_in
from tlprune.errors import InputError


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a test says so."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(cost_monitor, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


class Slow(LightningModule):
    """Somebody else's module: two seconds a training batch, a hundred a validation batch."""

    def __init__(self, clock=None):
        super().__init__()
        self.layer = nn.LazyLinear(2)
        self.layer(torch.zeros(1, 3 * 32 * 32))
        self.clock = clock

    def _wait(self, seconds):
        if self.clock is not None:
            self.clock.seconds += seconds

    def training_step(self, batch, batch_idx):
        self._wait(2)
        return self.layer(nn.functional.dropout(batch[0].flatten(1), 0.5)).square().mean()

    def validation_step(self, batch, batch_idx):
        self._wait(100)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Noise(LightningDataModule):
    """Somebody else's data: twelve images in batches of four, one batch to validate."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(12, 3, 32, 32)), batch_size=4)

    def val_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(4, 3, 32, 32)), batch_size=4)


def board(folder, version="run"):
    return TensorBoardLogger(folder, name="", version=version)


def values(found, tag):
    return [(point.step, pytest.approx(point.value, rel=1e-4)) for point in found.Scalars(tag)]


def test_in_somebody_elses_trainer(trainer, clock, events, tmp_path):
    fit = trainer(
        max_epochs=2, callbacks=[CostMonitor(every_n_steps=2)], logger=board(tmp_path), num_sanity_val_steps=0
    )
    fit.fit(Slow(clock), datamodule=Noise())
    found = events(tmp_path / "run")
    assert {tag for tag in found.Tags()["scalars"] if tag.startswith("cost/")} == {
        "cost/minutes_spent",
        "cost/minutes_left",
        "cost/images_per_second",
    }
    # batches end after 2, 4 and 6 s, validation after 106; then 108, 110, 112
    assert values(found, "cost/minutes_spent") == [(2, 4 / 60), (3, 6 / 60), (5, 110 / 60), (6, 112 / 60)]
    assert values(found, "cost/minutes_left") == [(2, 8 / 60), (3, 6 / 60), (5, 22 / 60), (6, 0)]
    assert values(found, "cost/images_per_second") == [(2, 2), (3, 2), (5, 2), (6, 2)]


def test_every_logger_and_the_trainers_own_interval(trainer, clock, tmp_path):
    fit = trainer(callbacks=[CostMonitor()], logger=CSVLogger(tmp_path, "", "csv"), log_every_n_steps=1)
    fit.fit(Slow(clock), datamodule=Noise())
    [header, *lines] = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()
    assert "cost/minutes_left" in header
    assert len(lines) == 3


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield (torch.ones(3, 32, 32),)


@pytest.mark.parametrize(("options", "left"), [({"max_steps": 6}, [8, 4, 0]), ({"max_time": {"seconds": 1}}, [])])
def test_steps_without_epochs(trainer, clock, events, tmp_path, options, left):
    monitor = CostMonitor(every_n_steps=2)
    fit = trainer(max_epochs=-1, callbacks=[monitor], logger=board(tmp_path), limit_val_batches=0, **options)
    loaders = [DataLoader(Endless(), batch_size=4) for _ in range(2)]
    fit.fit(Slow(clock), *loaders)
    found = events(tmp_path / "run")
    if left:
        assert values(found, "cost/minutes_left") == [
            (step, one / 60) for step, one in zip((2, 4, 6), left, strict=True)
        ]
    else:
        assert "cost/minutes_left" not in found.Tags()["scalars"]


@pytest.fixture
def pruned(coloured, tmp_path):
    """Half of 4 classes of 8 images, with a Selection that says what it and its surrogate took."""
    data = PrunedSourceDataModule(coloured(4, 8), selector=RandomSelector(), keep_units=2, val_share=0.0)
    data.setup()
    one = data.selection
    record = {"seconds": {"features": 1.0, "vote": 0.5}, "surrogate_seconds": 3.0}
    parts = {name: getattr(one, name) for name in ("ranking", "votes", "scores", "unit_of_sample", "assignments")}
    Selection(one.method, one.unit_names, **parts, config=one.config, metadata=record).save(
        tmp_path / "one.safetensors"
    )
    return {"selection": str(tmp_path / "one.safetensors"), "keep_units": 2, "val_share": 0.0, "batch_size": 4}


def test_cost_against_the_full_run(trainer, clock, events, coloured, pruned, tmp_path):
    data = PrunedSourceDataModule(coloured(4, 8), augment="none", **pruned)
    options = {"max_epochs": 2, "limit_val_batches": 0, "logger": board(tmp_path)}
    trainer(callbacks=[CostMonitor(every_n_steps=2)], **options).fit(Slow(clock), datamodule=data)
    found = events(tmp_path / "run")
    assert values(found, "cost/selection_minutes") == [(0, 1.5 / 60)]
    assert values(found, "cost/surrogate_minutes") == [(0, 3 / 60)]
    # 16 of 32 images in batches of 4 for 2 epochs are 8 batches of 2 s: 16 s, so the whole source takes 32 s
    assert values(found, "cost/of_full_run") == [(step, (4.5 + 2 * step) / 32) for step in (2, 4, 6, 8)]
    assert values(found, "cost/saved") == [(step, 1 - (4.5 + 16) / 32) for step in (2, 4, 6, 8)]


def test_nothing_is_saved_by_a_number_of_steps_or_without_pruning(trainer, clock, events, coloured, pruned, tmp_path):
    data = PrunedSourceDataModule(coloured(4, 8), augment="none", **pruned)
    options = {"limit_val_batches": 0, "log_every_n_steps": 1}
    trainer(max_epochs=9, max_steps=3, callbacks=[CostMonitor()], logger=board(tmp_path, "steps"), **options).fit(
        Slow(clock), datamodule=data
    )
    whole = PrunedSourceDataModule(coloured(4, 8), augment="none", val_share=0.0, batch_size=4)
    trainer(callbacks=[CostMonitor()], logger=board(tmp_path, "whole"), **options).fit(Slow(clock), datamodule=whole)
    for run in ("steps", "whole"):
        tags = set(events(tmp_path / run).Tags()["scalars"])
        assert "cost/minutes_left" in tags
        assert not tags & {"cost/saved", "cost/of_full_run"}


def test_time_goes_on_where_a_checkpoint_left_it(trainer, clock, events, tmp_path):
    first = trainer(max_epochs=1, callbacks=[CostMonitor()], limit_val_batches=0)
    first.fit(Slow(clock), datamodule=Noise())
    first.save_checkpoint(tmp_path / "last.ckpt")
    clock.seconds += 5000  # nobody waits for a run that is stopped
    second = trainer(max_epochs=2, callbacks=[CostMonitor(1)], logger=board(tmp_path), limit_val_batches=0)
    second.fit(Slow(clock), datamodule=Noise(), ckpt_path=tmp_path / "last.ckpt")
    assert values(events(tmp_path / "run"), "cost/minutes_spent") == [(4, 8 / 60), (5, 10 / 60), (6, 12 / 60)]
    again = second.callbacks[0]
    trainer(max_epochs=1, callbacks=[again], limit_val_batches=0).fit(Slow(clock), datamodule=Noise())
    assert again.seconds == 6  # another fit begins anew


def test_training_is_the_same_with_and_without_it(trainer, tmp_path):
    weights = []
    for callbacks in ([], [CostMonitor(1)]):
        torch.manual_seed(0)
        module = Slow()
        trainer(max_epochs=2, callbacks=callbacks, logger=board(tmp_path)).fit(module, datamodule=Noise())
        weights.append(module.layer.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("batch", "images"),
    [
        (torch.zeros(5, 3, 8, 8), 5),
        ([[torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 8, 8)], torch.zeros(4)], 4),
        ({"name": ["a", "b"], "image": torch.zeros(2, 3, 8, 8)}, 2),
        (["a", "b"], 0),
        (None, 0),
    ],
)
def test_images_of_any_batch(batch, images):
    assert _images_in(batch) == images


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="`every_n_steps` must be at least 1"):
        CostMonitor(0)
