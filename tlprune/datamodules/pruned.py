"""Anybody's DataModule, pruned: a wrapper whose training loader gives what a Selection keeps."""

import os
from collections.abc import Mapping
from copy import copy
from typing import Any
from warnings import warn

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import Dataset

from tlprune.data.adapters import all_labels
from tlprune.data.listing import listing_of
from tlprune.data.plain_samples import random_state_kept
from tlprune.data.pruned_dataset import PrunedDataset, images_of_kept_classes
from tlprune.datamodules.prepared import ChecksInputs, DependsOn
from tlprune.datamodules.rebuilt_loaders import rebuilt
from tlprune.errors import InputError, OfLightning
from tlprune.pruning import require_dataset
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection

__all__ = ["PrunedDataModule"]

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer", "on_exception")
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
_FIXED = ("selection", "budget", "prune_ratio", "keep_units", "keep_images", "vote_coverage", "keep_exactly")
"""Attributes that would change nothing once they are set."""
_OF_THE_OTHER = ("prepare_data_per_node", "allow_zero_length_dataloader_with_multiple_devices")
"""Attributes that Lightning sets on every DataModule."""


class PrunedDataModule(OfLightning, LightningDataModule):
    """Another DataModule, whose training loader gives only what a Selection keeps.

    Where classes are pruned, labels of training and validation images are numbered from 0 in the order of the classes
    that are kept, and validation images of other classes are left out. Test and predict loaders stay as they are, and
    so do hooks, hyperparameters and all other attributes, which are those of the other DataModule.

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
        if not isinstance(datamodule, LightningDataModule):
            got = f"{type(datamodule).__module__}.{type(datamodule).__name__}"
            instead = "prune its data set with tlprune.prune() in place of it"
            raise InputError(f"`datamodule` must be a LightningDataModule of lightning.pytorch, got {got}; {instead}")
        _restore_hparams(datamodule)
        self.selection = selection if isinstance(selection, Selection) else Selection.load(selection)
        self.selection.require_images()
        self.budget = Budget(prune_ratio, keep_units, keep_images, vote_coverage, keep_exactly)
        self._kept = self.selection.kept(self.budget)
        self._pruned: dict[int, PrunedDataset] = {}
        self._val_labels: dict[int, tuple[Dataset[Any], Tensor]] = {}
        for name in _OF_THE_OTHER:
            self.__dict__.pop(name, None)
        for hook in _HOOKS:  # Lightning asks whether a hook is overridden, and calls the module's if it is not
            setattr(self, hook, getattr(datamodule, hook))
        for name in _LOADERS:  # likewise: without a validation loader it does not validate
            if not _overrides(datamodule, name):
                setattr(self, name, getattr(datamodule, name))
        self.datamodule = datamodule

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the other DataModule that this one has not."""
        if name == "datamodule" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.datamodule, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute, on the other DataModule where that has it and this one has not."""
        other = self.__dict__.get("datamodule")
        if other is None:
            super().__setattr__(name, value)
            return
        if name in _FIXED and not hasattr(other, name):
            raise InputError(f"`{name}` of a {type(self).__name__} is fixed: make another one")
        is_own = name in self.__dict__ or hasattr(type(self), name)
        if name == "trainer" or (not is_own and hasattr(other, name)):
            setattr(other, name, value)
        if is_own or not hasattr(other, name):
            super().__setattr__(name, value)

    @property
    def num_classes(self) -> int:
        """Number of classes that labels stand for, where classes are pruned; else as the other DataModule says."""
        if self.selection.unit_kind == "class":
            return len(self._kept.units)
        return int(self.datamodule.num_classes)  # type: ignore[attr-defined]

    @property
    def classes(self) -> Any:
        """Names of the kept classes by label, where classes are pruned; else as the other DataModule says."""
        if self.selection.unit_kind == "class":
            return tuple(self.selection.unit_names[unit] for unit in self._kept.units.sort().values.tolist())
        return self.datamodule.classes  # type: ignore[attr-defined]

    @property
    def units_kept(self) -> int:
        """Number of units kept."""
        return len(self._kept.units)

    @property
    def images_kept(self) -> int:
        """Number of training images kept."""
        return len(self._kept.samples)

    @property
    def images_before_pruning(self) -> int:
        """Training images of the whole source."""
        return len(self.selection.unit_of_sample)

    @property
    def hparams(self) -> Any:
        """Hyperparameters of the other DataModule."""
        return self.datamodule.hparams

    @property
    def hparams_initial(self) -> Any:
        """Hyperparameters of the other DataModule as they were saved."""
        return self.datamodule.hparams_initial

    def check_inputs(self) -> None:
        """Compares the training data set with the Selection, where it can be opened already; nothing is written.

        Raises:
            InputError: A loader cannot be pruned, or is over another source.
        """
        if isinstance(self.datamodule, ChecksInputs):
            self.datamodule.check_inputs()
        with random_state_kept():
            try:
                trial = copy(self.datamodule)
                trial.setup("fit")
                loaders = trial.train_dataloader()
            except InputError:
                raise
            except Exception:  # its data may have to be prepared first, by code of others that may raise anything
                return
            rebuilt(loaders, self._prune)

    def depends_on(self) -> list[Any]:
        """JSON values that change when the Selection does, or the images of the other DataModule where it says so."""
        of_other = self.datamodule.depends_on() if isinstance(self.datamodule, DependsOn) else []
        return [self.selection.digest, *of_other]

    def prepare_data(self) -> None:
        """As the other DataModule."""
        self.datamodule.prepare_data()

    def setup(self, stage: str) -> None:
        """As the other DataModule."""
        self.datamodule.setup(stage)

    def teardown(self, stage: str) -> None:
        """As the other DataModule."""
        self.datamodule.teardown(stage)

    def train_dataloader(self) -> Any:
        """The other DataModule's training loaders over what is kept.

        Raises:
            InputError: A loader cannot be rebuilt without losing what it does, or is over another source.
        """
        return rebuilt(self.datamodule.train_dataloader(), self._prune)

    def val_dataloader(self) -> Any:
        """The other DataModule's validation loaders; where classes are pruned, images of the kept classes."""
        loaders = self.datamodule.val_dataloader()
        return rebuilt(loaders, self._of_kept_classes) if self.selection.unit_kind == "class" else loaders

    def test_dataloader(self) -> Any:
        """The other DataModule's test loader. A warning says so where its images have the classes of the source."""
        loaders = self.datamodule.test_dataloader()
        if self.selection.unit_kind == "class" and self.num_classes < self.selection.num_units:
            self._warn_of_labels(loaders)
        return loaders

    def predict_dataloader(self) -> Any:
        """The other DataModule's predict loader."""
        return self.datamodule.predict_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """The other DataModule's state."""
        return self.datamodule.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Gives a checkpoint's state to the other DataModule."""
        self.datamodule.load_state_dict(dict(state_dict))

    def _prune(self, dataset: Dataset[Any]) -> PrunedDataset:
        """Returns what is kept of the training data set; the same object for the same data set in each epoch."""
        if (known := self._known(dataset)) is not None:
            return known
        listed = require_dataset(self.selection, dataset, "the training data set")
        names = self.selection.unit_names if self.selection.unit_kind == "class" else None
        total = len(self.selection.unit_of_sample)
        pruned = PrunedDataset(dataset, self._kept.samples, total, names, self._kept.units, listed)
        self._pruned[id(dataset)] = pruned
        return pruned

    def _of_kept_classes(self, dataset: Dataset[Any]) -> PrunedDataset:
        """Returns the images of kept classes of a validation data set."""
        return images_of_kept_classes(dataset, self._labels(dataset), self.selection.unit_names, self._kept.units)

    def _warn_of_labels(self, loaders: Any) -> None:
        """Warns where test images have classes of the source, whose numbers are not those of training labels."""
        datasets = [getattr(one, "dataset", None) for one in CombinedLoader(loaders, "sequential").flattened]
        listing = [one for one in datasets if hasattr(one, "__getitem__") and hasattr(one, "__len__")]
        with random_state_kept():
            named = [listing_of(one).names for one in listing]
        of_source = [names for names in named if names and set(names) <= set(self.selection.unit_names)]
        if odd := [names for names in of_source if names != self.classes]:
            labels = f"test labels count {len(odd[0])} classes of the source"
            kept = f"training labels the {self.num_classes} kept ones, so one number names two classes"
            way = "test on tlprune.prune(...).prune_validation(your_test_set)"
            warn(f"{type(self.datamodule).__name__}: {labels}, {kept}; {way}", stacklevel=2)

    def _known(self, dataset: Dataset[Any]) -> PrunedDataset | None:
        known = self._pruned.get(id(dataset))
        return known if known is not None and known.dataset is dataset else None

    def _labels(self, dataset: Dataset[Any]) -> Tensor:
        known = self._val_labels.get(id(dataset))
        labels = known[1] if known is not None and known[0] is dataset else all_labels(dataset)
        self._val_labels[id(dataset)] = dataset, labels
        return labels


def _restore_hparams(datamodule: LightningDataModule) -> None:
    """Gives a DataModule that was built inside this one from yaml its own hyperparameters.

    LightningCLI gives ``save_hyperparameters()`` those of the outer DataModule.
    """
    given = datamodule.hparams
    nested = given.get("datamodule") if isinstance(given, Mapping) and "_class_path" in given else None
    if isinstance(nested, Mapping) and "class_path" in nested:
        own = {**nested.get("init_args", {}), **nested.get("dict_kwargs", {})}
        datamodule.save_hyperparameters(own, ignore=[name for name in given if name not in own])


def _overrides(datamodule: LightningDataModule, name: str) -> bool:
    """Returns whether a DataModule, or its class, has a method of its own."""
    return name in vars(datamodule) or getattr(type(datamodule), name) is not getattr(LightningDataModule, name)
