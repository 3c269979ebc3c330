"""Reads CIFAR-10 and CIFAR-100 from their pickle files without executing code that a pickle refers to."""

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
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.errors import InputError

__all__ = ["read_cifar10", "read_cifar100"]

_SIDE = 32


def read_cifar10(folder: Path) -> OfficialSplits:
    """Reads the folder ``cifar-10-batches-py`` into memory.

    Returns:
        Training and test images of 32 pixels. The paper probes them at 160 pixels; set ``image_size: 160`` for that.

    Raises:
        InputError: A file is missing, or is not a pickle of the expected content.
    """
    return _read(folder, "cifar10", "labels", "label_names")


def read_cifar100(folder: Path) -> OfficialSplits:
    """Reads the folder ``cifar-100-python`` as :func:`read_cifar10`, with the hundred fine labels."""
    return _read(folder, "cifar100", "fine_labels", "fine_label_names")


def _read(folder: Path, name: str, labels: str, label_names: str) -> OfficialSplits:
    *train, test, meta = (folder / file for file in TARGET_SETS[name].files)
    names = _load(meta).get(label_names)
    if not isinstance(names, list) or not names or not all(isinstance(one, str) and one.isprintable() for one in names):
        raise InputError(f"{meta}: {label_names!r} must be a list of class names, got {in_short(names)}")
    return OfficialSplits(_images(train, labels, names), None, _images([test], labels, names), "official")


def _images(files: Sequence[Path], key: str, names: Sequence[str]) -> TensorImages:
    batches = [_batch(file, key, len(names)) for file in files]
    pixels, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    return TensorImages(pixels, labels, names)


def _batch(file: Path, key: str, num_classes: int) -> tuple[Tensor, Tensor]:
    """Reads images ``[N, 3, 32, 32]`` uint8 and labels ``[N]`` int64 from one file."""
    content = _load(file)
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, _PickledArray) or len(data.shape) != 2 or data.shape[1] != 3 * _SIDE**2:
        got = f"shape {data.shape}" if isinstance(data, _PickledArray) else in_short(data)
        raise InputError(f"{file}: 'data' must be an array with {3 * _SIDE**2} columns, got {got}")
    if not isinstance(labels, list) or len(labels) != len(data.values):
        raise InputError(f"{file}: {key!r} must be a list of {len(data.values)} labels, got {in_short(labels)}")
    odd = [label for label in labels if type(label) is not int or not 0 <= label < num_classes]
    if odd:
        raise InputError(f"{file}: label {in_short(odd[0])} is not from 0 to {num_classes - 1}")
    return torch.from_numpy(data.values.reshape(-1, 3, _SIDE, _SIDE)), torch.tensor(labels, dtype=torch.int64)


def _load(file: Path) -> dict[str, Any]:
    """Reads the dictionary from a pickle of plain containers and uint8 arrays."""
    try:
        content = _Unpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except Exception as error:  # the unpickler can raise any error on damaged or hostile bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file}: not a Python file of CIFAR: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: not a Python file of CIFAR: expected a dictionary, got {type(content).__name__}")
    return content


class _PickledType:
    """Stand-in for ``numpy.dtype`` that only records the requested type code."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignores the state: byte order and alignment do not matter for single bytes."""


class _PickledArray:
    """Stand-in for ``numpy.ndarray`` that accepts only uint8 values."""

    shape: tuple[int, ...] = ()
    values: NDArray[np.uint8]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _PickledType, bool, str | bytes]) -> None:
        """Restores the array from its bytes; Python 3 reads bytes that Python 2 wrote as text."""
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _PickledType) or kind.code != "u1" or fortran:
            raise ValueError("an array that is not of uint8, row by row")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        # torch needs a writable array, so the values are copied
        self.values = np.frombuffer(content, np.uint8).reshape(shape).copy()
        self.shape = self.values.shape


def _reconstruct(*_: object) -> _PickledArray:
    """Stand-in for the function of numpy that creates an empty array before its state is restored."""
    return _PickledArray()


class _Unpickler(pickle.Unpickler):
    """Unpickler that resolves only three names, each to a harmless stand-in."""

    _known = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledType,
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Returns the stand-in for a name.

        Raises:
            UnpicklingError: The name is not one of the three.
        """
        if (module_name, global_name) not in self._known:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which is refused")
        return self._known[module_name, global_name]
