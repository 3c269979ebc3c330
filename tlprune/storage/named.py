"""What a configuration names beside its own values: files, and classes of the user's own code."""

import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tlprune.storage.fingerprint import digest_file, digest_json
from tlprune.storage.paths import user_path

__all__ = ["class_paths", "digest_code", "digest_named_files", "digest_own_code"]

_LARGE = 2**31
"""Files of so many bytes are known by size and time of change."""


def class_paths(config: Any) -> Iterator[str]:
    """Every class path of a nested configuration.

    Args:
        config: Mappings, lists and plain values.
    """
    return (value for name, value in _values(config) if name == "class_path" and isinstance(value, str))


def digest_named_files(config: Any) -> dict[str, str]:
    """Digests of the files that a nested configuration names: weights, lists, Selections.

    Args:
        config: Mappings, lists and plain values.
    """
    texts = {value for _, value in _values(config) if isinstance(value, str) and len(value) < 4096}
    return {name: _digest(user_path(name)) for name in sorted(texts) if "\0" not in name and user_path(name).is_file()}


def digest_code(class_path: str) -> str:
    """Digest of the file that a user's class is in; of what is installed, of its name alone.

    Args:
        class_path: Of the class.
    """
    file = _own_file(class_path)
    return digest_json(class_path) if file is None else digest_file(file)


def digest_own_code(names: Iterable[str]) -> dict[str, str]:
    """Digests of the files that users' classes are in, by class path; of what is installed there are none.

    Args:
        names: Class paths.
    """
    return {name: digest_file(file) for name in sorted(set(names)) if (file := _own_file(name)) is not None}


def _values(config: Any) -> Iterator[tuple[str, Any]]:
    """Every value, with the name that it has."""
    for name, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, (dict, list)):
            yield from _values(value)
        else:
            yield str(name), value


def _digest(file: Path) -> str:
    found = file.stat()
    return digest_file(file) if found.st_size < _LARGE else f"{found.st_size} bytes of {found.st_mtime_ns}"


def _own_file(class_path: str) -> str | None:
    """Where a user's class is written; None for what is installed, and for a bare name."""
    name = class_path
    while name := name.rpartition(".")[0]:  # a class inside a class has no module of its own
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
