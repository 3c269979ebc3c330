"""Names of sources and targets that are files of features: ``features:FILE``. No file is opened."""

import os
from pathlib import Path
from typing import TypeGuard

from tlprune.errors import InputError
from tlprune.storage.paths import user_path

__all__ = ["SUFFIXES", "absolute_features", "check_features", "is_features", "require_feature_suffix", "sidecars"]

SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet")
"""Suffixes of files of features."""

_KIND = "features:"


def is_features(name: object) -> TypeGuard[str]:
    """Returns whether a source or target is named as a file of features, ``features:FILE``."""
    return isinstance(name, str) and name.startswith(_KIND) and not user_path(name).exists()


def check_features(name: str) -> Path:
    """Checks that there is a file of features, without opening it.

    Args:
        name: ``features:FILE``.

    Returns:
        The file.

    Raises:
        InputError: There is no such file, or its suffix is unknown.
    """
    file = user_path(name.removeprefix(_KIND))
    known = ", ".join(SUFFIXES)
    if name == _KIND:
        raise InputError(f"{name}: which file? one of {known}")
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{name}: features are read from {known}, not from {file.suffix or 'a file without suffix'}")
    if not file.is_file():
        raise InputError(f"{name}: {'a folder, not a file' if file.is_dir() else 'no such file'}")
    return file


def absolute_features(name: str) -> str:
    """Returns ``features:FILE`` with an absolute path."""
    return f"{_KIND}{user_path(name.removeprefix(_KIND)).absolute()}"


def require_feature_suffix(output: str | os.PathLike[str]) -> None:
    """Refuses to write features to a file of an unknown kind.

    Raises:
        InputError: Its suffix is unknown.
    """
    if user_path(output).suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot write {output}: features are written to {', '.join(SUFFIXES)}")


def sidecars(file: Path) -> tuple[Path, Path]:
    """The files beside an ``.npy``: paths and labels, and what ``tlprune embed`` records."""
    return file.with_suffix(".csv"), file.with_suffix(".json")
