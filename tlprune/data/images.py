"""Sets of labelled images: files on disk, or pixels in memory. Labels are known without decoding an image."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from tlprune.data.decoding import decode_image
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_file, digest_json, digest_tensors

__all__ = ["FileStat", "FolderImages", "ImageSet", "TensorImages"]

FileStat = tuple[int, int]
"""Size in bytes, and time of change in ns."""

_READ_AHEAD = 4096


class ImageSet(ABC):
    """Images with labels, in a fixed order. Subclass it to bring images from anywhere else.

    Attributes:
        classes: Class names; a label is a position in it. Empty for a set without labels.
        labels: ``[N]`` int64; zeros for a set without labels.
    """

    classes: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        """``N``."""
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image, ``[3, H, W]`` uint8, and its label."""

    def name(self, index: int) -> str:
        """What a person calls image ``index``."""
        return f"image {index}"

    @property
    def titles(self) -> tuple[str, ...]:
        """What a person calls the classes, where their names are codes; reports show these."""
        return self.classes

    @property
    @abstractmethod
    def digest(self) -> str:
        """Names the content: other images, another order or other labels give another digest."""

    @property
    def stamp(self) -> str:
        """Changes when files were written anew though the digest, which need not read pixels, stays the same."""
        return ""

    def stamp_now(self) -> str:
        """The stamp of the files as they are now, where :attr:`stamp` is that of the files as they were listed."""
        return self.stamp

    def read_whole(self) -> str:
        """Names every byte of the files, which takes as long as reading them; empty where the digest does so."""
        return ""

    @property
    def mark(self) -> str:
        """Changes when the content does, and reads no more than it must; other sets of the same content may differ."""
        return digest_json([self.digest, self.stamp])

    @abstractmethod
    def subset(self, indices: Tensor) -> Self:
        """The images at ``indices`` (``[M]`` int64), in that order; the classes stay."""


class FolderImages(ImageSet):
    """Images in files, decoded when asked for.

    Args:
        root: The folder that ``paths`` are relative to.
        paths: ``N`` paths relative to ``root``, in the set's order.
        labels: ``[N]`` int64.
        classes: Class names.
        titles: What a person calls the classes; None for their names.
        stats: ``N`` files' sizes in bytes and times of change in ns; None looks them up when they are asked for.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: Tensor,
        classes: Sequence[str],
        titles: Sequence[str] | None = None,
        stats: Sequence[FileStat] | None = None,
    ) -> None:
        self.root = root
        self.paths = tuple(paths)
        self.labels = labels
        self.classes = tuple(classes)
        self._titles = None if titles is None else tuple(titles)
        self._given_stats = stats

    @property
    def titles(self) -> tuple[str, ...]:
        """What a person calls the classes."""
        return self.classes if self._titles is None else self._titles

    @classmethod
    def of_files(
        cls, paths: Sequence[str], labels: Tensor, classes: Sequence[str], stats: Sequence[FileStat] | None = None
    ) -> Self:
        """A set of files anywhere.

        Args:
            paths: ``N`` absolute paths without ``..``, at least one; the folder that they share becomes the set's.
            labels: ``[N]`` int64.
            classes: Class names.
            stats: ``N`` files' sizes in bytes and times of change in ns.
        """
        root = os.path.commonpath({path.rpartition("/")[0] or "/" for path in paths})
        relative = [path[len(root) :].lstrip("/") for path in paths]
        return cls(Path(root), relative, labels, classes, stats=stats)

    def with_titles(self, titles: Sequence[str]) -> Self:
        """The same images, the classes called otherwise."""
        return type(self)(self.root, self.paths, self.labels, self.classes, titles, self._given_stats)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decodes one image: ``[3, H, W]`` uint8, and its label."""
        return decode_image(self.root / self.paths[index]), int(self.labels[index])

    def name(self, index: int) -> str:
        """Its path, relative to the set's folder."""
        return self.paths[index]

    @cached_property
    def digest(self) -> str:
        """Of paths, labels, class names and file sizes; the pixels are not read."""
        sizes = [size for size, _ in self._stats]
        return digest_json([self.paths, self.labels.tolist(), self.classes, sizes])

    @cached_property
    def stamp(self) -> str:
        """Of the times at which the files were changed."""
        return _stamp_of(self._stats)

    def stamp_now(self) -> str:
        """The stamp of the files as they are now: asks the file system for each.

        Raises:
            InputError: A file is gone.
        """
        return _stamp_of(self._look_up())

    def read_whole(self) -> str:
        """Of the bytes of every file.

        Raises:
            InputError: A file cannot be read.
        """
        whole = sha256()
        try:
            with ThreadPoolExecutor() as pool:
                for start in range(0, len(self.paths), _READ_AHEAD):
                    files = [self.root / path for path in self.paths[start : start + _READ_AHEAD]]
                    whole.update("".join(pool.map(digest_file, files)).encode())
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror or error}") from error
        return whole.hexdigest()

    @cached_property
    def _stats(self) -> Sequence[FileStat]:
        return self._look_up() if self._given_stats is None else self._given_stats

    def _look_up(self) -> list[FileStat]:
        try:
            found = [os.stat(os.path.join(self.root, path)) for path in self.paths]
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror or error}") from error
        return [(one.st_size, one.st_mtime_ns) for one in found]

    def subset(self, indices: Tensor) -> Self:
        """The images at ``indices`` (``[M]`` int64), in that order."""
        picked = indices.tolist()
        paths = [self.paths[index] for index in picked]
        stats = None if self._given_stats is None else [self._given_stats[index] for index in picked]
        return type(self)(self.root, paths, self.labels[indices], self.classes, self._titles, stats)


def _stamp_of(stats: Sequence[FileStat]) -> str:
    return digest_json([changed for _, changed in stats])


class TensorImages(ImageSet):
    """Images of one size in memory.

    Args:
        pixels: ``[N, 3, H, W]`` uint8.
        labels: ``[N]`` int64.
        classes: Class names.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        self.pixels = pixels
        self.labels = labels
        self.classes = tuple(classes)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image, ``[3, H, W]`` uint8, and its label."""
        return self.pixels[index], int(self.labels[index])

    @property
    def digest(self) -> str:
        """Of pixels, labels and class names."""
        return digest_json([digest_tensors({"pixels": self.pixels, "labels": self.labels}), self.classes])

    def subset(self, indices: Tensor) -> Self:
        """The images at ``indices`` (``[M]`` int64), in that order."""
        return type(self)(self.pixels[indices], self.labels[indices], self.classes)

    @classmethod
    def from_images(cls, images: ImageSet) -> Self:
        """Decodes every image of a set once.

        Args:
            images: A set whose images all have one size.

        Raises:
            InputError: Two images differ in size.
        """
        pixels: Tensor | None = None
        for index in range(len(images)):
            image, _ = images[index]
            if pixels is None:
                pixels = torch.empty((len(images), *image.shape), dtype=torch.uint8)
            if image.shape != pixels.shape[1:]:
                height, width = pixels.shape[2:]
                raise InputError(
                    f"images kept in memory must have one size: image {index} is {image.shape[1]} x {image.shape[2]}, "
                    f"image 0 is {height} x {width}; set `in_memory: false`"
                )
            pixels[index] = image
        if pixels is None:
            raise InputError("a set without images cannot be held in memory")
        return cls(pixels, images.labels, images.classes)
