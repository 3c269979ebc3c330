"""Digests that name a content: the same content has the same digest on every machine."""

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
    """SHA-256 of a JSON value, keys sorted.

    Args:
        value: Anything that :mod:`json` can write.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and values, in the order of the names.

    Args:
        tensors: Tensors of any shape and dtype, on any device.

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
    """SHA-256 of a file's bytes.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read, or is no regular one: to open a named pipe would wait for a writer.
    """
    if not S_ISREG(os.stat(path).st_mode):
        raise OSError(EINVAL, "not a regular file", os.fspath(path))
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
