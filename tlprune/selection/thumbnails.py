"""Grey thumbnails of images, which are compared without a network. Those of a source are made once and kept on disk.

They are grey since JPEGs keep brightness at full resolution and colours at half of it: a copy that is encoded again has
other colours at the edges of small images, and nearly the same brightness.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from warnings import warn

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tlprune.errors import InputError
from tlprune.progress import show_progress
from tlprune.storage.fingerprint import digest_json
from tlprune.storage.job_lock import one_job_at_a_time
from tlprune.storage.shard_files import DAMAGED, read_shard, write_shard

__all__ = ["SHARD_SIZE", "SIDE", "Pictures", "SourceThumbnails", "read_thumbnails", "shrink"]

SIDE = 16
"""Height and width of a thumbnail in pixels."""

SHARD_SIZE = 8192
"""Number of thumbnails in a file: 2 MB."""

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of ITU-R BT.601, as in JPEGs."""

_BATCH = 64
_NAME = "thumbnails"


class Pictures(Protocol):
    """Protocol of images before any transform: ``images[i]`` returns uint8 ``[3, H, W]`` and a label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def fingerprint(self) -> str:
        """Returns a fingerprint of the content."""
        ...


def shrink(pixels: Tensor) -> Tensor:
    """Resizes the brightness of images, bilinear with antialiasing, so that it depends little on their resolution.

    Args:
        pixels: Images, uint8 ``[B, 3, H, W]``.

    Returns:
        Uint8 ``[B, 16, 16]``.

    Example:
        >>> shrink(torch.full((1, 3, 40, 30), 7, dtype=torch.uint8)).unique().tolist()
        [7]
    """
    weights = torch.tensor(_LUMA)[:, None, None]
    grey = (pixels * weights).sum(1, keepdim=True)
    small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)[:, 0]
    return small.round_().clamp_(0, 255).byte()


def read_thumbnails(images: Pictures, num_workers: int = 0) -> Tensor:
    """Decodes images to thumbnails in memory.

    Args:
        images: Images, which may have different sizes.
        num_workers: Number of processes that decode.

    Returns:
        Uint8 ``[N, 256]``. An image that cannot be decoded is black.
    """
    blocks = [block for _, block in _read(images, range(len(images)), num_workers, "thumbnails of test images")]
    return torch.cat(blocks) if blocks else torch.empty(0, SIDE * SIDE, dtype=torch.uint8)


class SourceThumbnails:
    """Thumbnails of a source in shards on disk, of which one at a time is in memory.

    Args:
        images: Source, whose images may have different sizes. Those that cannot be decoded are black.
        cache: Cache folder.
        version: JSON value that changes when an image is rewritten.
        num_workers: Number of processes that decode.
    """

    def __init__(self, images: Pictures, cache: Path, version: Any, num_workers: int = 0) -> None:
        self.images = images
        self.num_workers = num_workers
        key = digest_json([images.fingerprint(), version, SIDE, SHARD_SIZE, "grey, bilinear, antialiased"])
        self.folder = cache / "thumbnails" / key[:32]

    def __len__(self) -> int:
        """Returns the number of images, ``N``."""
        return len(self.images)

    @property
    def shards(self) -> list[range]:
        """Image indices of each shard."""
        return [range(start, min(start + SHARD_SIZE, len(self))) for start in range(0, len(self), SHARD_SIZE)]

    @property
    def missing(self) -> list[int]:
        """Numbers of the shards that do not exist yet."""
        return [number for number in range(len(self.shards)) if not self._path(number).is_file()]

    def make(self) -> None:
        """Computes the missing shards.

        Raises:
            InputError: The cache cannot be written.
        """
        if not self.missing:  # a cache that is complete need not be writable
            return
        with one_job_at_a_time(self.folder):
            self._compute(self.missing)

    def __iter__(self) -> Iterator[tuple[range, Tensor]]:
        """Yields the image indices and the thumbnails, uint8 ``[n, 256]``, of each shard, in order."""
        for number, images in enumerate(self.shards):
            yield images, self._load(number)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.safetensors"

    def _compute(self, numbers: Sequence[int]) -> None:
        shards = self.shards
        wanted = [index for number in numbers for index in shards[number]]
        rows: list[Tensor] = []
        queue = iter(numbers)
        for indices, block in _read(self.images, wanted, self.num_workers, "thumbnails"):
            rows.append(block)
            last = indices[-1]
            if (last + 1) % SHARD_SIZE == 0 or last + 1 == len(self):
                write_shard(self._path(next(queue)), _NAME, torch.cat(rows))
                rows = []

    def _load(self, number: int) -> Tensor:
        path = self._path(number)
        for again in (False, True):
            with suppress(*DAMAGED):
                return read_shard(path, _NAME)
            if not again:
                warn(f"{path}: damaged; computing these thumbnails again", stacklevel=2)
                self._compute([number])
        raise InputError(f"{path}: damaged again right after it was written; is the disk failing?")


def _read(images: Pictures, indices: Sequence[int], num_workers: int, what: str) -> Iterator[tuple[list[int], Tensor]]:
    """Yields indices and thumbnails, uint8 ``[b, 256]``, of batches; a batch ends where a shard does."""
    batches = [list(indices[start : start + _BATCH]) for start in range(0, len(indices), _BATCH)]
    # a separate generator, so that the random numbers of later training do not depend on this
    loader: Any = DataLoader(
        _Shrunk(images),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    with show_progress(what, len(indices)) as advance:
        for batch, block in zip(batches, loader, strict=True):
            yield batch, block
            advance(len(batch))


def _as_it_is(batch: Any) -> Any:
    return batch


class _Shrunk(Dataset[Tensor]):
    """Thumbnails, uint8 ``[256]``."""

    def __init__(self, images: Pictures) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Returns the thumbnails of a batch; images of one size are resized together."""
        by_shape: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
        for row, index in enumerate(indices):
            try:
                pixels = self.images[index][0]
            except InputError:  # whoever needs the image says so
                continue
            by_shape.setdefault(tuple(pixels.shape), []).append((row, pixels))
        found = torch.zeros(len(indices), SIDE, SIDE, dtype=torch.uint8)
        for some in by_shape.values():
            found[[row for row, _ in some]] = shrink(torch.stack([pixels for _, pixels in some]))
        return found.flatten(1)
