"""Where tlprune keeps what it can make again."""

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
"""Seconds for which another job is waited for without a word."""


def cache_root(folder: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the one given, else ``$TLPRUNE_CACHE``, else ``tlprune`` in the user's cache folder.

    Args:
        folder: A folder that the user chose, or None.

    Returns:
        An absolute path, which need not exist yet.
    """
    if folder is not None:
        return user_path(folder).absolute()
    if chosen := os.environ.get("TLPRUNE_CACHE"):
        return user_path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base).absolute() / "tlprune"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from making the same thing meanwhile; they wait, and then find it made.

    The lock is one of the operating system, on ``path`` with ``.lock`` after it: it is free again at once when the
    process that holds it is gone, however it went.

    Where the cache can only be read and ``path`` is there, it is used without a lock.

    Args:
        path: What is made: a file or folder of the cache.

    Raises:
        InputError: The cache cannot be written.
    """
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_SILENT)
        except Timeout:
            warn(f"{path}: another process is making it; waiting for it to end", stacklevel=4)
            lock.acquire()
    except OSError as error:
        if not path.exists():
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def forget(*paths: Path) -> None:
    """Removes files or folders of the cache, if they are there."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
