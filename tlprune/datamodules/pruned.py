"""Anybody's DataModule, pruned: a wrapper whose training loader gives what a Selection keeps."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from tlprune.data.adapters import as_images
from tlprune.data.pruned_dataset import PrunedDataset
from tlprune.errors import InputError, OfLightning
from tlprune.pruning import prune
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection

__all__ = ["PrunedDataModule"]

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_KEPT = (
    *("batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn", "generator"),
    *("multiprocessing_context", "prefetch_factor", "persistent_workers"),
)


class PrunedDataModule(OfLightning, LightningDataModule):
    """Another DataModule, whose training loader gives only what a Selection keeps.

    Where classes are pruned, labels of training and validation images are numbered from 0 in the order of the classes
    that are kept, and validation images of other classes are left out. Test and predict loaders stay as they are.

    Args:
        datamodule: The DataModule to prune. Its training data set is the source that the Selection was made for.
        selection: The Selection, or its file.
        prune_ratio: Share of units to remove, in [0, 1).
        keep_units: Units to keep.
        keep_images: The most images to keep.
        vote_coverage: Share of votes that the kept units hold, in (0, 1].
        keep_exactly: Images to keep; the last unit is cut at random to reach it.

    Raises:
        InputError: The budget is out of range, or there is no such Selection.
    """

    def __init__(
        self,
        datamodule: LightningDataModule,
        selection: Selection | str | os.PathLike[str],
        prune_ratio: float | None = None,
        keep_units: int | None = None,
        keep_images: int | None = None,
        vote_coverage: float | None = None,
        keep_exactly: int | None = None,
    ) -> None:
        super().__init__()
        self.datamodule = datamodule
        self.selection = selection if isinstance(selection, Selection) else Selection.load(selection)
        self.selection.require_images()
        self.budget = Budget(prune_ratio, keep_units, keep_images, vote_coverage, keep_exactly)
        self._kept = self.selection.kept(self.budget)
        for hook in _HOOKS:  # Lightning asks whether a hook is overridden, and calls the module's if it is not
            setattr(self, hook, getattr(datamodule, hook))

    @property
    def num_classes(self) -> int:
        """Number of classes that labels stand for, where classes are pruned; else as the other DataModule says."""
        if self.selection.unit_kind == "class":
            return len(self._kept.units)
        return int(self.datamodule.num_classes)  # type: ignore[attr-defined]

    def prepare_data(self) -> None:
        """As the other DataModule."""
        self._lend_trainer()
        self.datamodule.prepare_data()

    def setup(self, stage: str) -> None:
        """As the other DataModule."""
        self._lend_trainer()
        self.datamodule.setup(stage)

    def teardown(self, stage: str) -> None:
        """As the other DataModule."""
        self.datamodule.teardown(stage)

    def train_dataloader(self) -> Any:
        """The other DataModule's training loader over what is kept.

        Raises:
            InputError: It is no DataLoader over a data set with a length, or over another source.
        """
        return _rebuilt(self.datamodule.train_dataloader(), self._prune)

    def val_dataloader(self) -> Any:
        """The other DataModule's validation loaders; where classes are pruned, images of the kept classes."""
        loaders = self.datamodule.val_dataloader()
        return _rebuilt(loaders, self._of_kept_classes) if self.selection.unit_kind == "class" else loaders

    def test_dataloader(self) -> Any:
        """The other DataModule's test loader."""
        return self.datamodule.test_dataloader()

    def predict_dataloader(self) -> Any:
        """The other DataModule's predict loader."""
        return self.datamodule.predict_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """The other DataModule's state."""
        return self.datamodule.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Gives a checkpoint's state to the other DataModule."""
        self.datamodule.load_state_dict(dict(state_dict))

    def _lend_trainer(self) -> None:
        self.datamodule.trainer = self.trainer

    def _prune(self, dataset: Dataset[Any]) -> PrunedDataset:
        return prune(dataset, self.selection, **vars(self.budget))

    def _of_kept_classes(self, dataset: Dataset[Any]) -> PrunedDataset:
        labels, names = as_images(dataset).labels, self.selection.unit_names
        is_kept = torch.zeros(len(names), dtype=torch.bool).index_fill_(0, self._kept.units, True)
        if len(labels) and int(labels.max()) >= len(names):
            more = f"label {int(labels.max())} in validation images"
            raise InputError(f"this selection was made for a source of {len(names)} classes, got {more}")
        return PrunedDataset(dataset, is_kept[labels].nonzero().squeeze(1), len(labels), names, self._kept.units)


def _rebuilt(loaders: Any, change: Callable[[Dataset[Any]], Dataset[Any]]) -> Any:
    """The same loaders over changed data sets.

    Args:
        loaders: A DataLoader, or lists and dictionaries of these.
        change: From a loader's data set to another one.

    Raises:
        InputError: A loader cannot be rebuilt without losing what it does.
    """
    if isinstance(loaders, (list, tuple)):
        return type(loaders)(_rebuilt(one, change) for one in loaders)
    if isinstance(loaders, dict):
        return {name: _rebuilt(one, change) for name, one in loaders.items()}
    if type(loaders) is not DataLoader:
        raise InputError(f"a loader must be a torch DataLoader to be pruned, got {type(loaders).__name__}")
    if isinstance(loaders.dataset, IterableDataset):
        raise InputError("a loader's data set must have samples by index to be pruned, got an IterableDataset")
    if (
        type(loaders.sampler) not in (RandomSampler, SequentialSampler)
        or type(loaders.batch_sampler) is not BatchSampler
    ):
        got = f"{type(loaders.sampler).__name__} and {type(loaders.batch_sampler).__name__}"
        raise InputError(f"a loader must have no sampler of its own to be pruned, got {got}; use tlprune.prune()")
    kept = {name: getattr(loaders, name) for name in _KEPT}
    shuffle = type(loaders.sampler) is RandomSampler
    return DataLoader(change(loaders.dataset), shuffle=shuffle, **kept)
