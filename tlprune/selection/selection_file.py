"""The file of a saved Selection: safetensors with a checked JSON header. Nothing in it is executed.

Files come from others, so every part of the header that is used is checked.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tlprune.errors import InputError
from tlprune.preprocessing import Preprocessing
from tlprune.storage.atomic import atomic_path
from tlprune.storage.fingerprint import digest_json, digest_tensors
from tlprune.storage.paths import user_path

__all__ = ["OPTIONAL", "SCHEMA", "TENSORS", "check_selection_file", "reading_selection_file", "write_selection_file"]

SCHEMA = 3
"""Version of the file's layout. Layout 3 may hold the tensors of :data:`OPTIONAL`; without any, layout 2 is written."""

TENSORS = {
    "ranking": torch.int64,
    "votes": torch.float64,
    "scores": torch.float64,
    "unit_of_sample": torch.int32,
    "ballots": torch.int64,
    "target_votes": torch.float64,
}
"""Names in the file, and dtypes."""

OPTIONAL = {"asked_by": torch.int32, "centroids": torch.float32}
"""Tensors that are in a file only where they have entries."""

# a form is a type, a list of one form for every entry, or an object of forms by key; other keys may be there too
_HEADER: dict[str, Any] = {
    "schema": int,
    "method": str,
    "unit_names": [str],
    "unit_kind": str,
    "covers_each_target": bool,
    "settings": {},
    "record": {},
}
_WHERE_PRESENT: dict[str, dict[str, Any]] = {
    "settings": {
        "options": {},
        "source_digest": str,
        "surrogate_digest": str,
        "targets": [{"digest": str, "images": int}],
        "several_targets": {"combine": str, "weights": object},
        "view": {"view": str, "image_size": int},
    },
    "record": {
        "source": str,
        "targets": [str],
        "surrogates": [str],
        "surrogate_seconds": float,
        "seconds": {},
        "image_size": int,
        "target_seed": int,
        "surrogate_backbone": str,
    },
}
_MAY_BE_NULL = {"source_digest", "surrogate_digest", "several_targets", "view"}

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
_WORDS |= {dict: "an object"}
_LARGEST = 2**63
_LEVELS = 32
"""Lists and objects inside each other; far fewer than Python's own limit, where every later step could fail."""


def write_selection_file(path: str | os.PathLike[str], header: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes the file, whole or not at all.

    Args:
        path: The file.
        header: JSON values.
        tensors: One for each name of :data:`TENSORS`, and any of :data:`OPTIONAL`.

    Raises:
        InputError: The file cannot be written, or its header would be refused when it is read.
    """
    _check_header(header)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}  # votes and scores may share their memory
    checksum = digest_json([header, digest_tensors(copies)])
    metadata = {"tlprune": "selection", "header": json.dumps(header, sort_keys=True), "checksum": checksum}
    with atomic_path(path) as temporary:
        save_file(copies, temporary, metadata)


def check_selection_file(path: str, argument: str = "selection") -> None:
    """Refuses a file that is not there, without opening it.

    Raises:
        InputError: It is a URL, a folder, or missing.
    """
    if "://" in path:
        raise InputError(f"{argument} {path}: read from local files only; download the file first")
    if not (file := user_path(path)).is_file():
        raise InputError(f"{argument} {path}: {'a folder, not a file' if file.is_dir() else 'no such file'}")


@contextmanager
def reading_selection_file(path: str | os.PathLike[str]) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Reads the header and the tensors of a file; names the file in every error that is raised meanwhile.

    Raises:
        InputError: The file is missing, damaged, of a newer layout, or no selection.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"a Selection or the path of its file is needed, got {type(path).__name__}")
    file = user_path(path)
    if not file.is_file():
        raise InputError(f"{path}: {'a folder, not a selection' if file.is_dir() else 'no such selection'}")
    try:
        yield _read(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise InputError(f"{path}: damaged or not a selection ({type(error).__name__})") from error


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("tlprune") != "selection":
            raise InputError("not a selection of tlprune")
        header = json.loads(metadata["header"])
        if header["schema"] not in (2, SCHEMA):
            age = "a newer" if header["schema"] > SCHEMA else "an older"
            raise InputError(f"written by {age} tlprune (layout {header['schema']}, known {SCHEMA})")
        known = TENSORS | (OPTIONAL if header["schema"] == SCHEMA else {})
        if not TENSORS.keys() <= set(file.keys()) <= known.keys():
            raise InputError("damaged or not a selection (its tensors have other names)")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    if metadata["checksum"] != digest_json([header, digest_tensors(tensors)]):
        raise InputError("damaged, its checksum does not match")
    _check_header(header)
    for name, tensor in tensors.items():
        if tensor.dtype != known[name]:
            raise InputError(f"`{name}` of a selection must be {known[name]}, got {tensor.dtype}")
    return header, tensors


def _check_header(header: object) -> None:
    """Refuses a header in which something that is used of it is missing, or of the wrong type.

    Raises:
        InputError: What is wrong, by its place.
    """
    if not _is_shallow(header, _LEVELS):
        raise InputError(f"its header has more than {_LEVELS} levels")
    _check(header, _HEADER, "header")
    parts: Any = header
    for part, forms in _WHERE_PRESENT.items():
        given = parts[part]
        nulls = {key for key in _MAY_BE_NULL if given.get(key, "") is None}
        _check(given, {key: form for key, form in forms.items() if key in given and key not in nulls}, part)
    try:
        Preprocessing.from_transform_config(parts["settings"].get("view") or {})
    except InputError as error:
        raise InputError(f"`settings.transform`: {error}") from error
    for stage, seconds in parts["record"].get("seconds", {}).items():
        _check(seconds, float, f"record.seconds.{stage}")


def _is_shallow(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


def _check(value: Any, form: Any, place: str) -> None:
    kind = form if isinstance(form, type) else type(form)
    if not _is_a(value, kind):
        raise InputError(f"`{place}` must be {_WORDS[kind]}, got {type(value).__name__}")
    if isinstance(form, list):
        for number, one in enumerate(value):
            _check(one, form[0], f"{place}[{number}]")
    elif isinstance(form, dict):
        for key, inner in form.items():
            if key not in value:
                raise InputError(f"`{place}` lacks `{key}`")
            _check(value[key], inner, f"{place}.{key}")


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float):
        kinds = int if kind is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < _LARGEST
    return isinstance(value, (list, tuple) if kind is list else kind)
