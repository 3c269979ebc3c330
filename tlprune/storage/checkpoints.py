"""Torch files that are written atomically with a checksum and read without executing code.

A file of :func:`torch.save` is a zip archive, which may end with a comment. The comment stores the SHA-256 of all bytes
before it, and the file stays readable by torch and other programs. Files without such a comment are checked by the
CRC-32 of each tensor in the archive, which torch does not verify.
"""

import argparse
import hashlib
import os
import re
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch.serialization import safe_globals

from tlprune.errors import InputError
from tlprune.storage.atomic import write_bytes
from tlprune.storage.paths import user_path

__all__ = ["check_whole", "load_torch", "newest_whole", "save_torch"]

_END = b"PK\x05\x06"  # start of the last record of a zip archive: 22 bytes, the last two the length of the comment
_END_LENGTH = 22
_LONGEST_COMMENT = 65535
_MARK = b"tlprune sha256 "
_DIGITS = 64
_CHUNK = 1 << 22
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
"""What torch names that a file holds and that is not loaded."""


def save_torch(content: object, path: str | os.PathLike[str]) -> None:
    """Writes a file like :func:`torch.save`, atomically and with a checksum.

    Args:
        content: Tensors, plain values and containers of them, which :func:`load_torch` can read.
        path: Path of the file. Its folder is created.

    Raises:
        InputError: The file cannot be written, or the disk is full; a previous file is unchanged.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    buffer.seek(-2, os.SEEK_END)
    buffer.write(struct.pack("<H", len(_MARK) + _DIGITS))
    buffer.write(_MARK + hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    write_bytes(path, buffer.getbuffer())


def load_torch(path: str | os.PathLike[str]) -> Any:
    """Reads a file of :func:`torch.save` to the CPU, restricted to tensors, plain values and containers.

    ``argparse.Namespace`` is such a container: many training scripts save their arguments in it.

    Args:
        path: Path of the file, written by tlprune or another program.

    Returns:
        The content of the file.

    Raises:
        InputError: The file is missing, damaged, or contains other objects.
    """
    check_whole(path)
    try:
        with safe_globals([argparse.Namespace]):
            # explicit, because an environment variable can change the default
            return torch.load(user_path(path), map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or damaged file can raise any error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if refused := _REFUSED.search(str(error)):
            reason = f"it holds {refused[1]}"
        raise InputError(f"{path}: damaged, or holds more than tensors and is not loaded ({reason[:120]})") from error


def check_whole(path: str | os.PathLike[str]) -> None:
    """Checks that a torch file is not damaged; files in formats without checksums pass.

    Raises:
        InputError: The file is missing or truncated, or a byte has changed.
    """
    try:
        with user_path(path).open("rb") as file:
            comment_at, comment = _comment(file, path)
            if comment_at is None:
                return
            if len(comment) == len(_MARK) + _DIGITS:
                if comment != _MARK + _digest(file, comment_at).encode():
                    raise InputError(f"{path}: damaged: its checksum does not match")
            elif (bad := zipfile.ZipFile(file).testzip()) is not None:
                raise InputError(f"{path}: damaged: the checksum of {bad} in it does not match")
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: damaged: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def newest_whole(folder: Path, but: Path | None = None) -> Path | None:
    """Returns the newest undamaged checkpoint of a folder.

    Args:
        folder: Folder with files ``*.ckpt``.
        but: Checkpoint to skip.

    Returns:
        Path of the checkpoint; None if there is none.
    """
    found = [path for path in folder.glob("*.ckpt") if path.is_file() and path.resolve() != (but and but.resolve())]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            check_whole(path)
        except InputError:
            continue
        return path
    return None


def _comment(file: Any, path: str | os.PathLike[str]) -> tuple[int | None, bytes]:
    """Returns the position of the archive's comment and the comment; the position is None for other files."""
    begins_as_archive = file.read(4) == b"PK\x03\x04"
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise InputError(f"{path}: damaged: it is empty")
    file.seek(-min(size, _END_LENGTH + _LONGEST_COMMENT), os.SEEK_END)
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or end + _END_LENGTH > len(tail):
        if begins_as_archive:
            raise InputError(f"{path}: damaged: its end is missing")
        return None, b""
    comment = tail[end + _END_LENGTH :]
    (length,) = struct.unpack("<H", tail[end + _END_LENGTH - 2 : end + _END_LENGTH])
    if length != len(comment) or not begins_as_archive:
        raise InputError(f"{path}: damaged: not the archive that it was")
    return size - len(comment), comment


def _digest(file: Any, count: int) -> str:
    """Computes the SHA-256 of the first ``count`` bytes."""
    digest = hashlib.sha256()
    file.seek(0)
    while count > 0 and (chunk := file.read(min(count, _CHUNK))):
        digest.update(chunk)
        count -= len(chunk)
    return digest.hexdigest()
