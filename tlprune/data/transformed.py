"""A torch Dataset of images and a transform, from which a DataLoader draws batches."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tlprune.data.datasets import ImageSet, Level, TensorImages
from tlprune.data.shared_batches import room
from tlprune.data.transforms import Transform
from tlprune.errors import InputError

__all__ = ["Batch", "TransformedDataset"]

Batch = tuple[Tensor, Tensor]


class TransformedDataset(Dataset[tuple[Tensor, int]]):
    """Transformed images with their labels.

    Args:
        images: The images.
        transform: Transform from images to model input.
        new_labels: New label of each old label, ``[C]`` int64; None keeps labels unchanged.

    Attributes:
        in_bytes: Whether batches stay uint8, to be normalised later; False at first.
        on_device: Pixels ``[N, 3, S, S]`` uint8 and labels ``[N]`` int64 of all images on another device, from which
            batches are taken; None at first.
    """

    def __init__(self, images: ImageSet, transform: Transform, new_labels: Tensor | None = None) -> None:
        self.images = images
        self.transform = transform
        self.labels = images.labels if new_labels is None else new_labels[images.labels]
        self.in_bytes = False
        self.on_device: tuple[Tensor, Tensor] | None = None
        self._version: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image, ``[3, S, S]`` float32, and its label."""
        pixels, labels = self.__getitems__([index])
        return pixels[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Returns a whole batch: images ``[B, 3, S, S]`` float32 and labels ``[B]`` int64."""
        picked = torch.as_tensor(indices)
        labels = self.labels
        if self.on_device is not None:
            labels = self.on_device[1]
            picked = picked.to(labels.device, non_blocking=True)
        with self.transform.drawing():
            pixels = self.transform.augment_batch(self._pixels(picked))
        return pixels if self.in_bytes else self.transform.normalize_batch(pixels), labels[picked]

    def _pixels(self, indices: Tensor) -> Tensor:
        if self.on_device is not None:
            return self.on_device[0][indices]
        if self._at_size is not None:
            return self._at_size[indices]
        places = indices.tolist()
        first = self.transform.resize(self.images[places[0]][0])
        batch = _room_for(len(places), first, self.in_bytes)
        batch[0] = first
        for row, place in enumerate(places[1:], start=1):
            image = self.transform.resize(self.images[place][0])
            if (image.shape, image.dtype) != (first.shape, first.dtype):  # would be repeated or rounded without a word
                one, other = f"{first.dtype} {[*first.shape]}", f"{image.dtype} {[*image.shape]}"
                names = f"{self.name(places[0])} became {one}, {self.name(place)} {other}"
                raise InputError(f"a transform must give all images of a batch alike: {names}")
            batch[row] = image
        return batch

    @property
    def _at_size(self) -> Tensor | None:
        """Pixels in memory that no transform resizes, ``[N, 3, S, S]`` uint8; None where there are none."""
        size = (self.transform.image_size, self.transform.image_size)
        if isinstance(self.images, TensorImages) and self.images.pixels.shape[2:] == size and not self.transform.crops:
            return self.images.pixels
        return None

    def with_transform(self, transform: Transform) -> Self:
        """Returns the same images with another transform, on the CPU."""
        changed = copy(self)
        changed.transform, changed.on_device = transform, None
        return changed

    def held_on(self, device: torch.device, most_bytes: int) -> Self:
        """Returns the same images, held on a device if they are in memory and the transform can work there.

        Batches then have the same values, on that device; no image is copied there twice.

        Args:
            device: Device of the model.
            most_bytes: Bytes that images may take there.
        """
        pixels = self._at_size
        held = copy(self)
        if pixels is not None and self.transform.runs_on_device and pixels.nbytes <= most_bytes:
            held.on_device = pixels.to(device), self.labels.to(device)
        return held

    def at_size(self, image_size: int) -> Self:
        """Returns the same images with a height and width of ``image_size`` pixels."""
        return self.with_transform(self.transform.at_size(image_size))

    def as_bytes(self) -> Self:
        """Returns the same images with batches that stay uint8, if the transform allows it."""
        left = copy(self)
        left.in_bytes = self.transform.ends_in_bytes
        return left

    def normalized(self, batch: Tensor) -> Tensor:
        """Normalises a batch ``[B, 3, S, S]`` of :meth:`as_bytes`, on its device; floats are returned as they are."""
        return self.transform.normalize_batch(batch) if batch.dtype == torch.uint8 else batch

    def name(self, index: int) -> str:
        """Returns a readable name of image ``index``."""
        return self.images.name(index)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of ``images``, before relabelling."""
        return self.images.classes

    @property
    def only_classes(self) -> bool:
        """Whether there are no images, but class names to choose from."""
        return self.images.only_classes

    @property
    def display_names(self) -> tuple[str, ...]:
        """Readable class names."""
        return self.images.display_names

    @property
    def digest(self) -> str:
        """``fingerprint()`` under its former name."""
        return self.fingerprint()

    def fingerprint(self, level: Level = "path") -> str:
        """Returns the fingerprint of the images, independent of the transform."""
        return self.images.fingerprint(level)

    @property
    def version(self) -> str:
        """Version of the images; cached results are recomputed when it changes.

        It is ``fingerprint("stat")``, computed on each access, unless it is set.
        """
        return self.images.fingerprint("stat") if self._version is None else self._version

    @version.setter
    def version(self, version: str) -> None:
        self._version = version

    @property
    def transform_config(self) -> dict[str, Any]:
        """The transform as JSON values; mean, deviation, crop and interpolation only if they differ from ImageNet."""
        return {"view": self.transform.recorded_name, **self.transform.preprocessing.as_json()}


def _room_for(count: int, image: Tensor, is_sent: bool) -> Tensor:
    """Allocates a batch ``[B, ...]`` for images with the shape, dtype and memory layout of ``image``.

    A batch that a loading process sends as it is gets shared memory; any other is copied there later.
    """
    by_pixel = image.stride(-3) == 1  # channels-last, as decoders and resizers give
    shape = (count, *(image.movedim(-3, -1) if by_pixel else image).shape)
    batch = room(shape, image.dtype) if is_sent else torch.empty(shape, dtype=image.dtype)
    return batch.movedim(-1, -3) if by_pixel else batch
