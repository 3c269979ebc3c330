"""Files of torch: written at once and whole, with a checksum inside, and read without executing anything.

A file that :func:`torch.save` writes is a zip archive, and a zip archive has room for a comment at its very end. There
the SHA-256 of all bytes before goes: one file, which torch and everybody else read as ever. Files of others have no
such comment; of those the checks are made that the archive itself allows, a CRC-32 for each tensor, which torch skips.
"""

import hashlib
import os
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from tlprune.errors import InputError
from tlprune.storage.atomic import write_bytes
from tlprune.storage.paths import user_path

__all__ = ["check_whole", "load_torch", "newest_whole", "save_torch"]

_END = b"PK\x05\x06"  # of the record that closes a zip archive: 22 bytes, the last two the length of the comment
_END_LENGTH = 22
_LONGEST_COMMENT = 65535
_MARK = b"tlprune sha256 "
_DIGITS = 64
_CHUNK = 1 << 22


def save_torch(content: object, path: str | os.PathLike[str]) -> None:
    """Writes what :func:`torch.save` takes; at any moment the file is the previous one or the new one.

    Args:
        content: Tensors, plain values and containers of them, so that :func:`load_torch` can read it.
        path: The file. Its folder is created.

    Raises:
        InputError: It cannot be written, or the disk is full; the previous file is still there.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    buffer.seek(-2, os.SEEK_END)
    buffer.write(struct.pack("<H", len(_MARK) + _DIGITS))
    buffer.write(_MARK + hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    write_bytes(path, buffer.getbuffer())


def load_torch(path: str | os.PathLike[str]) -> Any:
    """Reads a file of :func:`torch.save` to the CPU: tensors, plain values and containers, and nothing that runs.

    Args:
        path: The file, ours or another's.

    Returns:
        Its content.

    Raises:
        InputError: The file is missing, damaged, or holds more than that.
    """
    check_whole(path)
    try:
        # said in so many words, since an environment variable can change the default
        return torch.load(user_path(path), map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: damaged, or holds more than tensors and is not loaded ({reason[:120]})") from error


def check_whole(path: str | os.PathLike[str]) -> None:
    """Refuses a damaged file of torch; of a format that has no checks, nothing is said.

    Args:
        path: The file.

    Raises:
        InputError: It is missing, cut off, or a byte of it has changed.
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
    """The newest checkpoint of a folder that is not damaged.

    Args:
        folder: It holds files ``.ckpt``.
        but: One that is left out.

    Returns:
        None where there is none.
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
    """Where the archive's comment begins, and the comment; None where the file is no archive."""
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
    """SHA-256 of the first ``count`` bytes."""
    digest = hashlib.sha256()
    file.seek(0)
    while count > 0 and (chunk := file.read(min(count, _CHUNK))):
        digest.update(chunk)
        count -= len(chunk)
    return digest.hexdigest()
