"""Digests of content, equal for equal content on every machine."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from errno import EINVAL
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any

import torch
from torch import Tensor

__all__ = ["digest_file", "digest_json", "digest_tensors"]

_AT_ONCE = 2**14


def digest_json(value: object) -> str:
    """Computes the SHA-256 of a JSON value with sorted keys.

    A list may hold sequences that :mod:`json` cannot write, such as tensors of one dimension and lists of paths. They
    count as lists, and are written block by block, so that no second copy of a long one is made.

    Args:
        value: Value that :mod:`json` can write, but for such sequences.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
        True
        >>> digest_json(["a", torch.arange(3)]) == digest_json(["a", [0, 1, 2]])
        True
    """
    digest = hashlib.sha256()
    for text in _json_parts(value):
        digest.update(text.encode())
    return digest.hexdigest()


def _json_parts(value: object) -> Iterator[str]:
    if isinstance(value, list) and any(map(_is_long, value)):
        yield "["
        for place, item in enumerate(value):
            yield "," if place else ""
            yield from _long_parts(item) if _is_long(item) else [_json(item)]
        yield "]"
    else:
        yield from _long_parts(value) if _is_long(value) else [_json(value)]


def _is_long(value: object) -> bool:
    if isinstance(value, str | bytes | list | tuple):
        return False
    return value.ndim == 1 if isinstance(value, Tensor) else isinstance(value, Sequence)


def _long_parts(value: Any) -> Iterator[str]:
    blocks = torch.split(value, _AT_ONCE) if isinstance(value, Tensor) else _blocks(value)
    yield "["
    for place, block in enumerate(blocks if len(value) else ()):
        yield ("," if place else "") + _json(block.tolist() if isinstance(block, Tensor) else block)[1:-1]
    yield "]"


def _blocks(value: Iterable[Any]) -> Iterator[list[Any]]:
    entries = iter(value)  # a list of paths reads them in order faster than by place
    while block := list(islice(entries, _AT_ONCE)):
        yield block


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


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

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read or is not a regular file; opening a named pipe would wait for a writer.
    """
    if not S_ISREG(os.stat(path).st_mode):
        raise OSError(EINVAL, "not a regular file", os.fspath(path))
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
