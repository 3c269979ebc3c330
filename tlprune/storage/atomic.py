"""Writing so that a reader sees the old file or the new one, never a part."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlprune.errors import InputError

__all__ = ["atomic_folder", "atomic_path", "write_bytes"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` to write to; on success it replaces ``path``, else it is removed.

    The file is flushed to disk before it takes its name, and the folder after, so that a crash at any moment leaves
    the previous file or the new one.

    Args:
        path: Where the file shall be. Its folder is created.

    Yields:
        The path to write.

    Raises:
        InputError: The folder cannot be made or written to, or the disk is full.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        _fsync(temporary)
        os.replace(temporary, final)
        _fsync(final.parent)
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


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
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    except OSError as error:
        raise InputError(f"cannot create {final}: {error.strerror or error}") from error
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.replace(temporary, final)
        _fsync(final.parent)
    except OSError as error:
        raise InputError(f"cannot create {final}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
