"""The cache folder of work on images, which is one for the moment where the images change each time they are read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from warnings import warn

from tlprune.data.datasets import ImageSet
from tlprune.distributed import barrier, broadcast_from_rank0, rank_and_world
from tlprune.errors import InputError

__all__ = ["cache_for", "changing"]

_warned: set[str] = set()
"""Data sets that were warned about: one warning for each is enough."""


def changing(sets: Sequence[ImageSet]) -> ImageSet | None:
    """Returns the first set whose images change each time they are read; None if none does."""
    return next((images for images in sets if not images.is_reproducible), None)


@contextmanager
def cache_for(sets: Sequence[ImageSet], cache: Path) -> Iterator[Path]:
    """Yields the cache folder for work on some sets. Every rank must enter this context.

    If images of a set change each time they are read, nothing of it is cached: the folder is a new one, which is
    removed at the end. One warning says so.

    Raises:
        InputError: The cache cannot be written.
    """
    images = changing(sets)
    if images is None:
        yield cache
        return
    rank = rank_and_world()[0]
    name = images.name(0).partition("[")[0]
    if rank == 0 and name not in _warned:
        _warned.add(name)
        what = "its samples change each time they are read, so nothing of it is cached"
        warn(f"{name}: {what}; give it without random transforms, or with a `fingerprint`", stacklevel=4)
    folder = broadcast_from_rank0(lambda: _make(cache))
    try:
        yield folder
        barrier()
    finally:
        if rank == 0:
            rmtree(folder, ignore_errors=True)


def _make(cache: Path) -> Path:
    try:
        (cache / "uncached").mkdir(parents=True, exist_ok=True)
        return Path(mkdtemp(dir=cache / "uncached"))
    except OSError as error:
        raise InputError(f"cannot write {cache / 'uncached'}: {error.strerror or error}") from error
