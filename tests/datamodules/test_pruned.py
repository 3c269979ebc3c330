"""Anybody's DataModule, pruned."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from tlprune import InputError, LitClassifier, PrunedDataModule, RandomSelector, select


class Somebodys(LightningDataModule):
    """A DataModule that knows nothing of us."""

    num_classes = 5

    def __init__(self, images, val, **loading):
        super().__init__()
        self.images, self.val, self.loading = images, val, loading
        self.calls = []

    def setup(self, stage):
        self.calls.append(stage)

    def train_dataloader(self):
        return DataLoader(self.images, 4, shuffle=True, **self.loading)

    def val_dataloader(self):
        return DataLoader(self.val, 3)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.calls.append("moved")
        return batch[0].float().div(255), batch[1]


@pytest.fixture
def images(coloured):
    return coloured(5, 6)


@pytest.fixture
def selection(images):
    return select(images, selector=RandomSelector(seed=3))


def test_training_and_validation_see_the_kept_classes_alone(images, coloured, selection):
    val = coloured(5, 2, seed=9)
    data = PrunedDataModule(Somebodys(images, val), selection, keep_units=2)
    data.setup("fit")
    kept = sorted(selection.ranking[:2].tolist())
    assert data.num_classes == 2
    seen = [(image, label) for batch in data.train_dataloader() for image, label in zip(*batch, strict=True)]
    assert len(seen) == 12
    expected = {images[index][0].numpy().tobytes(): kept.index(int(images.labels[index])) for index in range(30)
                if int(images.labels[index]) in kept}  # fmt: skip
    assert {image.numpy().tobytes(): int(label) for image, label in seen} == expected
    labels = [label for _, batch in data.val_dataloader() for label in batch.tolist()]
    assert labels == [0, 0, 1, 1]


def test_a_module_trains_on_it_and_the_hooks_of_the_other_run(images, coloured, selection, trainer):
    other = Somebodys(images, coloured(5, 2, seed=9))
    data = PrunedDataModule(other, selection, prune_ratio=0.6)
    fit = trainer(limit_train_batches=2)
    fit.fit(LitClassifier("resnet8_w8", data.num_classes), datamodule=data)
    assert fit.global_step == 2
    assert "moved" in other.calls
    assert "fit" in other.calls


def test_a_modules_own_hook_runs_where_the_other_has_none(images, selection, trainer, coloured):
    class Plain(Somebodys):
        on_after_batch_transfer = LightningDataModule.on_after_batch_transfer

    class Halving(LitClassifier):
        seen = 0.0

        def on_after_batch_transfer(self, batch, dataloader_idx):
            self.seen = float(batch[0].float().max())
            return batch[0].float().div(510), batch[1]

    module = Halving("resnet8_w8", 2)
    data = PrunedDataModule(Plain(images, coloured(5, 2)), selection, keep_units=2)
    with pytest.warns(UserWarning, match="It will use the implementation from `LightningModule`"):  # Lightning's own
        trainer(limit_train_batches=1, limit_val_batches=0).fit(module, datamodule=data)
    assert module.seen > 1


@pytest.mark.parametrize("kind", ["sampler", "iterable", "subclass"])
def test_loaders_that_cannot_be_pruned_are_refused_by_name(kind, images, selection):
    class Odd(Somebodys):
        def train_dataloader(self):
            if kind == "sampler":
                return DataLoader(self.images, 4, sampler=list(range(30)))
            if kind == "iterable":
                return iter([self.images])
            return type("MyLoader", (DataLoader,), {})(self.images)

    data = PrunedDataModule(Odd(images, images), selection, keep_units=2)
    with pytest.raises(InputError, match="to be pruned, got (list;|list_iterator|MyLoader)"):
        data.train_dataloader()


def test_another_source_is_refused(images, selection):
    other = Somebodys(TensorDataset(torch.zeros(7, 3, 8, 8), torch.zeros(7).long()), images)
    with pytest.raises(InputError, match="made for a source of 30 images, this data set has 7"):
        PrunedDataModule(other, selection, keep_units=2).train_dataloader()


class Named(TensorDataset):
    """Images with labels that are read sample by sample, and class names."""

    def __init__(self, images, classes):
        super().__init__(images.pixels, images.labels)
        self.classes = classes


class WithTestSet(Somebodys):
    """A DataModule with class names and a test set."""

    def __init__(self, images, val, test):
        super().__init__(images, val)
        self.test, self.classes = test, images.classes

    def test_dataloader(self):
        return {"test": DataLoader(self.test, 4)}


def test_class_names_are_those_of_the_kept_classes(images, selection):
    data = PrunedDataModule(WithTestSet(images, images, images), selection, keep_units=2)
    kept = sorted(selection.ranking[:2].tolist())
    assert data.classes == tuple(images.classes[unit] for unit in kept) == data.train_dataloader().dataset.classes
    assert PrunedDataModule(WithTestSet(images, images, images), selection, keep_units=5).classes == tuple(
        images.classes
    )
    with pytest.raises(AttributeError, match="classes"):
        single = select(images, selector=RandomSelector(unit="sample"))
        _ = PrunedDataModule(Somebodys(images, images), single, prune_ratio=0.5).classes


def test_a_test_set_of_the_source_is_warned_of(images, coloured, selection, recwarn):
    test = Named(coloured(5, 2, seed=3), images.classes)
    data = PrunedDataModule(WithTestSet(images, images, test), selection, keep_units=2)
    with pytest.warns(UserWarning, match="test labels count 5 classes of the source, .* the 2 kept ones"):
        assert data.test_dataloader()["test"].dataset is test
    first = Named(coloured(2, 2), images.classes[:2])
    last = replace(selection, ranking=torch.tensor([4, 3, 2, 1, 0]))
    with pytest.warns(UserWarning, match="test labels count 2 classes of the source"):
        PrunedDataModule(WithTestSet(images, images, first), last, keep_units=2).test_dataloader()
    right = data.train_dataloader().dataset.prune_validation(test)
    assert right.targets == [0, 0, 1, 1]
    assert [int(label) for _, label in right] == right.targets


def test_other_test_sets_are_not_warned_of(images, coloured, selection, recwarn):
    target = Named(coloured(2, 2), ["cat", "dog"])
    for test, kept in ((target, 2), (TensorDataset(torch.zeros(2, 3, 8, 8), torch.zeros(2)), 2), (images, 5)):
        PrunedDataModule(WithTestSet(images, images, test), selection, keep_units=kept).test_dataloader()
    single = select(images, selector=RandomSelector(unit="sample"))
    PrunedDataModule(WithTestSet(images, images, images), single, prune_ratio=0.5).test_dataloader()
    assert not [one for one in recwarn if "test labels" in str(one.message)]
