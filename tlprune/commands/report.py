"""``tlprune report``: writes the results of sweeps, demos or a Selection as a page with tables and figures."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tlprune.commands.arguments import add_budget, add_origins, given_budget, make_console, make_parser, parse
from tlprune.errors import InputError
from tlprune.storage.paths import user_path

if TYPE_CHECKING:
    from tlprune.experiments.page.followed import Followed

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Writes a page, its figures, CSV and LaTeX, and prints a summary.

    Args:
        arguments: Arguments after ``report`` on the command line.

    Raises:
        InputError: If the input is invalid, or the runs cannot be compared.
    """
    parser = make_parser("report", "Write a page, tables and pictures of what sweeps, demos or a Selection found.")
    text = "folders of sweeps or demos, whose cells are put together; or saved Selections"
    parser.add_argument("runs", type=str, nargs="+", help=text)
    text = "folder to write (default: RUN/report, beside a Selection NAME-report)"
    parser.add_argument("--output", type=str | None, default=None, help=text)
    parser.add_argument("--title", type=str | None, default=None, help="heading of the page")
    text = "points of accuracy that a winning subset may lose to no pruning (default: the sweep's)"
    parser.add_argument("--margin", type=float | None, default=None, help=text)
    text = "write the page again whenever a sweep that runs has finished a cell, until it ends"
    parser.add_argument("--follow", action="store_true", help=text)
    add_origins(parser, targets=True)
    add_budget(parser)
    given = parse(parser, arguments)
    paths = [user_path(path) for path in given.runs]
    if given.follow:
        _follow(given, paths)
        return
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    folder = user_path(given.output) if given.output else _beside(paths[0])
    _require_folder(folder)
    _report(given, paths, folder, False)


def _follow(given: Namespace, paths: list[Path]) -> None:
    from tlprune.commands.following import follow, require_folders
    from tlprune.experiments.page.rendering import PAGE

    require_folders(paths)
    folder = user_path(given.output) if given.output else paths[0] / "report"
    _require_folder(folder)
    follow(paths, lambda reloads: _report(given, paths, folder, reloads), folder / PAGE, make_console())


def _report(given: Namespace, paths: list[Path], folder: Path, reloads: bool) -> "Followed | None":
    """Writes a page and prints its summary; with ``reloads``, silently, one that reloads itself while a sweep runs."""
    from tlprune.experiments.page.reading import read_runs  # imports nothing that takes seconds

    reported = read_runs(paths)
    results = reported.results
    if results is not None and given.margin is not None:
        if not 0 <= given.margin < 100:
            raise InputError(f"--margin: expected points of accuracy in [0, 100), got {given.margin}")
        results.provenance["margin"] = given.margin
    from tlprune.commands.pictures import (
        gathered,
        shown_selections,
    )  # these load torch and matplotlib, which take seconds
    from tlprune.experiments.closing import print_pooled, print_starts
    from tlprune.experiments.page.by_start import write_reports
    from tlprune.experiments.page.conclusions import conclusion
    from tlprune.experiments.page.followed import Followed, count_text
    from tlprune.experiments.page.rendering import PAGE
    from tlprune.experiments.starts import compares_starts
    from tlprune.experiments.wording import SEVERAL, start_label

    budget = given_budget(given)
    if budget is not None and not reported.selections:
        raise InputError(f"{budget} is for pages of Selections: a sweep or demo shows the ratios that it ran")
    if budget is not None and budget.exactly is not None:
        raise InputError("a page shows whole units, none of them cut: give another budget than --keep_exactly")
    parts = {} if results is None else results.by_start()
    shown, missing = shown_selections(next(iter(parts.values()), None), reported.selections, budget)
    evidence = gathered(shown, given.source, given.target, given.cache)
    notes = [*reported.notes, *missing]
    title = given.title or (", ".join(path.stem for path in reported.selections) if results is None else results.name)
    followed = Followed(count_text(results)) if reloads and results is not None and results.is_partial else None
    written = write_reports(results, evidence, notes, title, folder, followed)
    if followed is not None:
        return followed
    console = make_console()
    for start, part in parts.items():
        if start:
            console.print(f"pretraining {start_label(start)}\n", style="bold", soft_wrap=True)
        for target in part.targets if len(part.targets) <= SEVERAL else ():
            console.print(f"{target}: {conclusion(part, target)}\n", soft_wrap=True)
        if len(part.targets) > 1:
            print_pooled(part, console)
    if results is not None and compares_starts(results):
        print_starts(results, console)
    for text in [*notes, *dict.fromkeys(text for one in evidence for text in one.notes)]:
        console.print(f"NOTE: {text}", soft_wrap=True)
    for name in written:
        console.print(f"{'page' if name == PAGE else 'beside it':<10} {folder / name}", soft_wrap=True)
    return None


def _beside(path: Path) -> Path:
    return path / "report" if path.is_dir() else path.with_name(f"{path.stem}-report")


def _require_folder(folder: Path) -> None:
    """Rejects an unwritable output folder before anything is read."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write to {folder}: it is a file")
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"cannot write {folder}: {there} is no folder that can be written to")
