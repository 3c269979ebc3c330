"""What several commands take: a budget, a Selection, and the sets that it was made from."""

import os
import sys
from argparse import ArgumentError
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from torch import Tensor

from tlprune.data.downstream import open_target
from tlprune.data.images import ImageSet
from tlprune.data.sources import open_source
from tlprune.errors import InputError
from tlprune.parser_messages import Refusal, in_short
from tlprune.selection.manifest import UNIT_WORDS, Selection
from tlprune.selection.ranking import Budget

__all__ = [
    "Voters",
    "add_budget",
    "add_origins",
    "build",
    "given_budget",
    "make_console",
    "make_parser",
    "opened_source",
    "opened_targets",
    "parse",
    "plural",
    "require_writable",
    "required_budget",
]

_BUDGETS: dict[str, tuple[Callable[[str], float], str]] = {
    "prune_ratio": (float, "share of units to remove, in [0, 1)"),
    "keep_units": (int, "units to keep"),
    "keep_images": (int, "the most images to keep"),
    "vote_coverage": (float, "share of votes that is kept, in (0, 1]"),
}


def make_parser(command: str, what: str) -> ArgumentParser:
    """A parser that raises in place of exiting.

    Args:
        command: Its name.
        what: What it does, in a sentence.
    """
    return ArgumentParser(prog=f"tlprune {command}", description=what, exit_on_error=False, allow_abbrev=False)


def make_console() -> Console:
    """Prints names as they are, and in a pipe as wide as they are."""
    wide = None if sys.stdout.isatty() else 160
    return Console(highlight=False, markup=False, emoji=False, width=wide)


def require_writable(*outputs: str | None) -> None:
    """Refuses, before anything is computed, an output that could not be written in the end.

    Args:
        outputs: Paths of files; None for those that are not wanted.

    Raises:
        InputError: One is a folder, or lies where nothing can be written.
    """
    for output in outputs:
        if output is None:
            continue
        path = Path(output)
        folder = next((parent for parent in path.absolute().parents if parent.exists()), None)
        if path.is_dir():
            raise InputError(f"cannot write {output}: it is a folder")
        if folder is None or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise InputError(f"cannot write {output}: {folder} is no folder that can be written to")


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parses what follows the command's name.

    Raises:
        InputError: It cannot be parsed; one line says what and where.
    """
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        raise InputError(in_short(str(error))) from error


def build(parser: ArgumentParser, given: Namespace) -> Namespace:
    """Builds the objects that arguments name by class.

    Raises:
        InputError: A constructor refuses what it is given.
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
    """Adds the four ways to say how much is kept."""
    for name, (kind, text) in _BUDGETS.items():
        parser.add_argument(f"--{name}", type=kind | None, default=None, help=text)  # type: ignore[operator]


def given_budget(given: Namespace) -> Budget | None:
    """The budget on the command line; None if there is none."""
    values = [given[name] for name in _BUDGETS]
    return None if set(values) == {None} else Budget(*values)


def required_budget(given: Namespace) -> Budget:
    """The budget on the command line.

    Raises:
        InputError: There is none.
    """
    budget = given_budget(given)
    if budget is None:
        raise InputError(f"say how much is kept: one of {', '.join(f'--{name}' for name in _BUDGETS)}")
    return budget


def add_origins(parser: ArgumentParser, targets: bool) -> None:
    """Adds where to find the source, and perhaps the targets, that a Selection was made from."""
    parser.add_argument("--source", type=str | None, default=None, help="the source (default: as when it was selected)")
    if targets:
        text = "the targets, in the same order (default: as when it was selected)"
        parser.add_argument("--target", type=str, nargs="+", default=None, help=text)
    parser.add_argument("--cache", type=str | None, default=None, help="cache folder")


def opened_source(selection: Selection, source: str | None, cache: str | None) -> ImageSet:
    """The source that a Selection was made for.

    Args:
        selection: Names it.
        source: Where the user says that it lies; None asks the Selection.
        cache: The cache folder.

    Raises:
        InputError: It is not to be found, or another one.
    """
    name = source or selection.record.get("source")
    if name is None:
        raise InputError("this selection does not say where its source lies; give --source")
    images, _ = open_source(name, cache)
    if selection.skipped:
        left_out = set(selection.skipped)
        stay = [index for index in range(len(images)) if images.name(index) not in left_out]
        images = images.subset(torch.tensor(stay, dtype=torch.int64))
    selection.require_source(images.digest, f"source {name}")
    return images


@dataclass(frozen=True)
class Voters:
    """The training images of one target, checked to be those that voted.

    Args:
        name: Of the target.
        images: Those that voted.
        test: The target's test images, which did not; None where it has none.
        ballots: ``[M]`` int64, the unit that each voted for; empty where nobody voted.
    """

    name: str
    images: ImageSet
    test: ImageSet | None
    ballots: Tensor


def opened_targets(selection: Selection, targets: list[str] | None) -> list[Voters]:
    """The targets that voted, or for a selection without votes those that the user names.

    Args:
        selection: Names them.
        targets: What the user calls them; None asks the Selection.

    Raises:
        InputError: They are not to be found, or others.
    """
    voted: list[dict[str, Any] | None] = selection.settings.get("targets", [])
    names: list[str] = targets or selection.record.get("targets", [])
    if not names:
        raise InputError("this selection does not name a target; give --target")
    if voted and len(names) != len(voted):
        raise InputError(f"targets that voted for this selection: {len(voted)}; --target names {len(names)}")
    found, begin = [], 0
    for name, settings in zip(names, voted or [None] * len(names), strict=True):
        try:
            opened = open_target(name, int(selection.record.get("target_seed", 0)))
        except InputError as error:
            raise error if targets else InputError(f"{error}; say with --target where it is now") from error
        if settings is not None and opened.train.digest != settings["digest"]:
            raise InputError(f"target {name}: not the images that voted")
        ballots = selection.ballots[begin : begin + len(opened.train)]
        found.append(Voters(opened.name, opened.train, opened.test, ballots))
        begin += len(opened.train)
    return found


def plural(selection: Selection, count: int) -> str:
    """So many units, as they are called."""
    return f"{count:,} {UNIT_WORDS[selection.unit_kind][count != 1]}"
