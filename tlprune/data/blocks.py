"""A source as consecutive blocks that are opened one at a time: its shards, or parts of its listing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch

from tlprune.data.datasets import FolderImages, ImageSet
from tlprune.data.feature_set import FeatureSet
from tlprune.data.shard_names import ShardNames
from tlprune.data.shards import ShardedImages, open_shard
from tlprune.errors import InputError

__all__ = ["BLOCK_SIZE", "Blocks", "ListedBlocks", "ShardBlocks"]

BLOCK_SIZE = 4096
"""Images in each block of a source that is listed as a whole."""


class Blocks(Protocol):
    """Consecutive blocks of a source.

    Attributes:
        fingerprint: Fingerprint of a listing of all images; empty for shards, each of which has a version.
        key_column: What an image is called in lists.
        estimated: Whether numbers of images are estimates until a block is opened.
    """

    fingerprint: str
    key_column: str
    estimated: bool

    def __len__(self) -> int: ...

    def short(self, number: int) -> str:
        """Returns a name of a block for files: a relative path without an extension."""
        ...

    def version(self, number: int) -> list[int]:
        """Returns numbers that change with the content of a block."""
        ...

    def count(self, number: int) -> int:
        """Returns the number of images of a block, or an estimate by its size."""
        ...

    def open(self, number: int) -> ImageSet:
        """Opens a block."""
        ...

    def key(self, images: ImageSet, index: int) -> str:
        """Returns what an image of an opened block is called in lists."""
        ...

    def copier(self, images: ImageSet) -> tuple[str, Callable[[Sequence[int], Path], None]]:
        """Returns the extension of a shard of an opened block, and a function that writes a new one of some rows.

        Raises:
            InputError: The source is not in shards.
        """
        ...


class ShardBlocks:
    """The shards of a source, each a block. The list of shards is all that is held of those that are not open.

    Args:
        names: Files of the shards.
    """

    fingerprint = ""
    estimated = True

    def __init__(self, names: ShardNames) -> None:
        self.names = names
        self._images = self._bytes = 0  # of shards that were opened
        self.key_column = "key" if names.kind == "webdataset" else "row"

    def __len__(self) -> int:
        return len(self.names.files)

    def short(self, number: int) -> str:
        """Returns the path of a shard below the folder of all, without its extension."""
        return self.names.short(number)

    def version(self, number: int) -> list[int]:
        """Returns size and time of change of a shard.

        Raises:
            InputError: It is gone.
        """
        try:
            status = self.names.path(number).stat()
        except OSError as error:
            raise InputError(f"{self.names.files[number]}: {error.strerror or error}") from error
        return [status.st_size, status.st_mtime_ns]

    def count(self, number: int) -> int:
        """Estimates the number of images of a shard by its size and by the shards that were opened; at least 1."""
        return max(1, round(self.version(number)[0] * self._images / max(self._bytes, 1)))

    def open(self, number: int) -> ShardedImages:
        """Indexes a shard."""
        images = open_shard(self.names, number)
        self._images += len(images)
        self._bytes += self.version(number)[0]
        return images

    def key(self, images: ImageSet, index: int) -> str:
        """Returns the WebDataset key of an image, or its row."""
        return images.key(index) if isinstance(images, ShardedImages) else images.name(index)

    def copier(self, images: ImageSet) -> tuple[str, Callable[[Sequence[int], Path], None]]:
        """Returns the extension of the shard, and its method that copies rows."""
        if not isinstance(images, ShardedImages):
            raise TypeError(f"{type(images).__name__} is no shard")
        return images.shards[0].path.suffix, images.shards[0].copy


class ListedBlocks:
    """Blocks of a source that is listed as a whole.

    Args:
        images: The source.
    """

    estimated = False

    def __init__(self, images: ImageSet) -> None:
        if images.only_classes or len(images) == 0:
            what = "has class names and no images" if images.only_classes else "has no images"
            raise InputError(f"the source {what}, so there is nothing to keep of it")
        self.images = images
        self.fingerprint = images.fingerprint() if isinstance(images, FeatureSet) else images.quick_fingerprint
        self.key_column = "path" if isinstance(images, FolderImages) else "name"

    def __len__(self) -> int:
        return -(-len(self.images) // BLOCK_SIZE)

    def short(self, number: int) -> str:
        """Returns the number of a block in six digits."""
        return f"{number:06}"

    def version(self, number: int) -> list[int]:
        """Returns nothing, because the fingerprint covers all blocks."""
        return []

    def count(self, number: int) -> int:
        """Returns the number of images of a block."""
        return len(self._rows(number))

    def _rows(self, number: int) -> range:
        return range(number * BLOCK_SIZE, min((number + 1) * BLOCK_SIZE, len(self.images)))

    def open(self, number: int) -> ImageSet:
        """Returns the images of a block."""
        rows = self._rows(number)
        if not isinstance(images := self.images, FeatureSet):
            return images.subset(torch.arange(rows.start, rows.stop))
        labels = images.labels[rows.start : rows.stop] if images.classes else None
        paths = None if images.paths is None else images.paths[rows.start : rows.stop]
        return FeatureSet(images.read_features(rows), labels, images.classes, paths, where=images.where)

    def key(self, images: ImageSet, index: int) -> str:
        """Returns the path of an image, absolute for files, or its name."""
        return (
            str(images.root.absolute() / images.paths[index])
            if isinstance(images, FolderImages)
            else (images.name(index))
        )

    def copier(self, images: ImageSet) -> tuple[str, Callable[[Sequence[int], Path], None]]:
        """Refuses: there are no shards.

        Raises:
            InputError: Always.
        """
        raise InputError("`write` 'shards' needs a source in shards, webdataset: or parquet:; 'lists' needs none")
