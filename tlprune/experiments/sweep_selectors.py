"""Selectors as a sweep's config names them, ours and those of other packages, with the sweep's seed where they draw."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace

import tlprune
from tlprune.errors import InputError, did_you_mean
from tlprune.parser_messages import in_short
from tlprune.selection.registry import selector_names
from tlprune.selection.selector import Selector

__all__ = ["NamedSelector", "named_selector"]


class NamedSelector(NamedTuple):
    """A selector that was built from its name and options.

    Args:
        selector: It.
        class_paths: Of its class, and of those of all objects that its options name.
    """

    selector: Selector
    class_paths: tuple[str, ...]


def named_selector(given: Mapping[str, Any], seed: int) -> NamedSelector:
    """Builds a selector.

    Args:
        given: Its ``class_path``, and perhaps ``init_args``.
        seed: Given to each selector in it that takes a ``seed`` and has none in ``given``, whatever option it is under.

    Raises:
        InputError: There is no such selector, or it does not take these options.
    """
    return _built(json.dumps(given, sort_keys=True), seed)


@cache
def _built(given: str, seed: int) -> NamedSelector:
    # a parser finds a bare class name only among what is loaded
    public = {name: getattr(tlprune, name) for name in tlprune.__all__}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--selector", type=Selector)
    named = json.loads(given)
    name = str(named["class_path"])
    try:
        parsed = parser.parse_object({"selector": _with_required_seeds(named, seed)})
        class_paths = tuple(_seeded(parsed.selector, named, seed))
        built = parser.instantiate(parsed).selector
    except InputError:
        raise
    except Exception as error:  # the parser wraps what a constructor raises
        if "." not in name and name not in public:
            raise InputError(f"no selector {name!r}: {did_you_mean(name, selector_names())}") from error
        raise InputError(f"selector {name}: {in_short(str(error))}") from error
    if not isinstance(built, Selector):
        raise InputError(f"{name} is no Selector")
    return NamedSelector(built, class_paths)


def _with_required_seeds(given: Any, seed: int) -> Any:
    """The same names and options, with seeds for selectors whose constructors insist on one."""
    if isinstance(given, list):
        return [_with_required_seeds(one, seed) for one in given]
    if not isinstance(given, dict):
        return given
    filled = {key: _with_required_seeds(one, seed) for key, one in given.items()}
    taken = _parameters(str(given["class_path"])).get("seed") if "class_path" in given else None
    if taken is not None and taken.default is Parameter.empty and "seed" not in _options(given):
        filled["init_args"] = {**(filled.get("init_args") or {}), "seed": seed}
    return filled


def _seeded(parsed: Any, given: Any, seed: int) -> list[str]:
    """Sets seeds in what was parsed, wherever what was given has none; gives the class paths in it."""
    if isinstance(parsed, (list, tuple)):
        pairs = zip(parsed, given if isinstance(given, (list, tuple)) else [None] * len(parsed), strict=True)
        return [name for one, said in pairs for name in _seeded(one, said, seed)]
    if isinstance(parsed, dict):
        said = given if isinstance(given, dict) else {}
        return [name for key, one in parsed.items() for name in _seeded(one, said.get(key), seed)]
    if not isinstance(parsed, Namespace) or "class_path" not in parsed:
        return []
    options, said = parsed.get("init_args"), _options(given)
    if options is None:
        return [parsed.class_path]
    if "seed" in options and "seed" not in said and _selector_class(parsed.class_path) is not None:
        options["seed"] = seed
    inner = [name for key, one in vars(options).items() for name in _seeded(one, said.get(key), seed)]
    return [parsed.class_path, *inner]


def _options(given: Any) -> dict[str, Any]:
    """Options that were given, however they were; none with a mere name."""
    if not isinstance(given, dict):
        return {}
    return {**(given.get("dict_kwargs") or {}), **(given.get("init_args") or {})}


def _parameters(name: str) -> Mapping[str, Parameter]:
    kind = _selector_class(name)
    return {} if kind is None else signature(kind).parameters


def _selector_class(name: str) -> type[Selector] | None:
    """The class of that path or bare name; None where there is none, or it is no Selector."""
    module, _, last = name.rpartition(".")
    try:
        kind = getattr(import_module(module) if module else tlprune, last)
    except (ImportError, AttributeError, ValueError):
        return None
    return kind if isinstance(kind, type) and issubclass(kind, Selector) else None
