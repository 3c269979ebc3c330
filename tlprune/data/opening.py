"""Opens what is named or given: a source's images, and those of targets that vote."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

from torch.utils.data import Dataset

from tlprune.data.adapters import as_images
from tlprune.data.damaged_images import without_damaged
from tlprune.data.datasets import ImageSet, TensorImages
from tlprune.data.feature_files import open_features
from tlprune.data.feature_names import absolute_features, is_features
from tlprune.data.feature_set import FeatureSet
from tlprune.data.sources import BUILT_IN_SOURCE, open_source
from tlprune.data.target_splits import TargetSplits, absolute_target, open_target
from tlprune.data.transformed import TransformedDataset
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError
from tlprune.storage.cache import cache_root

__all__ = ["Source", "Target", "open_images", "set_version", "training_images", "usable_images", "usual_size"]

Source: TypeAlias = str | ImageSet | Dataset[Any]
"""A source by name or path, or an opened set of images."""

Target: TypeAlias = str | TargetSplits | ImageSet | Dataset[Any]
"""A target by name or path, an opened target, or its training images."""


def open_images(source: Source, cache: str | os.PathLike[str] | None = None, num_workers: int = 0) -> ImageSet:
    """The images of a source; its own validation images are left out.

    Args:
        source: The set to prune.
        cache: The cache folder; None for the user's.
        num_workers: Processes that read a Dataset once.
    """
    return open_source(source, cache)[0] if isinstance(source, str) else as_images(source, num_workers)


def usable_images(
    images: ImageSet, on_bad_image: str, cache: str | os.PathLike[str] | None, num_workers: int = 0
) -> tuple[ImageSet, tuple[str, ...]]:
    """The images, without those that cannot be decoded where these are to be skipped. Every rank calls this.

    Args:
        images: The set.
        on_bad_image: ``error`` or ``skip``.
        cache: The cache folder; None for the user's.
        num_workers: Processes of each rank that decode.

    Returns:
        The images, and the names of those that are left out.

    Raises:
        InputError: ``on_bad_image`` is neither, or too many images cannot be decoded.
    """
    if on_bad_image not in ("error", "skip"):
        raise InputError(f"`on_bad_image` must be 'error' or 'skip', got {on_bad_image!r}")
    if on_bad_image == "skip" and isinstance(images, FeatureSet):
        raise InputError(
            f"source {images.where} is given as features, so `on_bad_image: skip` has no use; leave it out"
        )
    return without_damaged(images, cache_root(cache), num_workers) if on_bad_image == "skip" else (images, ())


def usual_size(source: Source) -> int:
    """Height and width in pixels of a source's images where nobody says."""
    return 32 if source == BUILT_IN_SOURCE or isinstance(source, TensorImages) else 224


def training_images(
    targets: Sequence[Target], seed: int, cache: str | os.PathLike[str] | None = None
) -> list[tuple[str, ImageSet]]:
    """Each target's name, and its images that may vote.

    Args:
        targets: Names, opened targets, or training images.
        seed: Seed of the split of targets that have no split of their own.
        cache: The cache folder; None for the user's.

    Raises:
        InputError: A target cannot be opened.
    """
    found: list[tuple[str, ImageSet]] = []
    for one in targets:
        if is_features(one):
            found.append((absolute_features(one), open_features(one, cache)))
        elif isinstance(one, str):
            found.append((absolute_target(one), open_target(one, seed).train))
        elif isinstance(one, TargetSplits):
            found.append((absolute_target(one.name), one.train))
        else:
            found.append((type(one).__name__, as_images(one)))
    return found


def set_version(seen: TransformedDataset, verify_content: bool) -> None:
    """Notes which images a set holds, so that cached work on others is not used. Every rank calls this.

    Args:
        seen: The set.
        verify_content: Whether every byte of every image is read; else path, size and time of change count.
    """
    seen.images.share_reading()
    if verify_content:
        seen.version = broadcast_from_rank0(lambda: seen.images.fingerprint("bytes"))
    else:
        seen.version = seen.images.listed_fingerprint
