"""Digests of content, equal for equal content on every machine."""

import hashlib
import json
import os
from collections.abc import Mapping
from errno import EINVAL
from pathlib import Path
from stat import S_ISREG

import torch
from torch import Tensor

__all__ = ["digest_file", "digest_json", "digest_tensors"]


def digest_json(value: object) -> str:
    """Computes the SHA-256 of a JSON value with sorted keys.

    Args:
        value: Value that :mod:`json` can write.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Computes the SHA-256 of the names, dtypes, shapes and values of tensors, sorted by name.

    Args:
        tensors: Tensors by name, of any shape and dtype, on any device.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest_tensors({"a": torch.zeros(2)}) == digest_tensors({"a": torch.zeros(1, 2)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_file(path: str | os.PathLike[str]) -> str:
    """Computes the SHA-256 of the bytes of a file.

    Args:
        path: Path of the file.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read or is not a regular file; opening a named pipe would wait for a writer.
    """
    if not S_ISREG(os.stat(path).st_mode):
        raise OSError(EINVAL, "not a regular file", os.fspath(path))
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
