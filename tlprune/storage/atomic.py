"""Writing so that a reader sees the old file or the new one, never a part."""

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
"""Seconds without a change after which what a killed process left behind is removed by the next to write that name."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write a file to; on success it replaces ``path``, else it is removed.

    The file is flushed to disk before it takes its name, and the folder after, so that a crash at any moment leaves
    the previous file or the new one. It is written in a folder of its own beside ``path``, since libraries that write
    make temporary files too; what a killed process left there goes after :data:`ABANDONED_AFTER`.

    Args:
        path: Where the file shall be. Its folder is created.

    Yields:
        The path to write; nothing is there yet.

    Raises:
        InputError: The folder cannot be made or written to, or the disk is full.
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
    """Gives a temporary folder beside ``path`` to fill; on success it becomes ``path``, else it is removed.

    Args:
        path: Where the folder shall be; it must not exist yet.

    Yields:
        The folder to fill.

    Raises:
        InputError: The folder cannot be made, or the disk is full.
    """
    final = user_path(path)
    with _named_errors(f"cannot create {final}"), _folder_beside(final) as temporary:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.replace(temporary, final)
        _fsync(final.parent)


def write_bytes(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Writes ``content`` to ``path`` at once and whole.

    Args:
        path: The file.
        content: All of its bytes.

    Raises:
        InputError: As :func:`atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _named_errors(what: str) -> Iterator[None]:
    """The operating system's errors, with what could not be done."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: {error.strerror or error}") from error
    except SafetensorError as error:  # wraps the operating system's number in words of its own
        if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise InputError(f"{what}: {os.strerror(int(number[1]))}") from error


@contextmanager
def _folder_beside(final: Path) -> Iterator[Path]:
    """A temporary folder on the file system of ``final``, removed in the end if it is still there."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(final)
    folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(final: Path) -> None:
    """Removes temporary folders for the same name in which nothing has changed for so long that no process writes."""
    ours = re.compile(rf"\.{re.escape(final.name)}\.\w{{8}}\.part")
    with suppress(OSError):  # two processes may sweep at once, and a folder may be writable but not readable
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
