"""CIFAR-10 and CIFAR-100 from their Python files, which are pickles: read without running what a pickle can name."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlprune.data.datasets import TensorImages
from tlprune.data.listed import OfficialSplits, in_short
from tlprune.errors import InputError

__all__ = ["CIFAR10_FILES", "CIFAR100_FILES", "read_cifar10", "read_cifar100"]

CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
"""Training files, the test file, and the file of class names."""
CIFAR100_FILES = ("train", "test", "meta")
"""Likewise."""

_SIDE = 32


def read_cifar10(folder: Path) -> OfficialSplits:
    """Reads the folder ``cifar-10-batches-py`` into memory.

    Args:
        folder: It holds :data:`CIFAR10_FILES`.

    Returns:
        Training and test images of 32 pixels. The paper probes them at 160: set ``image_size: 160`` for that.

    Raises:
        InputError: A file is missing, or is no such pickle.
    """
    return _read(folder, CIFAR10_FILES, "labels", "label_names")


def read_cifar100(folder: Path) -> OfficialSplits:
    """Reads the folder ``cifar-100-python`` into memory, with its hundred fine labels.

    Args:
        folder: It holds :data:`CIFAR100_FILES`.

    Returns:
        Training and test images of 32 pixels. The paper probes them at 160: set ``image_size: 160`` for that.

    Raises:
        InputError: A file is missing, or is no such pickle.
    """
    return _read(folder, CIFAR100_FILES, "fine_labels", "fine_label_names")


def _read(folder: Path, files: Sequence[str], labels: str, label_names: str) -> OfficialSplits:
    *train, test, meta = (folder / name for name in files)
    names = _load(meta).get(label_names)
    if not isinstance(names, list) or not names or not all(isinstance(one, str) and one.isprintable() for one in names):
        raise InputError(f"{meta}: {label_names!r} must be a list of class names, got {in_short(names)}")
    return OfficialSplits(_images(train, labels, names), None, _images([test], labels, names), "official")


def _images(files: Sequence[Path], key: str, names: Sequence[str]) -> TensorImages:
    batches = [_batch(file, key, len(names)) for file in files]
    pixels, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    return TensorImages(pixels, labels, names)


def _batch(file: Path, key: str, num_classes: int) -> tuple[Tensor, Tensor]:
    """Images ``[N, 3, 32, 32]`` uint8 and labels ``[N]`` int64 of one file."""
    content = _load(file)
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, _PickledArray) or len(data.shape) != 2 or data.shape[1] != 3 * _SIDE**2:
        given = f"shape {data.shape}" if isinstance(data, _PickledArray) else in_short(data)
        raise InputError(f"{file}: 'data' must be an array with {3 * _SIDE**2} columns, got {given}")
    if not isinstance(labels, list) or len(labels) != len(data.values):
        raise InputError(f"{file}: {key!r} must be a list of {len(data.values)} labels, got {in_short(labels)}")
    odd = [one for one in labels if type(one) is not int or not 0 <= one < num_classes]
    if odd:
        raise InputError(f"{file}: label {in_short(odd[0])} is not from 0 to {num_classes - 1}")
    return torch.from_numpy(data.values.reshape(-1, 3, _SIDE, _SIDE)), torch.tensor(labels, dtype=torch.int64)


def _load(file: Path) -> dict[str, Any]:
    """The dictionary in a pickle of plain containers and arrays of uint8."""
    try:
        content = _Unpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except Exception as error:  # damaged or hostile bytes make an unpickler raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file}: not one of CIFAR's Python files: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: not one of CIFAR's Python files: no dictionary")
    return content


class _PickledType:
    """Stands in for ``numpy.dtype``: says what it was asked for, and builds nothing."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: of no matter to single bytes."""


class _PickledArray:
    """Stands in for ``numpy.ndarray``: takes bytes, and nothing else."""

    shape: tuple[int, ...] = ()
    values: NDArray[np.uint8]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _PickledType, bool, str | bytes]) -> None:
        """Takes the array's bytes; Python 2 wrote them as what Python 3 reads as text."""
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _PickledType) or kind.code != "u1" or fortran:
            raise ValueError("an array that is not of uint8, row by row")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        # a copy, since torch wants to own what it may write to
        self.values = np.frombuffer(content, np.uint8).reshape(shape).copy()
        self.shape = self.values.shape


def _reconstruct(*_: object) -> _PickledArray:
    """Stands in for numpy's function of this name, which makes an empty array to be filled."""
    return _PickledArray()


class _Unpickler(pickle.Unpickler):
    """Knows three names, and gives a harmless stand-in for each."""

    _known = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledType,
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The stand-in.

        Raises:
            UnpicklingError: The name is any other.
        """
        if (module_name, global_name) not in self._known:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which is refused")
        return self._known[module_name, global_name]
