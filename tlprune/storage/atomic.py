"""Atomic writes: a reader sees either the old file or the new one, never a part."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from tlprune.errors import InputError
from tlprune.storage.paths import user_path

__all__ = ["ABANDONED_AFTER", "atomic_folder", "atomic_path", "write_bytes"]

ABANDONED_AFTER = 24 * 3600.0
"""Seconds without a change after which the next writer of a name removes temporary files of killed processes."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Provides a temporary path to write a file to, which replaces ``path`` on success and is removed on failure.

    The file is flushed to disk before it is renamed, and its folder after, so that a crash at any time leaves the
    previous file or the new one. The file is written in a temporary folder next to ``path``, because libraries may
    create temporary files of their own. Folders left by killed processes are removed after :data:`ABANDONED_AFTER`.

    Args:
        path: Final path of the file. Its folder is created.

    Yields:
        The path to write to, which does not exist yet.

    Raises:
        InputError: The folder cannot be created or written to, or the disk is full.
    """
    final = user_path(path)
    with _named_errors(f"cannot write {final}"), _folder_beside(final) as folder:
        temporary = folder / "file.part"
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        _fsync(temporary)
        os.replace(temporary, final)
        _fsync(final.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Provides a temporary folder next to ``path``, which is renamed to ``path`` on success and removed on failure.

    Args:
        path: Final path of the folder, which must not exist yet.

    Yields:
        The folder to write to.

    Raises:
        InputError: The folder cannot be created, or the disk is full.
    """
    final = user_path(path)
    with _named_errors(f"cannot create {final}"), _folder_beside(final) as temporary:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.replace(temporary, final)
        _fsync(final.parent)


def write_bytes(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Writes ``content`` to ``path`` atomically.

    Args:
        path: Path of the file.
        content: All bytes of the file.

    Raises:
        InputError: As in :func:`atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _named_errors(what: str) -> Iterator[None]:
    """Converts errors of the operating system to InputError with the failed operation in the message."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: {error.strerror or error}") from error
    except SafetensorError as error:  # contains the error number of the operating system
        if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise InputError(f"{what}: {os.strerror(int(number[1]))}") from error


@contextmanager
def _folder_beside(final: Path) -> Iterator[Path]:
    """Creates a temporary folder on the file system of ``final`` and removes it at the end if it still exists."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(final)
    folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(final: Path) -> None:
    """Removes temporary folders for the same name without a change in the last :data:`ABANDONED_AFTER` seconds."""
    ours = re.compile(rf"\.{re.escape(final.name)}\.\w{{8}}\.part")
    with suppress(OSError):  # two processes may clean up at once, and a folder may be writable but not readable
        for folder in [final.parent / name for name in os.listdir(final.parent) if ours.fullmatch(name)]:
            last_change = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
            if time.time() - last_change > ABANDONED_AFTER:
                shutil.rmtree(folder)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
