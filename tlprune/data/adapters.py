"""Adapts torch Datasets of images and labels to :class:`~tlprune.ImageSet`."""

import os
from collections.abc import Mapping
from copy import copy
from functools import cached_property
from hashlib import sha256
from os import PathLike
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from tlprune.data.datasets import ImageSet, Level
from tlprune.data.listing import CHECKED, Listing, listing_of
from tlprune.data.plain_samples import random_state_kept, read_sample, spread, without_transforms
from tlprune.data.reading import ReadSample, SampleReader, own_fingerprint
from tlprune.data.samples import label_of
from tlprune.data.torchvision_sets import numbers_as_names
from tlprune.distributed import gather_from_ranks, raise_on_all_ranks, rank_and_world
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_json

__all__ = ["DatasetImages", "all_labels", "as_images", "check_by_index", "labels_of_some", "without_subsets"]


def as_images(dataset: ImageSet | Dataset[Any], num_workers: int = 0) -> ImageSet:
    """Converts a Dataset to an ImageSet with the same samples in the same order.

    Transforms of the Dataset are ignored, but for a ``target_transform``: labels are those that samples have. A Dataset
    of image files is listed like a folder, so a Selection made for one fits the other. A Dataset that lists no labels
    is read once, with a progress bar.

    Args:
        dataset: An :class:`~tlprune.ImageSet`; a data set of torchvision, timm, lightly or Hugging Face; a ``Subset``
            or ``ConcatDataset``; or any Dataset with a length whose samples are ``(image, label, ...)`` or mappings.
        num_workers: Processes that read samples.

    Raises:
        InputError: The Dataset has no length, no samples by index, or images or labels that cannot be used.
    """
    if isinstance(dataset, ImageSet):
        return dataset
    check_by_index(dataset)
    listed = listing_of(dataset)
    if listed.images is not None:
        return listed.images
    whole, indices = without_subsets(dataset)
    return DatasetImages(whole, indices, listed=listed, num_workers=num_workers)


def check_by_index(dataset: Any) -> None:
    """Rejects what has no samples by index.

    Raises:
        InputError: It is iterable only, holds several splits, or is empty.
    """
    name = type(dataset).__name__
    if isinstance(dataset, str | bytes | PathLike):
        raise InputError(f"a torch Dataset is needed, got the {name} {os.fsdecode(dataset)!r}")
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(repr, list(dataset)[:5]))
        raise InputError(f"{name} holds several data sets ({splits}); give one of them")
    by_index = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, IterableDataset) or not by_index:
        raise InputError(f"{name} has no length or no samples by index, so it cannot be ordered; {_instead(dataset)}")
    if len(dataset) == 0:
        raise InputError(f"{name} is empty: it has 0 samples")


def _instead(dataset: Any) -> str:
    """What to give in place of something that has no samples by index."""
    if hasattr(dataset, "train_dataloader"):
        return "give the data set of its training loader, or to prune it wrap it as tlprune.PrunedDataModule"
    if isinstance(dataset, DataLoader):
        return "give its `dataset`"
    return "give a Dataset with __len__ and __getitem__, or the name or path of one"


def all_labels(dataset: Any) -> Tensor:
    """Returns the label of every sample, ``[N]`` int64: those that the Dataset lists, or else by reading it once.

    Raises:
        InputError: It has no samples by index, or no labels.
    """
    check_by_index(dataset)
    listed = listing_of(dataset)
    if listed.labels is not None and listed.classes and min(listed.labels) >= 0:
        return torch.tensor(listed.labels, dtype=torch.int64)
    images = as_images(dataset)
    if not images.classes:
        raise InputError(f"{type(dataset).__name__} has no labels, so its images of some classes cannot be found")
    return images.labels


def labels_of_some(dataset: Any) -> dict[int, int | None]:
    """Reads labels of a few samples of a Dataset, first and last among them, by their positions.

    Raises:
        InputError: A sample cannot be read, or its label is not a whole number.
    """
    places = spread(len(dataset), CHECKED)
    with random_state_kept():
        plain = without_transforms(dataset, places)
        name = type(dataset).__name__
        return {index: label_of(read_sample(plain, index), f"{name}[{index}]") for index in places}


def without_subsets(dataset: Any) -> tuple[Any, Tensor | None]:
    """Returns the Dataset below all Subsets, and the samples of it that are used, ``[N]`` int64; None for all."""
    if type(dataset) is not Subset:
        return dataset, None
    picked = torch.as_tensor(dataset.indices, dtype=torch.int64).reshape(-1)
    whole, indices = without_subsets(dataset.dataset)
    return whole, picked if indices is None else indices[picked]


