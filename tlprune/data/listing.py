"""Finds labels, class names and files that a Dataset lists, and checks them on a few samples."""

import os
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from tlprune.data.concatenated import concatenated, same_classes
from tlprune.data.datasets import FolderImages, ImageSet, TensorImages
from tlprune.data.decoding import EXTENSIONS
from tlprune.data.huggingface import images_of_rows, is_rows
from tlprune.data.plain_samples import random_state_kept, read_sample, spread, without_transforms
from tlprune.data.samples import label_of
from tlprune.data.torchvision_sets import classes_of, images_in_memory, images_of_files, labels_of, numbers_as_names
from tlprune.errors import InputError

__all__ = ["CHECKED", "Listing", "listing_of"]

CHECKED = 16
"""Number of samples that are read to check what a Dataset lists."""


@dataclass(frozen=True)
class Listing:
    """What a Dataset lists.

    Args:
        labels: Label of each sample; None if it lists none, or others than its samples have.
        classes: Class names; empty if it has none.
        images: Its images as files, arrays or rows of a table, with these labels; None if it is none of these.
    """

    labels: tuple[int, ...] | None
    classes: tuple[str, ...] = ()
    images: ImageSet | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Class names, unless they are numbers that stand in for names."""
        return () if self.classes == tuple(map(str, range(len(self.classes)))) else self.classes

    @classmethod
    def of(cls, images: ImageSet) -> "Listing":
        """Returns the listing of a set."""
        return cls(tuple(images.labels.tolist()), images.classes, images)


def listing_of(dataset: Any) -> Listing:
    """Returns what a Dataset lists.

    Wrappers are looked through: ``Subset``, ``ConcatDataset``, ``LightlyDataset``, timm's ``ImageDataset``, and for
    labels any that keeps the wrapped Dataset as ``dataset``. Up to :data:`CHECKED` samples are read where a class may
    list other labels than its samples have; a list that differs from them is not used.

    Raises:
        InputError: Parts of a ``ConcatDataset`` name classes differently, or a column of a table has no labels.
    """
    if isinstance(dataset, ImageSet):
        return Listing.of(dataset)
    if type(dataset) is Subset:
        return _subset(listing_of(dataset.dataset), dataset.indices)
    if type(dataset) is ConcatDataset:
        return _concatenated([listing_of(part) for part in dataset.datasets])
    total, samples = len(dataset), _Checked(dataset)
    differs = False
    for found in _candidates(dataset):
        if found.labels is not None and len(found.labels) == total:
            if not found.classes and found.images is not None:
                return found  # it has no labels
            if _is_as_torchvision_lists(dataset, found.labels) or samples.have(found.labels):
                return found
            differs = True
    return Listing(None, () if differs else _own_names(dataset))


def _candidates(dataset: Any) -> Iterator[Listing]:
    """Yields what the Dataset may list, most telling first."""
    change = getattr(dataset, "target_transform", None)
    for found in _untransformed(dataset):
        if callable(change) and found.labels is not None:
            yield from _changed(found, change)
        yield found


def _untransformed(dataset: Any) -> Iterator[Listing]:
    if is_rows(dataset):
        yield Listing.of(images_of_rows(dataset))
        return
    package = type(dataset).__module__.partition(".")[0]
    inner = getattr(dataset, "dataset", None)
    reader = getattr(dataset, "reader", None)
    if package == "timm" and reader is not None and (images := images_of_files(_ReaderOfTimm(reader))) is not None:
        yield Listing.of(images)
    held: ImageSet | None = images_of_files(dataset) or images_in_memory(dataset)
    if held is not None:
        found = Listing.of(held)
        yield found if _is_decoded_here(held) else replace(found, images=None)
    if type(dataset) is TensorDataset and len(dataset.tensors) > 1:
        second = dataset.tensors[1]
        if second.ndim == 1 and not second.is_floating_point():
            yield Listing(tuple(second.tolist()), _own_names(dataset))
    if labels := labels_of(dataset):
        yield Listing(tuple(labels), _own_names(dataset))
    if inner is not None and hasattr(inner, "__len__") and hasattr(inner, "__getitem__"):
        found = listing_of(inner)
        through = package == "lightly" and type(dataset).__name__ == "LightlyDataset"
        yield found if through else replace(found, images=None, classes=_own_names(dataset) or found.classes)


def _is_decoded_here(images: ImageSet) -> bool:
    """Returns whether files are images by their names; a Dataset may read others, such as arrays, by itself."""
    return not isinstance(images, FolderImages) or all(
        os.path.splitext(path)[1].lower() in EXTENSIONS for path in images.paths
    )


class _ReaderOfTimm:
    """The files of a reader of timm as torchvision lists them."""

    def __init__(self, reader: Any) -> None:
        self.samples = getattr(reader, "samples", None)
        self.class_to_idx = getattr(reader, "class_to_idx", None) or {}
        self.classes = list(self.class_to_idx)


def _changed(found: Listing, change: Callable[[int], Any]) -> Iterator[Listing]:
    """Yields a listing whose labels went through a ``target_transform``, if whole numbers come out of it."""
    present = sorted(set(found.labels or ()))
    everything = list(range(len(found.classes)))
    places = (everything and _new_places(everything, change)) or _new_places(present, change)
    if not set(present) <= places.keys():
        return
    labels = tuple(places[label] for label in found.labels or ())
    classes = _renamed(found.classes, places)
    images = found.images
    if isinstance(images, FolderImages | TensorImages) and len(labels):
        images = copy(images)
        images.__dict__.pop("_path_fingerprint", None)
        images.labels = torch.tensor(labels)
        images.classes = classes or tuple(numbers_as_names(max(labels), "target_transform"))
    else:
        images = None
    yield Listing(labels, classes, images)


def _new_places(labels: Sequence[int], change: Callable[[int], Any]) -> dict[int, int]:
    """Returns the new label of each label; none if one is not a whole number of at least 0."""
    try:
        new = {label: label_of((None, change(label)), "") for label in labels}
    except Exception:  # code of others may raise anything on what it is not made for
        return {}
    return {} if None in new.values() else {old: int(label) for old, label in new.items() if label is not None}


def _renamed(classes: Sequence[str], places: dict[int, int]) -> tuple[str, ...]:
    """Returns names by new label; none if two classes become one, or a number stays without a name."""
    if len(classes) <= max(places, default=0) or sorted(places.values()) != list(range(len(places))):
        return ()
    return tuple(classes[old] for old in sorted(places, key=places.__getitem__))


def _subset(whole: Listing, indices: Sequence[int]) -> Listing:
    if whole.labels is None:
        return whole
    picked = torch.as_tensor(indices, dtype=torch.int64).reshape(-1)
    labels = tuple(torch.tensor(whole.labels, dtype=torch.int64)[picked].tolist())
    return Listing(labels, whole.classes, None if whole.images is None else whole.images.subset(picked))


def _concatenated(parts: Sequence[Listing]) -> Listing:
    classes = same_classes([part.classes for part in parts])
    if any(part.labels is None for part in parts):
        return Listing(None, classes)
    labels = tuple(label for part in parts for label in part.labels or ())
    return Listing(labels, classes, concatenated([part.images for part in parts], classes))


def _own_names(dataset: Any) -> tuple[str, ...]:
    """Class names of the Dataset itself."""
    names = classes_of(dataset, [0])
    return () if names == ["0"] else tuple(names)


def _is_as_torchvision_lists(dataset: Any, labels: tuple[int, ...]) -> bool:
    """Returns whether a class of torchvision lists these labels itself, and gives them with its samples."""
    if not type(dataset).__module__.startswith("torchvision.datasets."):
        return False
    return getattr(dataset, "target_transform", None) is None and tuple(labels_of(dataset)) in ((), labels)


class _Checked:
    """Labels of a few samples, read when they are first asked for."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._labels: dict[int, int | None] | None = None

    def have(self, listed: Sequence[int]) -> bool:
        """Returns whether no sample has another label than the list; one that cannot be read has none."""
        if is_rows(self.dataset) and self.dataset.format["type"] is None:
            return True
        if self._labels is None:
            with random_state_kept():
                self._labels = self._read()
        return all(label is None or label == listed[index] for index, label in self._labels.items())

    def _read(self) -> dict[int, int | None]:
        places = spread(len(self.dataset), CHECKED)
        plain = without_transforms(self.dataset, places)
        labels: dict[int, int | None] = {}
        for index in places:
            try:
                sample = read_sample(plain, index)
            except InputError:  # damaged, which is said where images are read
                continue
            try:
                labels[index] = label_of(sample, "")
            except InputError:
                labels[index] = -1
        return labels
