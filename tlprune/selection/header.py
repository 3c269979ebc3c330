"""What the JSON header of a saved Selection must hold. Files come from others: all that is used of it is looked at."""

from typing import Any

from tlprune.errors import InputError
from tlprune.preprocessing import Preprocessing

__all__ = ["check_header"]

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
    },
}
_MAY_BE_NULL = {"source_digest", "surrogate_digest", "several_targets", "view"}

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
_WORDS |= {dict: "an object"}
_LARGEST = 2**63
_LEVELS = 32
"""Lists and objects inside each other; far fewer than Python's own limit, where every later step could fail."""


def check_header(header: object) -> None:
    """Refuses a header in which something that is used of it is missing, or of the wrong type.

    Args:
        header: A JSON value.

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
        Preprocessing.of_view(parts["settings"].get("view") or {})
    except InputError as error:
        raise InputError(f"`settings.view`: {error}") from error
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
