"""Adapts torch Datasets of images and labels to :class:`~tlprune.ImageSet`."""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from tlprune.data.datasets import ImageSet, Level
from tlprune.data.torchvision_sets import classes_of, images_in_memory, images_of_files, labels_of
from tlprune.errors import InputError

__all__ = ["DatasetImages", "as_images"]


def as_images(dataset: ImageSet | Dataset[Any]) -> ImageSet:
    """Converts a Dataset to an ImageSet with the same samples in the same order.

    Transforms of the Dataset are ignored. A Dataset of image files is listed like a folder, so a Selection made for one
    fits the other.

    Args:
        dataset: An :class:`~tlprune.ImageSet`, a data set of torchvision, a ``Subset``, or any Dataset with a length
            whose samples begin with an image (Pillow's, or ``[C, H, W]`` uint8) and its label.

    Raises:
        InputError: The Dataset has no length, no samples by index, or no labels.
    """
    if isinstance(dataset, ImageSet):
        return dataset
    if type(dataset) is Subset:
        return as_images(dataset.dataset).subset(torch.as_tensor(dataset.indices, dtype=torch.int64))
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InputError(f"{type(dataset).__name__} has no length or no samples by index, so it cannot be ordered")
    images = images_of_files(dataset) or images_in_memory(dataset)
    return images if images is not None and len(images) == len(dataset) else DatasetImages(_without_transforms(dataset))


def _without_transforms(dataset: Dataset[Any]) -> Dataset[Any]:
    plain = copy(dataset)
    for name in ("transform", "transforms"):
        if hasattr(plain, name):
            setattr(plain, name, None)
    return plain


class DatasetImages(ImageSet):
    """The samples of a Dataset as an ImageSet.

    Args:
        dataset: Dataset whose samples begin with an image and its label.
        indices: Positions of the samples to use, in order, ``[N]`` int64; None for all.
    """

    def __init__(self, dataset: Dataset[Any], indices: Tensor | None = None) -> None:
        self.dataset = dataset
        total = len(dataset)  # type: ignore[arg-type]
        self.indices = torch.arange(total) if indices is None else indices
        labels = torch.tensor(labels_of(dataset) or [_label(dataset, index) for index in range(total)])
        if len(labels) != total or (len(labels) and int(labels.min()) < 0):
            raise InputError(f"{type(dataset).__name__} must have one label of at least 0 for each sample")
        self.classes = tuple(classes_of(dataset, labels.tolist() or [0]))
        self.labels = labels[self.indices]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image, ``[3, H, W]`` uint8, and its label."""
        sample = self.dataset[int(self.indices[index])]
        return _as_pixels(sample[0], self.name(index)), int(self.labels[index])

    def name(self, index: int) -> str:
        """Returns the class name of the Dataset with the position of the sample."""
        return f"{type(self.dataset).__name__}[{int(self.indices[index])}]"

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of pixels, labels and class names; the first call reads every image."""
        return self._content if level == "path" else ""

    @cached_property
    def _content(self) -> str:
        content = sha256(repr([self.classes, self.labels.tolist()]).encode())
        for index in range(len(self)):
            pixels, _ = self[index]
            content.update(f"{tuple(pixels.shape)}|".encode() + pixels.contiguous().numpy().tobytes())
        return content.hexdigest()

    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order."""
        part = copy(self)
        part.__dict__.pop("_content", None)
        part.indices, part.labels = self.indices[indices], self.labels[indices]
        return part


def _label(dataset: Dataset[Any], index: int) -> int:
    sample = dataset[index]
    if not isinstance(sample, Sequence) or len(sample) < 2 or int(sample[1]) != sample[1]:
        got = f"sample {index} is {type(sample).__name__}"
        raise InputError(f"{type(dataset).__name__}: samples must begin with an image and a whole number, {got}")
    return int(sample[1])


def _as_pixels(image: Any, name: str) -> Tensor:
    """Converts an image to ``[3, H, W]`` uint8."""
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] in (1, 3):
        image = torch.from_numpy(image).permute(2, 0, 1)
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] in (1, 3):
        return image.expand(3, -1, -1)
    shape = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor | np.ndarray) else type(image).__name__
    more = "give the data set without transforms that end in floats"
    raise InputError(f"{name}: an image must be Pillow's, or [C, H, W] uint8, got {shape}; {more}")
