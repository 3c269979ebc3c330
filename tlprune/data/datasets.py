"""Sets of labelled images, as files on disk or pixels in memory. Reading labels decodes no image."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from tlprune.data.decoding import decode_image
from tlprune.data.path_list import PathList
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_file, digest_json, digest_tensors
from tlprune.wordnet import readable_names

__all__ = ["FileStat", "FolderImages", "ImageSet", "Level", "TensorImages"]

Level = Literal["path", "stat", "bytes"]
"""Content of a fingerprint: the listing of files, their modification times, or every byte."""

FileStat = tuple[int, int]
"""Size in bytes and modification time in ns."""

_READ_AHEAD = 4096


class ImageSet(ABC):
    """Images with labels in a fixed order. Subclass it for images from other storage.

    Attributes:
        classes: Class names; a label is a position in this tuple. Empty for a set without labels.
        labels: ``[N]`` int64; zeros for a set without labels.
        only_classes: Whether there are no images, but class names to choose from.
        is_reproducible: Whether an image has the same pixels each time it is read, so that work on it can be cached.
    """

    classes: tuple[str, ...]
    labels: Tensor
    only_classes: bool = False
    is_reproducible: bool = True

    def __len__(self) -> int:
        """Returns ``N``, the number of images."""
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image, ``[3, H, W]`` uint8, and its label."""

    def name(self, index: int) -> str:
        """Returns a readable name of image ``index``."""
        return f"image {index}"

    @property
    def display_names(self) -> tuple[str, ...]:
        """Readable class names for reports, where ``classes`` are codes."""
        return readable_names(self.classes)

    @abstractmethod
    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of the content.

        Args:
            level: ``path`` depends on images, order and labels as far as a listing of the files shows them. ``stat``
                also changes when a file is rewritten with the same path and size; it queries the file system and is
                empty for sets without files. ``bytes`` covers every byte of the files and takes as long as reading
                them; it is empty where ``path`` covers the bytes already.

        Returns:
            A string, the same on every machine for ``path`` and ``bytes``.

        Raises:
            InputError: A file cannot be read.
        """

    @property
    def listed_fingerprint(self) -> str:
        """``fingerprint("stat")`` of the files at the time of listing."""
        return self.fingerprint("stat")

    @property
    def quick_fingerprint(self) -> str:
        """Fingerprint that changes with the content and reads as little as possible.

        Two sets with the same content may have different quick fingerprints.
        """
        return digest_json([self.fingerprint(), self.listed_fingerprint])

    def share_reading(self) -> None:  # noqa: B027 - most sets have nothing to share
        """Reads on all ranks together what :meth:`fingerprint` has to read. Every rank must call this."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Lets subclasses keep the former names, ``digest`` and ``titles``."""
        super().__init_subclass__(**options)
        if "titles" in vars(cls) and "display_names" not in vars(cls):
            cls.display_names = cls.titles  # type: ignore[attr-defined, method-assign]
        if "digest" in vars(cls) and "fingerprint" not in vars(cls):
            cls.fingerprint = _fingerprint_of_former  # type: ignore[method-assign, assignment]

    @property
    def digest(self) -> str:
        """As ``fingerprint()``, by its former name."""
        return self.fingerprint()

    @abstractmethod
    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order, with the same classes."""


class FolderImages(ImageSet):
    """Image files, decoded on access.

    Args:
        root: Folder that ``paths`` are relative to.
        paths: ``N`` paths relative to ``root``, in the order of the set.
        labels: Labels, ``[N]`` int64.
        classes: Class names.
        display_names: Readable class names; None for those of WordNet ids, and else ``classes``.
        stats: Size in bytes and modification time in ns of the ``N`` files, also as ``[N, 2]`` int64; None reads them
            on first use.

    Attributes:
        paths: The paths, as a sequence.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: Tensor,
        classes: Sequence[str],
        display_names: Sequence[str] | None = None,
        stats: Sequence[FileStat] | Tensor | None = None,
    ) -> None:
        self.root = root
        self.paths = paths if isinstance(paths, PathList) else PathList(paths)
        self.labels = labels
        self.classes = tuple(classes)
        self._display_names = None if display_names is None else tuple(display_names)
        if stats is not None and not isinstance(stats, Tensor):
            stats = torch.tensor(stats, dtype=torch.int64).reshape(-1, 2)
        self._given_stats = stats

    @property
    def display_names(self) -> tuple[str, ...]:
        """Readable class names."""
        return readable_names(self.classes) if self._display_names is None else self._display_names

    @classmethod
    def of_files(
        cls, paths: Sequence[str], labels: Tensor, classes: Sequence[str], stats: Sequence[FileStat] | None = None
    ) -> Self:
        """Creates a set of files from absolute paths.

        Args:
            paths: ``N`` absolute paths without ``..``, at least one; their common folder becomes ``root``.
            labels: Labels, ``[N]`` int64.
            classes: Class names.
            stats: Size in bytes and modification time in ns of the ``N`` files; None reads them on first use.
        """
        root = os.path.commonpath({path.rpartition("/")[0] or "/" for path in paths})
        relative = [path[len(root) :].lstrip("/") for path in paths]
        return cls(Path(root), relative, labels, classes, stats=stats)

    def with_display_names(self, display_names: Sequence[str]) -> Self:
        """Returns the same images with other display names."""
        return type(self)(self.root, self.paths, self.labels, self.classes, display_names, self._given_stats)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decodes an image to ``[3, H, W]`` uint8 and returns it with its label."""
        return decode_image(self.root / self.paths[index]), int(self.labels[index])

    def name(self, index: int) -> str:
        """Returns the path of an image relative to ``root``."""
        return self.paths[index]

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of the set.

        ``path`` covers paths, labels, class names and file sizes, ``stat`` modification times, ``bytes`` the bytes of
        every file.
        """
        if level == "path":
            return self._path_fingerprint
        return digest_json(self._look_up()[:, 1]) if level == "stat" else self._bytes_fingerprint()

    @cached_property
    def listed_fingerprint(self) -> str:
        """Fingerprint of the modification times at the time of listing."""
        return digest_json(self._stats[:, 1])

    @cached_property
    def _path_fingerprint(self) -> str:
        return digest_json([self.paths, self.labels, self.classes, self._stats[:, 0]])

    def _bytes_fingerprint(self) -> str:
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
    def _stats(self) -> Tensor:
        return self._look_up() if self._given_stats is None else self._given_stats

    @property
    def files(self) -> list[tuple[str, FileStat]]:
        """Path of every file, with its size and time of change as they were when it was listed."""
        listed = zip(self.paths, self._stats.tolist(), strict=True)
        return [(os.path.join(self.root, path), (size, changed)) for path, (size, changed) in listed]

    def _look_up(self) -> Tensor:
        table = torch.empty(len(self.paths), 2, dtype=torch.int64)
        rows = table.numpy()
        try:
            for index, path in enumerate(self.paths):
                status = os.stat(os.path.join(self.root, path))
                rows[index] = status.st_size, status.st_mtime_ns
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror or error}") from error
        return table

    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order."""
        paths = PathList(self.paths[index] for index in indices.tolist())
        stats = None if self._given_stats is None else self._given_stats[indices]
        return type(self)(self.root, paths, self.labels[indices], self.classes, self._display_names, stats)


class TensorImages(ImageSet):
    """Images of one size in memory.

    Args:
        pixels: Images, ``[N, 3, H, W]`` uint8.
        labels: Labels, ``[N]`` int64.
        classes: Class names.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        self.pixels = pixels
        self.labels = labels
        self.classes = tuple(classes)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image, ``[3, H, W]`` uint8, and its label."""
        return self.pixels[index], int(self.labels[index])

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of pixels, labels and class names for ``path``; empty for other levels."""
        return (
            ""
            if level != "path"
            else digest_json([digest_tensors({"pixels": self.pixels, "labels": self.labels}), self.classes])
        )

    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order."""
        return type(self)(self.pixels[indices], self.labels[indices], self.classes)

    @classmethod
    def from_images(cls, images: ImageSet) -> Self:
        """Decodes every image of a set into memory.

        Args:
            images: Set whose images all have the same size.

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
            raise InputError("an empty set cannot be kept in memory")
        return cls(pixels, images.labels, images.classes)


def _fingerprint_of_former(images: Any, level: Level = "path") -> str:
    """Returns the fingerprint of a set whose class has the former names."""
    if level == "path":
        return str(images.digest)
    if level == "stat":
        return str(images.stamp_now() if hasattr(images, "stamp_now") else getattr(images, "stamp", ""))
    return str(images.read_whole()) if hasattr(images, "read_whole") else ""
