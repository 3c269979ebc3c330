"""Images in shards, WebDataset tars or Parquet files: one shard at a time, or some of them as an ordinary set."""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from tlprune.data.columns import classes_of_labels
from tlprune.data.datasets import ImageSet, Level
from tlprune.data.parquet_shards import ParquetShard
from tlprune.data.shard_names import ShardNames
from tlprune.data.tar_shards import TarShard
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_file, digest_json

__all__ = ["Shard", "ShardedImages", "open_shard", "open_shards"]


class Shard(Protocol):
    """One indexed shard.

    Attributes:
        path: Path of the file.
        labels: Label of each row as text; None without labels.
        classes: Class names that the shard declares; None where it declares none.
        key_column: What a key is called in lists.
    """

    path: Path
    labels: list[str] | None
    classes: tuple[str, ...] | None
    key_column: str

    def __len__(self) -> int: ...

    def key(self, row: int) -> str:
        """Returns what a row is called in the shard."""
        ...

    def name(self, row: int) -> str:
        """Returns the name of a row for messages."""
        ...

    def size(self, row: int) -> int:
        """Returns the bytes of an image; 0 where they are not known."""
        ...

    def decode(self, row: int) -> Tensor:
        """Decodes an image: ``[3, H, W]`` uint8."""
        ...

    def copy(self, rows: Sequence[int], to: Path) -> None:
        """Writes a new shard of some rows."""
        ...


class ShardedImages(ImageSet):
    """Images of one or several indexed shards, decoded on access.

    Args:
        shards: The shards; all with labels or none.

    Attributes:
        classes: Class names that the shards declare; otherwise their labels, sorted by value where all are whole
            numbers, and by name where not.
        order: Place of each image among all rows of all shards, ``[N]`` int64.

    Raises:
        InputError: Some shards have labels and others have none, or they declare different classes.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self.classes = _common_classes(self.shards)
        self._starts = torch.tensor([0, *(len(shard) for shard in self.shards)]).cumsum(0)
        self.order = torch.arange(int(self._starts[-1]))
        self.labels = torch.zeros(len(self.order), dtype=torch.int64)
        if self.classes:
            place = {name: number for number, name in enumerate(self.classes)}
            self.labels = torch.tensor([place[label] for shard in self.shards for label in shard.labels or ()])

    def _place(self, index: int) -> tuple[Shard, int]:
        row = int(self.order[index])
        number = int(torch.searchsorted(self._starts, row, right=True)) - 1
        return self.shards[number], row - int(self._starts[number])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decodes an image to ``[3, H, W]`` uint8 and returns it with its label."""
        shard, row = self._place(index)
        return shard.decode(row), int(self.labels[index])

    def name(self, index: int) -> str:
        """Returns the file of the shard, and the key or row of an image in it."""
        shard, row = self._place(index)
        return shard.name(row)

    def key(self, index: int) -> str:
        """Returns the key or row of an image in its shard."""
        shard, row = self._place(index)
        return shard.key(row)

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of the set.

        ``path`` covers names of shards, keys, sizes of images, labels and class names; for Parquet, which lists no
        sizes, the size of the file. ``stat`` covers times of change of the shards, ``bytes`` all of their bytes.
        """
        if level == "path":
            return self._path_fingerprint
        files = [shard.path for shard in self.shards]
        try:
            return digest_json([digest_file(file) if level == "bytes" else file.stat().st_mtime_ns for file in files])
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror or error}") from error

    @cached_property
    def listed_fingerprint(self) -> str:
        """Fingerprint of the times of change at the first call."""
        return self.fingerprint("stat")

    @cached_property
    def _path_fingerprint(self) -> str:
        listed = [
            [shard.path.name, digest_json([[shard.key(row), shard.size(row)] for row in range(len(shard))])]
            + ([] if shard.size(0) else [shard.path.stat().st_size])
            for shard in self.shards
        ]
        return digest_json([listed, self.order.tolist(), self.labels.tolist(), self.classes])

    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order."""
        part = copy(self)
        part.__dict__.pop("_path_fingerprint", None)
        part.order, part.labels = self.order[indices], self.labels[indices]
        return part


def open_shard(names: ShardNames, number: int) -> ShardedImages:
    """Indexes one shard of a source; no other is looked at.

    Raises:
        InputError: The shard cannot be read, is damaged, or has no images.
    """
    return ShardedImages([_indexed(names, number)])


def open_shards(names: ShardNames) -> ShardedImages:
    """Indexes all shards of a source, as an ordinary set of images. Memory grows with the number of images.

    Raises:
        InputError: As :func:`open_shard`; or shards do not go together.
    """
    return ShardedImages([_indexed(names, number) for number in range(len(names.files))])


def _indexed(names: ShardNames, number: int) -> Shard:
    path = names.path(number)
    return TarShard(path) if names.kind == "webdataset" else ParquetShard(path, names.columns)


def _common_classes(shards: Sequence[Shard]) -> tuple[str, ...]:
    first = shards[0]
    if odd := next((one for one in shards if (one.labels is None) != (first.labels is None)), None):
        pair = (f"{one.path} has {'none' if one.labels is None else 'labels'}" for one in (first, odd))
        raise InputError(f"shards must all have labels, or none: {', '.join(pair)}")
    if odd := next((one for one in shards if one.classes != first.classes), None):
        pair = (f"{one.path} declares {len(one.classes or ())} classes" for one in (first, odd))
        raise InputError(f"shards declare different classes: {', '.join(pair)}")
    if first.classes is not None:
        return first.classes
    return classes_of_labels(label for shard in shards for label in shard.labels or ())
