"""Labels in MATLAB files."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tlprune.data.listed import in_short
from tlprune.errors import InputError

__all__ = ["read_field", "read_vector"]

_Kind = TypeVar("_Kind", int, str)


def read_vector(file: Path, name: str, kind: type[_Kind]) -> list[_Kind]:
    """Reads a vector of integers or a cell array of texts, of at least one entry.

    Args:
        file: A MATLAB file.
        name: Of the variable.
        kind: What it holds.

    Returns:
        Its entries, in order.

    Raises:
        InputError: The file is unreadable, or has no such variable.
    """
    return [_checked(value, kind, file, name) for value in _variable(file, name)]


def read_field(file: Path, name: str, field: str, kind: type[_Kind]) -> list[_Kind]:
    """Reads one field of each entry of a struct array.

    Args:
        file: A MATLAB file.
        name: Of the struct array.
        field: Of its entries.
        kind: What the field holds.

    Returns:
        The field of each entry, in order.

    Raises:
        InputError: The file is unreadable, or has no such variable or field.
    """
    entries = _variable(file, name)
    if field not in (entries.dtype.names or ()):
        raise InputError(f"{file}: {name!r} has no field {field!r}")
    return [_checked(value, kind, file, field) for value in entries[field]]


def _variable(file: Path, name: str) -> Any:
    """A variable as a vector of at least one entry."""
    from scipy.io import loadmat

    try:
        content = loadmat(file, squeeze_me=True, variable_names=[name])
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes make scipy raise anything
        raise InputError(f"{file}: not a MATLAB file: {' '.join(str(error).split())}") from error
    found = np.atleast_1d(content.get(name, []))
    if found.ndim != 1 or len(found) == 0:
        raise InputError(f"{file}: no vector {name!r} in it")
    return found


def _checked(value: Any, kind: type[_Kind], file: Path, name: str) -> _Kind:
    """A number or a text of MATLAB as Python has it."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # MATLAB's numbers are floats unless told otherwise
    if not isinstance(value, (int, np.integer) if kind is int else str):
        raise InputError(f"{file}: {name!r} must hold {'integers' if kind is int else 'text'}, got {in_short(value)}")
    return kind(value)
