"""The cache folder, for results that can be computed again."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from warnings import warn

from filelock import FileLock, Timeout

from tlprune.errors import InputError
from tlprune.storage.paths import user_path

__all__ = ["cache_root", "forget", "locked"]

_SILENT = 5.0
"""Seconds of waiting for another job without a warning."""


def cache_root(folder: str | os.PathLike[str] | None = None) -> Path:
    """Returns the cache folder: ``folder``, else ``$TLPRUNE_CACHE``, else ``tlprune`` in the user's cache folder.

    Args:
        folder: Folder chosen by the user, or None.

    Returns:
        An absolute path, which may not exist yet.
    """
    if folder is not None:
        return user_path(folder).absolute()
    if chosen := os.environ.get("TLPRUNE_CACHE"):
        return user_path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base).absolute() / "tlprune"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks a path of the cache, so that other processes wait and then use the finished result.

    The lock is a lock of the operating system on ``path`` with the suffix ``.lock``. It is released immediately when
    its process ends for any reason.

    If the cache is read-only and ``path`` exists, no lock is taken.

    Args:
        path: File or folder of the cache that is created.

    Raises:
        InputError: The cache cannot be written.
    """
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_SILENT)
        except Timeout:
            warn(f"{path}: another process is creating it; waiting for that process", stacklevel=4)
            lock.acquire()
    except OSError as error:
        if not path.exists():
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def forget(*paths: Path) -> None:
    """Removes files or folders of the cache if they exist."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
