"""Reads labels from MATLAB files."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tlprune.data.listed import in_short
from tlprune.errors import InputError, require_extra

__all__ = ["read_mat"]

_Kind = TypeVar("_Kind", int, str)


def read_mat(file: Path, name: str, kind: type[_Kind], field: str | None = None) -> list[_Kind]:
    """Reads a vector of integers, a cell array of strings, or one field of a struct array.

    Args:
        file: A MATLAB file.
        name: Name of the variable, which has at least one entry.
        kind: Type of the values.
        field: Field to read from a struct array; None for any other variable.

    Returns:
        The value of each entry, in order.

    Raises:
        InputError: The file is unreadable, has no such variable or field, or values of another type; or SciPy is not
            installed.
    """
    require_extra(f"{file}: reading it", "scipy", "scipy", "mat")
    from scipy.io import loadmat

    try:
        content = loadmat(file, squeeze_me=True, variable_names=[name])
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except Exception as error:  # scipy can raise any error on damaged bytes
        raise InputError(f"{file}: not a MATLAB file: {' '.join(str(error).split())}") from error
    entries = np.atleast_1d(content.get(name, []))
    if entries.ndim != 1 or len(entries) == 0:
        raise InputError(f"{file}: no vector {name!r} in it")
    if field is None:
        return [_checked(value, kind, file, name) for value in entries]
    if field not in (entries.dtype.names or ()):
        raise InputError(f"{file}: {name!r} has no field {field!r}")
    return [_checked(value, kind, file, field) for value in entries[field]]


def _checked(value: Any, kind: type[_Kind], file: Path, name: str) -> _Kind:
    """Converts a MATLAB number or string to Python."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # MATLAB stores numbers as floats by default
    if not isinstance(value, (int, np.integer) if kind is int else str):
        raise InputError(f"{file}: {name!r} must hold {'integers' if kind is int else 'text'}, got {in_short(value)}")
    return kind(value)
