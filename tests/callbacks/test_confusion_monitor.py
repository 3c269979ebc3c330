import re
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from forked import run_ranks
from tlprune import ConfusionMonitor, DownstreamDataModule, TransferModule
from tlprune.callbacks.confusion_figure import confused_pairs, confusion_figure
from tlprune.errors import InputError


class Dice(LightningModule):
    """Somebody else's module, which draws random numbers whenever it is run and returns nothing."""

    def __init__(self, classes=3):
        super().__init__()
        self.layer = nn.Linear(classes, classes)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(classes))
            self.layer.bias.zero_()

    def forward(self, images):
        return self.layer(images + 1e-3 * torch.rand_like(images))

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean() * 1e-3

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self(batch[0])

    def test_step(self, batch, batch_idx):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Returning(Dice):
    """The same, but its step returns logits of its own, beside the loss."""

    def validation_step(self, batch, batch_idx):
        return {"loss": 0.0, "logits": -batch[0]}


class Told(LightningDataModule):
    """Somebody else's data: images that are logits, of 40 in the first three of so many classes."""

    classes = ("cat", "dog", "cow | ox")

    def __init__(self, classes=3, loaders=1):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(40, classes, generator=generator)
        self.labels = torch.randint(0, 3, (40,), generator=generator)
        self.loaders = loaders

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.images, self.labels), batch_size=16)

    def val_dataloader(self):
        return [self.train_dataloader() for _ in range(self.loaders)]

    test_dataloader = train_dataloader

    def wrong(self, sign=1):
        """How many images of each class are taken for which other, counted one by one."""
        found = {}
        for image, label in zip(self.images.tolist(), self.labels.tolist(), strict=True):
            taken = max(range(len(image)), key=lambda one: sign * image[one])
            if taken != label:
                found[label, taken] = found.get((label, taken), 0) + 1
        return found


def board(folder, version="run"):
    return TensorBoardLogger(folder, name="", version=version)


def pairs(found, tag="val/confused_pairs"):
    """What the table in the tab Text says, by class numbers."""
    text = found.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()
    names = {"cat": 0, "dog": 1, r"cow \| ox": 2}
    rows = re.findall(r"^\| (.+) \| (.+) \| (\d+) \| \d+ \| [\d.]+ \|$", text, re.MULTILINE)
    return {(names[true], names[taken]): int(count) for true, taken, count in rows}


def test_in_somebody_elses_trainer(trainer, events, tmp_path):
    data = Told()
    fit = trainer(max_epochs=3, callbacks=[ConfusionMonitor(every_n_epochs=2)], logger=board(tmp_path))
    fit.fit(Dice(), datamodule=data)
    found = events(tmp_path / "run")
    assert [picture.step for picture in found.Images("val/confusion")] == [6, 9]  # the second epoch and the last
    assert found.Images("val/confusion")[0].width > 300
    assert pairs(found) == data.wrong()
    trainer(callbacks=[ConfusionMonitor()], logger=board(tmp_path, "test")).test(Dice(), datamodule=data, verbose=False)
    assert pairs(events(tmp_path / "test"), "test/confused_pairs") == data.wrong()


def test_what_a_step_returns_is_taken_before_the_module_is_asked(trainer, events, tmp_path):
    data = Told()
    trainer(callbacks=[ConfusionMonitor()], logger=board(tmp_path)).validate(
        Returning(), datamodule=data, verbose=False
    )
    assert pairs(events(tmp_path / "run")) == data.wrong(sign=-1)


def test_ours_is_judged_by_the_logits_that_its_accuracy_is_of(trainer, events, target, surrogate_file, tmp_path):
    module = TransferModule(weights=str(surrogate_file(4)), flip_average=True)
    fit = trainer(max_epochs=2, callbacks=[ConfusionMonitor()], logger=board(tmp_path))
    data = DownstreamDataModule(target, batch_size=8)
    fit.fit(module, datamodule=data)
    [tensor] = events(tmp_path / "run").Tensors("val/confused_pairs/text_summary")
    wrong = sum(int(count) for count in re.findall(r"\| (\d+) \| 5 \|", tensor.tensor_proto.string_val[0].decode()))
    assert 1 - wrong / 20 == pytest.approx(float(fit.callback_metrics["val/accuracy"]))


def test_each_of_several_loaders(trainer, events, tmp_path):
    fit = trainer(callbacks=[ConfusionMonitor()], logger=board(tmp_path))
    fit.validate(Dice(), datamodule=Told(loaders=2), verbose=False)
    tags = {f"val/confusion/dataloader_idx_{place}" for place in (0, 1)}
    assert set(events(tmp_path / "run").Tags()["images"]) == tags


def test_training_is_the_same_with_and_without_it(trainer, tmp_path):
    weights = []
    for callbacks in ([], [ConfusionMonitor(1)]):
        torch.manual_seed(0)
        module = Dice()
        trainer(max_epochs=3, callbacks=callbacks, logger=board(tmp_path)).fit(module, datamodule=Told())
        weights.append(module.layer.weight.detach().clone())
    assert torch.equal(*weights)


def test_ranks_count_together(events, tmp_path):
    texts = []
    for world in (1, 2):
        script = Path(__file__).with_name("confuse_on_ranks.py")
        run_ranks(world, [sys.executable, script, world, tmp_path], tmp_path)
        [tensor] = events(tmp_path / f"ranks{world}").Tensors("val/confused_pairs/text_summary")
        texts.append(tensor.tensor_proto.string_val[0].decode())
    assert texts[0] == texts[1]
    assert [(tmp_path / f"loggers{rank}of2").read_text() for rank in (0, 1)] == ["1", "0"]  # rank 0 alone writes
    assert texts[0].count("\n") > 10


def test_forty_classes_have_numbers_in_their_cells_and_more_have_not():
    for classes, numbered in ((40, True), (41, False)):
        axes = confusion_figure(torch.eye(classes, dtype=torch.int64), [f"${n}" for n in range(classes)], "x").axes[0]
        assert [text.get_text() for text in axes.texts] == ["100"] * (classes if numbered else 0)


def test_pairs_are_ordered_by_share_and_twenty_at_most():
    counts = torch.ones(6, 6, dtype=torch.int64)
    counts[2, 5] = 3
    pairs = confused_pairs(counts, list("abcdef"))
    assert pairs[0] == ["c", "f", 3, 8, 37.5]
    assert len(pairs) == 20
    assert confused_pairs(torch.eye(2, dtype=torch.int64), ["a", "b"]) == []


class Odd(Dice):
    def forward(self, images):
        return images.sum(1)


def test_what_it_cannot_count_is_refused(trainer, tmp_path):
    watch = trainer(callbacks=[ConfusionMonitor()], logger=CSVLogger(tmp_path))
    with pytest.raises(InputError, match=r"needs logits \[B, C\]: return them from the steps of Odd"):
        watch.validate(Odd(), datamodule=Told(), verbose=False)
    with pytest.raises(InputError, match="needs batches that begin with images and labels"):
        watch.validate(Dice(), DataLoader(torch.zeros(4, 3)), verbose=False)
    with pytest.raises(InputError, match="`every_n_epochs` must be at least 1"):
        ConfusionMonitor(0)
