"""Stores the images of a set for faster loading, in memory or on disk; ranks share the work on disk."""

from pathlib import Path
from shutil import disk_usage

from lightning.pytorch.utilities import rank_zero_info

from tlprune.data.datasets import FolderImages, ImageSet, TensorImages
from tlprune.data.held import HeldImages
from tlprune.data.packed import QUALITY, SHARD_SIZE, SHORT_SIDE, PackedImages, Packing, bytes_of
from tlprune.distributed import (
    barrier,
    broadcast_from_rank0,
    raise_on_all_ranks,
    rank_and_world,
)
from tlprune.errors import InputError
from tlprune.storage.cache import forget
from tlprune.storage.fingerprint import digest_json
from tlprune.storage.job_lock import one_job_at_a_time

__all__ = ["check_packing", "in_memory", "pack", "packed_folder"]

_HELD = HeldImages(limit=256 * 2**20)


def check_packing(packing: str | None, also_in_memory: bool) -> None:
    """Checks the storage format, and that images are not also kept in memory.

    Args:
        packing: Storage format on disk; None for no packing.
        also_in_memory: Whether images are kept in memory.

    Raises:
        InputError: The format does not exist, or both ways of storage are chosen.
    """
    if packing not in (None, "raw256", "jpeg256"):
        raise InputError(f"`image_cache` must be 'raw256' or 'jpeg256', got {packing!r}")
    if packing is not None and also_in_memory:
        raise InputError("give `image_cache`, to keep images on disk, or `in_memory`, not both")


def in_memory(images: ImageSet, verify_content: bool = False) -> ImageSet:
    """Decodes a set into memory. Files of a small set are decoded once per process, until they change.

    Args:
        images: Set of images of one size, which may be empty.
        verify_content: Whether to decode files again though path, size and modification time are unchanged.

    Raises:
        InputError: Two images differ in size, or an image cannot be decoded.
    """
    if isinstance(images, TensorImages) or len(images) == 0:
        return images
    if type(images) is FolderImages and not verify_content:
        return _HELD.decoded(images)
    return TensorImages.from_images(images)


def packed_folder(images: ImageSet, packing: Packing, cache: Path, version: str) -> Path:
    """Returns the folder of a packed set; its name changes with every change of an image.

    Args:
        images: The set.
        packing: Storage format.
        cache: The cache folder.
        version: Version of the files, which changes when they are rewritten.
    """
    key = digest_json([images.fingerprint(), version, packing, SHORT_SIDE, QUALITY, SHARD_SIZE])
    return cache / "images" / f"{packing}-{key[:32]}"


def pack(
    images: ImageSet,
    packing: Packing,
    cache: Path,
    num_workers: int = 0,
    verify_content: bool = False,
    fresh: bool = False,
) -> PackedImages:
    """Packs the missing images of a set on disk; logs the required space first.

    Every rank must call this; ranks share the cache.

    Args:
        images: The set, with at least one image.
        packing: Storage format.
        cache: The cache folder.
        num_workers: Number of decoding processes per rank.
        verify_content: Whether to reuse the cache only if every byte of every file is unchanged.
        fresh: Whether to pack existing images again.

    Raises:
        InputError: An image cannot be decoded, or there is not enough disk space.
    """
    images.share_reading()
    if not images.is_reproducible:
        what = f"{images.name(0).partition('[')[0]}: its samples change each time they are read"
        raise InputError(f"`image_cache: {packing}`: {what}, so they cannot be cached; leave it out")
    version = broadcast_from_rank0(lambda: images.fingerprint("bytes")) if verify_content else images.listed_fingerprint
    folder = packed_folder(images, packing, cache, version)
    packed = PackedImages(images, folder, packing)
    with one_job_at_a_time(folder):
        if fresh:
            broadcast_from_rank0(lambda: forget(folder))
        missing = broadcast_from_rank0(lambda: packed.missing)
        if missing:
            rank_zero_info(broadcast_from_rank0(lambda: _room(packed, len(missing))))
        barrier()
        rank, world = rank_and_world()
        raise_on_all_ranks(lambda: packed.make(missing[rank::world], num_workers))
        barrier()
    return PackedImages(images, folder, packing)


def _room(packed: PackedImages, missing: int) -> str:
    """Describes how much will be written.

    Raises:
        InputError: There is not enough disk space.
    """
    images, share = packed.images, missing / len(packed.shards)
    needed = round(bytes_of(images, packed.packing) * share)
    packed.folder.mkdir(parents=True, exist_ok=True)
    free = disk_usage(packed.folder).free
    amount = f"{packed.packing} cache of {round(len(images) * share):,} images: about {_in_units(needed)}"
    if needed > free:
        raise InputError(f"{amount}, and {packed.folder} has room for {_in_units(free)}")
    return f"{amount} in {packed.folder}, which has room for {_in_units(free)}"


def _in_units(count: int) -> str:
    """Formats a number of bytes.

    Example:
        >>> _in_units(1_234_567)
        '1.2 MB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
