"""Finds and digests files and classes of user code that a configuration refers to."""

import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tlprune.storage.fingerprint import digest_file, digest_json
from tlprune.storage.paths import user_path

__all__ = ["class_paths", "digest_code", "digest_named_files", "digest_own_code"]

_TRANSFORMS = ("transform", "eval_transform")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")

_LARGE = 2**31
"""Size in bytes from which on files are identified by size and modification time instead of a digest."""


def class_paths(config: Any) -> Iterator[str]:
    """Returns every class path in a nested configuration, and paths of functions that transform images.

    Args:
        config: Mappings, lists and plain values.
    """
    for name, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, (dict, list)):
            yield from _in_transform(value) if name in _TRANSFORMS else class_paths(value)
        elif isinstance(value, str) and (name == "class_path" or (name in _TRANSFORMS and _DOTTED.fullmatch(value))):
            yield value


def _in_transform(config: Any) -> Iterator[str]:
    """Returns every string in a transform that may be the path of a class or of a function."""
    values = ((name, value) for name, value in _values(config) if isinstance(value, str))
    return (value for name, value in values if name == "class_path" or _DOTTED.fullmatch(value))


def digest_named_files(config: Any) -> dict[str, str]:
    """Returns digests of the files in a nested configuration, such as weights, lists and Selections, by path.

    Args:
        config: Mappings, lists and plain values.
    """
    texts = {value for _, value in _values(config) if isinstance(value, str) and len(value) < 4096}
    return {name: _digest(user_path(name)) for name in sorted(texts) if "\0" not in name and user_path(name).is_file()}


def digest_code(class_path: str) -> str:
    """Computes the digest of the source file of a user's class; for installed classes, the digest of the name.

    Args:
        class_path: Import path of the class.
    """
    file = _own_file(class_path)
    return digest_json(class_path) if file is None else digest_file(file)


def digest_own_code(names: Iterable[str]) -> dict[str, str]:
    """Returns digests of the source files of users' classes by class path, without installed classes.

    Args:
        names: Import paths of classes.
    """
    return {name: digest_file(file) for name in sorted(set(names)) if (file := _own_file(name)) is not None}


def _values(config: Any) -> Iterator[tuple[str, Any]]:
    """Returns every nested value with its name."""
    for name, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, (dict, list)):
            yield from _values(value)
        else:
            yield str(name), value


def _digest(file: Path) -> str:
    status = file.stat()
    return digest_file(file) if status.st_size < _LARGE else f"{status.st_size} bytes of {status.st_mtime_ns}"


def _own_file(class_path: str) -> str | None:
    """Returns the source file of a user's class; None for installed classes and for bare names."""
    name = class_path
    while name := name.rpartition(".")[0]:  # the parent of a nested class is not a module
        try:
            module = import_module(name)
            break
        except (ImportError, ValueError):
            continue
    else:
        return None
    file = inspect.getsourcefile(module) if hasattr(module, "__file__") else None
    installed = file is None or "site-packages" in file or module.__name__.split(".")[0] == "tlprune"
    return None if installed else file
