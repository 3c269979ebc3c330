"""What an argument parser says of wrong input, for people."""

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser

import tlprune
from tlprune.errors import InputError, near_miss

__all__ = ["Refusal", "check_configs", "in_short"]


class Refusal:
    """Remembers what a constructor refused: the parser wraps it in pages about the types that it tried in vain.

    Args:
        parser: Builds objects from arguments.
    """

    def __init__(self, parser: ArgumentParser) -> None:
        self.error: InputError | None = None
        parser.add_instantiator(self._build, object, subclasses=True)

    def _build(self, class_type: Callable[..., object], *args: object, **kwargs: object) -> object:
        try:
            return class_type(*args, **kwargs)
        except InputError as error:
            self.error = error
            raise


def check_configs(arguments: list[str], keys: str, lists: tuple[str, ...] = ()) -> None:
    """Refuses a config file that is missing or no yaml, by name: the parser's own message does not say which it is.

    Args:
        arguments: What follows the command's name.
        keys: Some that a config file may hold, in words.
        lists: Keys whose values must be lists.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, attached = option.partition("=")
        if name not in ("--config", "-c"):
            continue
        path = attached if equals else value
        if not Path(path).is_file():
            raise InputError(f"--config {path}: no such file")
        try:
            content = yaml.safe_load(Path(path).read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"--config {path}: not valid yaml: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"--config {path}: must hold keys such as {keys}")
        if wrong := next((key for key in lists if not isinstance(content.get(key) or [], list)), None):
            raise InputError(f"--config {path}: `{wrong}` must be a list, such as [{content[wrong]}]")


def in_short(message: str) -> str:
    """A parser's message without the types that it tried in vain, and with the near miss of a misspelt name.

    Args:
        message: What jsonargparse raised.

    Returns:
        One line. A message of an unknown form is returned whole.
    """
    text = " ".join(message.split())
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: ", "", text)
    text = re.sub(
        r" - Expected a <class 'NoneType'>| Given value type:.*|- Expected a path but .*? or invalid ", "", text
    )
    if unknown := re.search(r"- Expected a dot import path string: (\w+)", text):
        text = text.replace(unknown[0], f"no class {unknown[1]!r}: {near_miss(unknown[1], _known_classes())}")
    if option := re.search(r"given class_path '([\w.]+)': Option '(\w+)' is not accepted", text):
        home, _, name = option[1].rpartition(".")
        names = list(inspect.signature(getattr(import_module(home), name)).parameters)
        text = f"{option[1].rpartition('.')[2]} has no option {option[2]!r}: {near_miss(option[2], names)}"
    return text


def _known_classes() -> list[str]:
    optimizers = [name for name in dir(torch.optim) if name[0].isupper()]
    return [*tlprune.__all__, "TriangularLR", "WarmupCosineLR", *(f"torch.optim.{name}" for name in optimizers)]
