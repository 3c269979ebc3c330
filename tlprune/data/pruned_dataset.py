"""A subset of any Dataset with labels renumbered from 0."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from tlprune.data.adapters import all_labels, without_subsets
from tlprune.data.listing import Listing, listing_of
from tlprune.data.samples import relabelled
from tlprune.errors import InputError

__all__ = ["PrunedDataset", "check_classes", "images_of_kept_classes"]


def check_classes(classes: Sequence[str], here: Sequence[str], where: str) -> None:
    """Rejects class names other than those of a Selection.

    Args:
        classes: Class names of the Selection.
        here: Class names of a data set; empty if it has none.
        where: Name of the data set in the error message.

    Raises:
        InputError: They differ.
    """
    if here and tuple(here) != tuple(classes):
        pairs = zip(here, classes, strict=False)
        theirs, ours = next((pair for pair in pairs if pair[0] != pair[1]), (len(here), len(classes)))
        pair = f"{ours!r} where this data set has {theirs!r}"
        raise InputError(f"{where}: this selection was made for other classes: {pair}")


class PrunedDataset(Subset[Any]):
    """The kept samples of a Dataset.

    Samples are tuples or lists that begin with an image and its label, or mappings with a key such as ``label``,
    ``labels`` or ``target``. If classes are pruned, the label of a sample is the position of its class among the kept
    classes.

    Args:
        dataset: The whole Dataset.
        indices: Positions of the kept samples, in the order of the Dataset, ``[n]`` int64.
        total: Expected number of samples of the Dataset.
        classes: Names of all classes if classes are pruned; None keeps labels unchanged.
        kept_classes: Kept classes, in any order, ``[k]`` int64.
        listed: Labels and class names that the Dataset lists, if they were looked at already; None looks.

    A ``transform`` that is set on it is set on the Dataset.

    Attributes:
        classes: Names of the kept classes, by new label; empty if the Dataset has no class names.
        class_to_idx: New label of each kept class, by name.
        targets: The ``n`` labels, if the Dataset lists its labels or `listed` has them.

    Raises:
        InputError: The Dataset has another number of samples, or other classes.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: Tensor,
        total: int,
        classes: Sequence[str] | None = None,
        kept_classes: Tensor | None = None,
        listed: Listing | None = None,
    ) -> None:
        if len(dataset) != total:  # type: ignore[arg-type]
            got = f"this data set has {len(dataset):,}"  # type: ignore[arg-type]
            raise InputError(f"this selection was made for a source of {total:,} images, {got}")
        super().__init__(dataset, indices.tolist())
        listed = listing_of(dataset) if listed is None else listed
        named = listed.names
        if classes is not None:
            check_classes(classes, named, type(dataset).__name__)
        self.classes = named
        self._new_labels: Tensor | None = None
        self._ranked: tuple[Sequence[str], Tensor] | None = None
        if classes is not None and kept_classes is not None:
            self._ranked = classes, kept_classes
            kept = torch.zeros(len(classes), dtype=torch.bool).index_fill_(0, kept_classes, True)
            self._new_labels = torch.where(kept, kept.cumsum(0) - 1, -1)
            self.classes = tuple(name for name, is_kept in zip(classes, kept.tolist(), strict=True) if is_kept)
        if listed.labels is not None:
            self.targets = [self._new_label(listed.labels[index]) for index in self.indices]

    @property
    def class_to_idx(self) -> dict[str, int]:
        """New label of each kept class, by name."""
        return {name: label for label, name in enumerate(self.classes)}

    @property
    def transform(self) -> Any:
        """Transform of the Dataset; a new one is given to the Dataset, which reads the images."""
        return self._reading.transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        if not hasattr(self._reading, "transform"):
            raise InputError(f"{type(self._reading).__name__} has no `transform` to set; transform its images in it")
        self._reading.transform = transform

    @property
    def _reading(self) -> Any:
        """The Dataset below all Subsets."""
        return without_subsets(self.dataset)[0]

    def prune_validation(self, dataset: Dataset[Any]) -> Dataset[Any]:
        """Keeps of a validation set the images of the kept classes, with the labels that training images have here.

        Args:
            dataset: Images of the same classes as the whole training set, numbered alike.

        Returns:
            A :class:`PrunedDataset`; the given Dataset if no classes are pruned.

        Raises:
            InputError: It has other classes, no labels, or no image of a kept class.
        """
        if self._ranked is None:
            return dataset
        names, kept_classes = self._ranked
        pruned = images_of_kept_classes(dataset, all_labels(dataset), names, kept_classes)
        if len(pruned) == 0:
            counts = f"none of its {len(dataset):,} images has one of the {len(kept_classes):,} kept classes"  # type: ignore[arg-type]
            raise InputError(f"{type(dataset).__name__}: {counts}")
        return pruned

    def __getitem__(self, index: int) -> Any:
        """Returns a sample with its new label."""
        sample = self.dataset[self.indices[index]]
        if self._new_labels is None:
            return sample
        return relabelled(sample, self._new_label, type(self.dataset).__name__)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Returns samples with their new labels."""
        return [self[index] for index in indices]

    def _new_label(self, label: int) -> int:
        """Returns the new label of an old one."""
        if self._new_labels is None:
            return label
        new = int(self._new_labels[label]) if label < len(self._new_labels) else -1
        if new < 0:
            raise InputError(f"a sample that is kept has the label {label}, whose class is not kept")
        return new


def images_of_kept_classes(
    dataset: Dataset[Any], labels: Tensor, classes: Sequence[str], kept_classes: Tensor
) -> PrunedDataset:
    """Returns the images of kept classes of another set of the same classes, such as a validation set.

    Args:
        dataset: The other set.
        labels: Its labels, ``[N]`` int64.
        classes: Names of all classes.
        kept_classes: Kept classes, in any order, ``[k]`` int64.

    Raises:
        InputError: It has other classes.
    """
    is_kept = torch.zeros(len(classes), dtype=torch.bool).index_fill_(0, kept_classes, True)
    if len(labels) and int(labels.max()) >= len(classes):
        more = f"label {int(labels.max())} in validation images"
        raise InputError(f"this selection was made for a source of {len(classes)} classes, got {more}")
    listed = replace(listing_of(dataset), labels=tuple(labels.tolist()))
    return PrunedDataset(dataset, is_kept[labels].nonzero().squeeze(1), len(labels), classes, kept_classes, listed)
