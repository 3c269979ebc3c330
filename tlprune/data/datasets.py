"""Sets of labelled images: files on disk, or pixels in memory. Labels are known without decoding an image."""

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
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_file, digest_json, digest_tensors

__all__ = ["FileStat", "FolderImages", "ImageSet", "Level", "TensorImages"]

Level = Literal["path", "stat", "bytes"]
"""What a fingerprint looks at: what a listing says, times of change, or every byte."""

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
    def display_names(self) -> tuple[str, ...]:
        """What a person calls the classes, where their names are codes; reports show these."""
        return self.classes

    @abstractmethod
    def fingerprint(self, level: Level = "path") -> str:
        """Names the content.

        Args:
            level: ``path``: other images, another order or other labels give another fingerprint, as far as a listing
                tells. ``stat``: changes when a file is rewritten though its path and size stay the same; asks the file
                system, and is empty where there are no files. ``bytes``: names every byte of the files, which takes as
                long as reading them; empty where ``path`` covers them.

        Returns:
            A text, the same on every machine for ``path`` and ``bytes``.

        Raises:
            InputError: A file cannot be read.
        """

    @property
    def listed_fingerprint(self) -> str:
        """As ``fingerprint("stat")``, of the files as they were when they were listed."""
        return self.fingerprint("stat")

    @property
    def quick_fingerprint(self) -> str:
        """Changes when the content does, and reads no more than it must; other sets of the same content may differ."""
        return digest_json([self.fingerprint(), self.listed_fingerprint])

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
        """The images at ``indices`` (``[M]`` int64), in that order; the classes stay."""


class FolderImages(ImageSet):
    """Images in files, decoded when asked for.

    Args:
        root: The folder that ``paths`` are relative to.
        paths: ``N`` paths relative to ``root``, in the set's order.
        labels: ``[N]`` int64.
        classes: Class names.
        display_names: What a person calls the classes; None for their names.
        stats: ``N`` files' sizes in bytes and times of change in ns; None looks them up when they are asked for.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: Tensor,
        classes: Sequence[str],
        display_names: Sequence[str] | None = None,
        stats: Sequence[FileStat] | None = None,
    ) -> None:
        self.root = root
        self.paths = tuple(paths)
        self.labels = labels
        self.classes = tuple(classes)
        self._display_names = None if display_names is None else tuple(display_names)
        self._given_stats = stats

    @property
    def display_names(self) -> tuple[str, ...]:
        """What a person calls the classes."""
        return self.classes if self._display_names is None else self._display_names

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

    def with_display_names(self, display_names: Sequence[str]) -> Self:
        """The same images with other display names."""
        return type(self)(self.root, self.paths, self.labels, self.classes, display_names, self._given_stats)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decodes one image: ``[3, H, W]`` uint8, and its label."""
        return decode_image(self.root / self.paths[index]), int(self.labels[index])

    def name(self, index: int) -> str:
        """Its path, relative to the set's folder."""
        return self.paths[index]

    def fingerprint(self, level: Level = "path") -> str:
        """Of paths, labels, class names and file sizes; of times of change; or of the bytes of every file."""
        if level == "path":
            return self._path_fingerprint
        return _stat_fingerprint(self._look_up()) if level == "stat" else self._bytes_fingerprint()

    @cached_property
    def listed_fingerprint(self) -> str:
        """Of the times of change that the listing saw."""
        return _stat_fingerprint(self._stats)

    @cached_property
    def _path_fingerprint(self) -> str:
        sizes = [size for size, _ in self._stats]
        return digest_json([self.paths, self.labels.tolist(), self.classes, sizes])

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
    def _stats(self) -> Sequence[FileStat]:
        return self._look_up() if self._given_stats is None else self._given_stats

    @property
    def files(self) -> list[tuple[str, FileStat]]:
        """Path of every file, with its size and time of change as they were when it was listed."""
        return [(os.path.join(self.root, path), stat) for path, stat in zip(self.paths, self._stats, strict=True)]

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
        return type(self)(self.root, paths, self.labels[indices], self.classes, self._display_names, stats)


def _stat_fingerprint(stats: Sequence[FileStat]) -> str:
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

    def fingerprint(self, level: Level = "path") -> str:
        """Of pixels, labels and class names; there are no files."""
        return (
            ""
            if level != "path"
            else digest_json([digest_tensors({"pixels": self.pixels, "labels": self.labels}), self.classes])
        )

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


def _fingerprint_of_former(images: Any, level: Level = "path") -> str:
    """Returns the fingerprint of a set whose class has the former names."""
    if level == "path":
        return str(images.digest)
    if level == "stat":
        return str(images.stamp_now() if hasattr(images, "stamp_now") else getattr(images, "stamp", ""))
    return str(images.read_whole()) if hasattr(images, "read_whole") else ""