class DatasetImages(ImageSet):
    """The samples of a Dataset as an ImageSet.

    Args:
        dataset: Dataset whose samples are ``(image, label, ...)``, mappings, or images without labels.
        indices: Positions of the samples to use, in order, ``[N]`` int64; None for all.
        listed: Labels and class names of the samples to use; None for those that the Dataset lists.
        num_workers: Processes that read samples.

    Raises:
        InputError: Images or labels cannot be used, or only some samples have a label.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: Tensor | None = None,
        listed: Listing | None = None,
        num_workers: int = 0,
    ) -> None:
        self.dataset = dataset
        total = len(dataset)  # type: ignore[arg-type]
        self.indices = torch.arange(total) if indices is None else indices
        self.num_workers = num_workers
        self.reader = SampleReader(dataset, self.indices)
        self._own = own_fingerprint(dataset)
        self._digests: dict[int, str] = {}
        if listed is None:
            listed = listing_of(dataset if indices is None else Subset(dataset, indices.tolist()))
        labels = listed.labels if listed.labels is not None else self._read_labels()
        if labels and max(labels) < 0:
            self._is_labelled, labels = False, [0] * len(labels)
        if len(labels) != len(self.indices) or (len(labels) and min(labels) < 0):
            raise InputError(f"{self.reader.name} must have one label of at least 0 for each sample")
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.classes = ()
        if self._is_labelled:
            highest = max(labels, default=0)
            enough = len(listed.classes) > highest
            self.classes = listed.classes if enough else tuple(numbers_as_names(highest, self.reader.name))
        self.is_reproducible = self._own is not None or self.reader.is_reproducible

    _is_labelled = True

    def _read_labels(self) -> list[int]:
        samples = self.reader.read_all(self.indices.tolist(), self.num_workers)
        if failed := next((sample for sample in samples if sample.error), None):
            raise InputError(failed.error)
        self._note(samples)
        bare = [sample.index for sample in samples if sample.label is None]
        if 0 < len(bare) < len(samples):
            counts = f"{len(bare):,} of {len(samples):,} samples have none"
            raise InputError(f"{self.reader.name_of(bare[0])}: all samples must have a label, or none; {counts}")
        self._is_labelled = not bare
        return [sample.label or 0 for sample in samples]

    def _note(self, samples: list[ReadSample]) -> None:
        self._digests.update({sample.index: sample.digest for sample in samples})

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image, ``[3, H, W]`` uint8, and its label."""
        return self.reader.read(int(self.indices[index]))[0], int(self.labels[index])

    def name(self, index: int) -> str:
        """Returns the class name of the Dataset with the position of the sample."""
        return self.reader.name_of(int(self.indices[index]))

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of pixels, labels and class names; the first call reads every image.

        A ``fingerprint`` of the Dataset itself stands in for the pixels. Images that differ each time they are read
        leave only their number, labels and class names.
        """
        return self._content if level == "path" else ""

    @cached_property
    def _content(self) -> str:
        listed = [list(self.classes), self.labels.tolist()]
        if self._own is not None:
            return digest_json([self._own, self.indices.tolist(), *listed])
        if not self.is_reproducible:
            return digest_json(["pixels differ", self.reader.name, self.indices.tolist(), *listed])
        self._note(self.reader.read_all(self._unread, self.num_workers) if self._unread else [])
        content = sha256(repr(listed).encode())
        for index in self.indices.tolist():
            content.update(self._digests[index].encode())
        return content.hexdigest()

    @property
    def _unread(self) -> list[int]:
        """Samples whose pixels a fingerprint needs and that were not read yet."""
        if self._own is not None or not self.is_reproducible or "_content" in self.__dict__:
            return []
        return [index for index in dict.fromkeys(self.indices.tolist()) if index not in self._digests]

    def share_reading(self) -> None:
        """Reads on all ranks together what :meth:`fingerprint` has to read. Every rank must call this."""
        rank, world = rank_and_world()
        if world == 1:
            return
        if not all(gather_from_ranks(self.is_reproducible)):
            self.is_reproducible = False
            self.__dict__.pop("_content", None)
        unread = gather_from_ranks(self._unread)[0]
        if unread:
            own = unread[rank::world]
            samples = raise_on_all_ranks(lambda: self.reader.read_all(own, self.num_workers))
            for part in gather_from_ranks(samples):
                self._note(part)

    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order."""
        part = copy(self)
        part.__dict__.pop("_content", None)
        part.indices, part.labels = self.indices[indices], self.labels[indices]
        return part
