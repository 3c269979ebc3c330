"""What an argument parser says of wrong input, for people."""

import inspect
import re
from collections.abc import Callable
from importlib import import_module

from jsonargparse import ArgumentParser

import tlprune
from tlprune.errors import InputError, did_you_mean

__all__ = ["Refusal", "in_short"]


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
        except Exception as error:
            if not _is_logger(class_type):
                raise
            self.error = InputError(f"{class_type.__name__}: {error}")  # its library is missing, or refuses
            raise self.error from error


def in_short(message: str) -> str:
    """A parser's message without the types that it tried in vain, and with the near miss of a misspelt name.

    Returns:
        One line. A message of an unknown form is returned whole.
    """
    text = " ".join(message.split())
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: ", "", text)
    # a Selection's own fields are no options: a file or options stand in yaml
    text = re.sub(r"- Problem with given class_path '[\w.]+\.Selection': Option '\w+' is not accepted ?", "", text)
    text = re.sub(r" Given value type: \S+ \S+ Given value: (.*)", r", got \1", text)
    text = re.sub(
        r" - Expected a <class 'NoneType'>| Given value type:.*|- Expected a path but .*? or invalid ", "", text
    )
    if single := re.fullmatch(r"Parser key \"([\w.]+)\": Expected a <class 'list'>\. Got value: (.*)", text):
        return f"--{single[1]}: expected a list, got {single[2]!r}; write '[{single[2]}]', and commas between several"
    if unknown := re.search(r"- Expected a dot import path string: (\w+)", text):
        text = text.replace(unknown[0], f"no class {unknown[1]!r}: {did_you_mean(unknown[1], _known_classes())}")
    if missing := re.search(r"given class_path '([\w.]+)': No module named '(\w+)'", text):
        way = "give PYTHONPATH=. before the command, in the folder that holds it"
        return f"{missing[1]}: Python finds no module {missing[2]!r}; {way}, or install what is missing"
    # an option of the base class, which recent versions of jsonargparse call abstract
    bare = r'Parser key "([\w.]+)".*(?:is abstract|class_path \'tlprune\.Selector\'.*), got NestedArg\(key=\'(\w+)\''
    if option := re.search(bare, text):
        return f"--{option[1]}.{option[2]}: an option of which class? give --{option[1]} NAME before it"
    nested = r"given class_path '([\w.]+)': unrecognized arguments: --(\w+)\."
    if option := re.search(r"given class_path '([\w.]+)': Option '(\w+)' is not accepted", text) or re.search(
        nested, text
    ):
        home, _, name = option[1].rpartition(".")
        kind = getattr(import_module(home), name)
        text = f"{name} has no option {option[2]!r}: {did_you_mean(option[2], _parameters(kind))}"
        if name == "PrunedSourceDataModule" and option[2] in (moved := _moved()):
            text = f"{name} has no option {option[2]!r} any more: it is {moved[option[2]]} now"
    return text


def _parameters(kind: type) -> list[str]:
    """Parameters of a constructor, and of those of its bases that it passes others on to."""
    names: list[str] = []
    for base in kind.__mro__:
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        names += [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    return [name for name in dict.fromkeys(names) if name != "self"]


def _moved() -> dict[str, str]:
    from tlprune.datamodules.arguments import MOVED  # torch takes seconds, and no other message needs it

    return MOVED


def _is_logger(class_type: Callable[..., object]) -> bool:
    from lightning.pytorch.loggers import Logger  # takes seconds, and is loaded where objects are built

    return isinstance(class_type, type) and issubclass(class_type, Logger)


def _known_classes() -> list[str]:
    import torch  # takes seconds, and no other message needs it

    optimizers = [name for name in dir(torch.optim) if name[0].isupper()]
    return [*tlprune.__all__, "TriangularLR", "WarmupCosineLR", *(f"torch.optim.{name}" for name in optimizers)]
