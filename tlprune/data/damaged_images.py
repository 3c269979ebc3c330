"""Finds the images of a set that cannot be decoded, once for all processes, and caches the result."""

import json
from pathlib import Path
from typing import Any, NamedTuple
from warnings import warn

import torch
from torch.utils.data import DataLoader, Dataset

from tlprune.data.datasets import ImageSet
from tlprune.distributed import (
    broadcast_from_rank0,
    gather_from_ranks,
    raise_on_all_ranks,
    rank_and_world,
)
from tlprune.errors import InputError
from tlprune.progress import show_progress
from tlprune.storage.atomic import write_bytes
from tlprune.storage.fingerprint import digest_json
from tlprune.storage.job_lock import one_job_at_a_time

__all__ = ["MOST_SKIPPED", "Damaged", "find_damaged", "known_path", "without_damaged"]

MOST_SKIPPED = 0.01
"""Share of a set up to which undecodable images are skipped; a larger share is an error."""

_BATCH = 64


class Damaged(NamedTuple):
    """An image that cannot be decoded.

    Args:
        number: Index of the image in the set.
        name: Name of the image for messages.
        reason: Message of the decoding error.
    """

    number: int
    name: str
    reason: str


def without_damaged(images: ImageSet, cache: Path, num_workers: int = 0) -> tuple[ImageSet, tuple[str, ...]]:
    """Removes images that cannot be decoded from a set, with a warning. Every rank must call this.

    Returns:
        The images that can be decoded, in the order of the set, and the names of the others.

    Raises:
        InputError: As :func:`find_damaged`.
    """
    damaged = find_damaged(images, cache, num_workers)
    if not damaged:
        return images, ()
    counts = f"{len(damaged):,} of {len(images):,} images cannot be decoded and are skipped"
    warn(f"{counts}; first {damaged[0].reason}", stacklevel=2)
    whole = torch.ones(len(images), dtype=torch.bool)
    whole[[image.number for image in damaged]] = False
    return images.subset(whole.nonzero().squeeze(1)), tuple(image.name for image in damaged)


def find_damaged(images: ImageSet, cache: Path, num_workers: int = 0) -> list[Damaged]:
    """Decodes every image once, or reads the cached result. Every rank must call this; all get the same list.

    Returns:
        The images that cannot be decoded, in the order of the set.

    Raises:
        InputError: More than :data:`MOST_SKIPPED` of the images cannot be decoded.
    """
    images.share_reading()
    if not images.is_reproducible:
        return _few(images, _find(images, num_workers))
    path = known_path(images, cache)
    with one_job_at_a_time(path):
        known = broadcast_from_rank0(lambda: _read(path))
        if known is None:
            known = _find(images, num_workers)
            broadcast_from_rank0(lambda: _write(path, known or []))
    return _few(images, known)


def _find(images: ImageSet, num_workers: int) -> list[Damaged]:
    """Decodes every image once, on all ranks together."""
    rank, world = rank_and_world()
    own = range(len(images))[rank::world]
    by_rank = gather_from_ranks(raise_on_all_ranks(lambda: _decode(images, own, num_workers)))
    return sorted(image for part in by_rank for image in part)


def _few(images: ImageSet, known: list[Damaged]) -> list[Damaged]:
    """Returns the damaged images if they are few enough to skip."""
    if len(known) > MOST_SKIPPED * len(images):
        share = f"{len(known):,} of {len(images):,} images cannot be decoded, more than {MOST_SKIPPED:.0%}"
        raise InputError(f"{share}; first {known[0].reason}")
    return known


def known_path(images: ImageSet, cache: Path) -> Path:
    """Returns the path of the cached result for a set; it changes when a file of the set changes."""
    return cache / "damaged" / f"{digest_json([images.fingerprint(), images.listed_fingerprint])[:32]}.json"


def _decode(images: ImageSet, indices: range, num_workers: int) -> list[Damaged]:
    # a separate generator: a run with a cached result must draw the same random numbers as a run without
    loader: Any = DataLoader(
        _Tried(images, indices),
        batch_size=_BATCH,
        num_workers=num_workers,
        collate_fn=_only_failures,
        generator=torch.Generator(),
    )
    found: list[Damaged] = []
    with show_progress("look for damaged images", len(indices)) as advance:
        for place, batch in enumerate(loader):
            found += batch
            advance(min(_BATCH, len(indices) - place * _BATCH))  # a batch holds its failures alone
    return found


class _Tried(Dataset[Damaged | None]):
    """Decodes each image and gives its error, or None."""

    def __init__(self, images: ImageSet, indices: range) -> None:
        self.images = images
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Damaged | None:
        index = self.indices[place]
        try:
            _ = self.images[index]
        except InputError as error:
            return Damaged(index, self.images.name(index), str(error))
        return None


def _only_failures(batch: list[Damaged | None]) -> list[Damaged]:
    return [image for image in batch if image is not None]


def _read(path: Path) -> list[Damaged] | None:
    """Reads the cached result; returns None if there is none or its checksum does not match."""
    try:
        content = json.loads(path.read_text())
        damaged = [Damaged(int(index), str(name), str(reason)) for index, name, reason in content["damaged"]]
        return damaged if content["checksum"] == digest_json([list(image) for image in damaged]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, damaged: list[Damaged]) -> None:
    rows = [list(image) for image in damaged]
    write_bytes(path, json.dumps({"damaged": rows, "checksum": digest_json(rows)}).encode())
