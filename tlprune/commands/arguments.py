"""Arguments shared by several commands: a budget, a Selection, and the datasets that it was made from.

Torch is not loaded before the arguments are parsed, so ``--help`` and invalid options are answered immediately.
"""

import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from tlprune.errors import InputError, did_you_mean
from tlprune.parser_messages import Refusal, in_short
from tlprune.preprocessing import CropMode, Interpolation, Preprocessing
from tlprune.progress import in_notebook
from tlprune.storage.paths import user_path

if TYPE_CHECKING:
    from tlprune.selection.ranking import Budget
    from tlprune.selection.selection import Selection

__all__ = [
    "add_budget",
    "add_cache",
    "add_origins",
    "add_preprocessing",
    "build",
    "given_budget",
    "given_preprocessing",
    "make_console",
    "make_parser",
    "parse",
    "plural",
    "require_selections",
    "require_writable",
    "required_budget",
]

_PREPROCESSING = ("mean", "std", "crop_share", "interpolation", "crop_mode")
_BUDGETS: dict[str, tuple[Callable[[str], float], str]] = {
    "prune_ratio": (float, "share of units to remove, in [0, 1)"),
    "keep_units": (int, "units to keep"),
    "keep_images": (int, "the most images to keep"),
    "vote_coverage": (float, "share of votes that is kept, in (0, 1]"),
    "keep_exactly": (int, "images to keep; the last unit is cut"),
}


def make_parser(command: str, what: str) -> ArgumentParser:
    """Creates a parser that raises instead of exiting.

    Args:
        command: Name of the command.
        what: Description of the command, in one sentence.
    """
    return ArgumentParser(prog=f"tlprune {command}", description=what, exit_on_error=False, allow_abbrev=False)


def make_console() -> Console:
    """Creates a console that prints names verbatim; in a pipe it is 160 columns wide.

    It draws in place on terminals alone, not in a notebook, whose kernel may also set ``FORCE_COLOR``, which makes
    rich take a pipe for a terminal.
    """
    piped = not sys.stdout.isatty()
    in_place = False if piped or in_notebook() else None
    wide = 160 if piped else None
    return Console(highlight=False, markup=False, emoji=False, width=wide, force_interactive=in_place)


def require_writable(*outputs: str | None) -> None:
    """Rejects unwritable outputs before anything is computed.

    Args:
        outputs: Paths of files; None for unwanted outputs.

    Raises:
        InputError: If a path is a folder, or cannot be written to.
    """
    for output in outputs:
        if output is None:
            continue
        path = user_path(output)
        folder = next((parent for parent in path.absolute().parents if parent.exists()), None)
        if path.is_dir():
            raise InputError(f"cannot write {output}: it is a folder")
        if folder is None or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise InputError(f"cannot write {output}: {folder} is no folder that can be written to")


def require_selections(*paths: str) -> None:
    """Rejects missing files with the message of :meth:`Selection.load`, without loading torch for it.

    Raises:
        InputError: If a file does not exist.
    """
    for path in paths:
        file = user_path(path)
        if not file.is_file():
            raise InputError(f"{path}: {'a folder, not a selection' if file.is_dir() else 'no such selection'}")


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parses the arguments after the command's name.

    Raises:
        InputError: If parsing fails; one line names the argument and the cause.
    """
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        text = in_short(str(error))
        if unknown := re.fullmatch(r"Option '(\w+)' is not accepted", text):
            text = f"no option {unknown[1]!r}: {did_you_mean(unknown[1], vars(parser.get_defaults()))}"
        raise InputError(text) from error


def build(parser: ArgumentParser, given: Namespace) -> Namespace:
    """Instantiates the objects that the arguments name by class.

    Raises:
        InputError: If a constructor rejects its arguments.
    """
    refusal = Refusal(parser)
    try:
        built: Namespace = parser.instantiate(given)
    except Exception:
        if refusal.error is not None:
            raise refusal.error from None
        raise
    return built


def add_budget(parser: ArgumentParser) -> None:
    """Adds the options that define a budget."""
    for name, (kind, text) in _BUDGETS.items():
        parser.add_argument(f"--{name}", type=kind | None, default=None, help=text)  # type: ignore[operator]


def given_budget(given: Namespace) -> "Budget | None":
    """Returns the budget on the command line, or None."""
    values = [given[name] for name in _BUDGETS]
    if set(values) == {None}:
        return None
    from tlprune.selection.ranking import Budget

    return Budget(*values)


def required_budget(given: Namespace) -> "Budget":
    """Returns the budget on the command line.

    Raises:
        InputError: If no budget is given.
    """
    budget = given_budget(given)
    if budget is None:
        raise InputError(f"say how much is kept: one of {', '.join(f'--{name}' for name in _BUDGETS)}")
    return budget


def add_cache(parser: ArgumentParser) -> None:
    """Adds the options that say which cached work is used."""
    add = parser.add_argument
    add("--cache", type=str | None, default=None, help="cache folder")
    text = "use what is in the cache only if every byte of every image is the same, not size and time of change alone"
    add("--verify_content", action="store_true", help=text)
    add("--fresh", action="store_true", help="use nothing that an earlier run left in the cache")


def add_preprocessing(parser: ArgumentParser) -> None:
    """Adds the options that say how weights expect images."""
    add = parser.add_argument
    text = "how the surrogate's weights expect images, if the file is silent: mean of the channels, in [0, 1]"
    add("--mean", type=float, nargs=3, default=None, help=text)
    add("--std", type=float, nargs=3, default=None, help="likewise, their standard deviation, in (0, 1]")
    text = "likewise, share of the resized short side that a centre crop shows"
    add("--crop_share", type=float | None, default=None, help=text)
    add("--interpolation", type=Interpolation | None, default=None, help="likewise, how images are resized")
    add("--crop_mode", type=CropMode | None, default=None, help="likewise, 'squash' resizes both sides")


def given_preprocessing(given: Namespace) -> Preprocessing:
    """Returns how weights expect images, as far as the command line says it.

    Raises:
        InputError: If a value is out of range.
    """
    return Preprocessing.from_json({name: given[name] for name in _PREPROCESSING if given[name] is not None})


def add_origins(parser: ArgumentParser, targets: bool) -> None:
    """Adds the options that locate a Selection's source and, optionally, its targets."""
    parser.add_argument("--source", type=str | None, default=None, help="the source (default: as when it was selected)")
    if targets:
        text = "the targets, in the same order (default: as when it was selected)"
        parser.add_argument("--target", type=str, nargs="+", default=None, help=text)
    parser.add_argument("--cache", type=str | None, default=None, help="cache folder")


def note_of_numbers(selection: "Selection") -> str | None:
    """Returns what the numbers of single images mean; None where units have names."""
    if selection.unit_kind != "sample":
        return None
    numbered = "this Selection holds no paths; images are numbered from 0 as the source lists them"
    return f"{numbered} (--source of show, explain and diff names them)"


def plural(selection: "Selection", count: int) -> str:
    """Formats a number of units with the name of their kind."""
    from tlprune.selection.selection import UNIT_WORDS

    return f"{count:,} {UNIT_WORDS[selection.unit_kind][count != 1]}"
