"""``tlprune report``: writes the results of sweeps, demos or a Selection as a page with tables and figures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tlprune.commands.arguments import (
    add_budget,
    add_origins,
    given_budget,
    make_console,
    make_parser,
    parse,
    require_writable,
)
from tlprune.errors import InputError, require_within
from tlprune.storage.paths import user_path

if TYPE_CHECKING:
    from tlprune.commands.pictures import Shown
    from tlprune.experiments.page.evidence import Evidence
    from tlprune.experiments.page.followed import Followed
    from tlprune.experiments.results import Results

__all__ = ["run"]

_OF_DIAGNOSING = ("surrogate", "surrogate_backbone")
"""Options that are used for diagnostics alone."""

_PAGE_ENDING = ".html"


def run(arguments: list[str]) -> None:
    """Writes a page, its figures, CSV, LaTeX and Markdown, and prints a summary.

    Raises:
        InputError: If the input is invalid, or the runs cannot be compared.
    """
    parser = make_parser("report", "Write a page, tables and pictures of what sweeps, demos or a Selection found.")
    text = "folders of sweeps or demos, whose cells are put together; or saved Selections"
    parser.add_argument("runs", type=str, nargs="+", help=text)
    text = "folder to write (default: RUN/report, beside a Selection NAME-report); of Selections also a file, *.html"
    parser.add_argument("--output", type=str | None, default=None, help=text)
    parser.add_argument("--title", type=str | None, default=None, help="heading of the page")
    text = "points of accuracy that a winning subset may lose to no pruning (default: the sweep's)"
    parser.add_argument("--margin", type=float | None, default=None, help=text)
    text = "prune ratio of the tables of methods and targets, in [0, 1) (default: the middle one that was run)"
    parser.add_argument("--table_ratio", type=float | None, default=None, help=text)
    text = (
        "of a Selection: say how near what is kept is to the target, how varied, and how many are copies, in features"
    )
    parser.add_argument("--diagnose", action="store_true", help=text)
    text = "whose features are compared with --diagnose (default: as when selected)"
    parser.add_argument("--surrogate", type=str | None, default=None, help=text)
    parser.add_argument(
        "--surrogate_backbone", type=str | None, default=None, help="its network, if the file is silent"
    )
    parser.add_argument("--num_workers", type=int, default=0, help="processes that load images with --diagnose")
    text = "write the page again whenever a sweep that runs has finished a cell, until it ends"
    parser.add_argument("--follow", action="store_true", help=text)
    add_origins(parser, targets=True)
    add_budget(parser)
    given = parse(parser, arguments)
    paths = [user_path(path) for path in given.runs]
    _check(given, paths)
    if given.follow:
        _follow(given, paths)
        return
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    folder, named = _written(given.output, paths[0])
    _report(given, paths, folder, named, False)


def _follow(given: Namespace, paths: list[Path]) -> None:
    from tlprune.commands.following import follow, require_folders
    from tlprune.experiments.page.rendering import PAGE

    require_folders(paths)
    folder = user_path(given.output) if given.output else paths[0] / "report"
    _require_folder(folder)
    follow(paths, lambda reloads: _report(given, paths, folder, None, reloads), folder / PAGE, make_console())


def _report(given: Namespace, paths: list[Path], folder: Path, named: str | None, reloads: bool) -> "Followed | None":
    """Writes a page and prints its summary; with ``reloads``, silently, one that reloads itself while a sweep runs."""
    from tlprune.experiments.page.reading import read_runs  # imports nothing that takes seconds

    reported = read_runs(paths)
    results = reported.results
    if results is not None and given.margin is not None:
        if not 0 <= given.margin < 100:
            raise InputError(f"--margin: expected points of accuracy in [0, 100), got {given.margin}")
        results.provenance["margin"] = given.margin
    table_ratio = _table_ratio(given, results)
    from tlprune.commands.pictures import (
        gathered,
        shown_selections,
    )  # these load torch and matplotlib, which take seconds
    from tlprune.experiments.closing import print_copies, print_pooled, print_starts
    from tlprune.experiments.page.by_start import write_reports
    from tlprune.experiments.page.conclusions import conclusion
    from tlprune.experiments.page.followed import Followed, count_text
    from tlprune.experiments.page.rendering import PAGE
    from tlprune.experiments.starts import compares_starts
    from tlprune.experiments.wording import SEVERAL, start_label, target_labels

    parts = {} if results is None else results.by_start()
    shown, missing = shown_selections(next(iter(parts.values()), None), reported.selections, given_budget(given))
    evidence = gathered(shown, given.source, given.target, given.cache, whole=results is None)
    if given.diagnose:
        _diagnose(given, shown, evidence)
    notes = [*reported.notes, *missing]
    title = given.title or (", ".join(path.stem for path in reported.selections) if results is None else results.name)
    followed = Followed(count_text(results)) if reloads and results is not None and results.is_partial else None
    page = PAGE if named is None else named
    written = write_reports(results, evidence, notes, title, folder, followed, page, table_ratio)
    if followed is not None:
        return followed
    console = make_console()
    for start, part in parts.items():
        if start:
            console.print(f"pretraining {start_label(start)}\n", style="bold", soft_wrap=True)
        labels = target_labels(part.targets)
        for target in part.targets if len(part.targets) <= SEVERAL else ():
            console.print(f"{labels[target]}: {conclusion(part, target)}\n", soft_wrap=True)
        if len(part.targets) > 1:
            print_pooled(part, console)
    if results is not None and compares_starts(results):
        print_starts(results, console)
    if results is not None:
        print_copies(results, console)
    for text in [*notes, *dict.fromkeys(text for one in evidence for text in one.notes)]:
        console.print(f"NOTE: {text}", soft_wrap=True)
    for name in written:
        console.print(f"{'page' if name == page else 'beside it':<10} {folder / name}", soft_wrap=True)
    return None


def _check(given: Namespace, paths: Sequence[Path]) -> None:
    """Rejects options that do not go together, before anything is read."""
    require_within("num_workers", given.num_workers, 0)
    if not given.diagnose and (odd := next((name for name in _OF_DIAGNOSING if given[name] is not None), None)):
        raise InputError(f"--{odd} goes with --diagnose")
    folder = next((path for path in paths if given.follow or path.is_dir()), None)
    if given.diagnose and (folder is not None or len(paths) > 1):
        text = f"{folder} is the folder of a run, whose report has the diagnostics that it computed"
        raise InputError(f"--diagnose goes with one Selection; {text if folder else f'{len(paths)} are given'}")
    if folder is not None and (budget := given_budget(given)) is not None:
        raise InputError(f"{budget} is for pages of Selections: a sweep or demo shows the ratios that it ran")
    if folder is None and given.table_ratio is not None:
        raise InputError("--table_ratio is for sweeps and demos: a page of Selections has no tables of accuracy")
    if folder is not None and given.output is not None and given.output.endswith(_PAGE_ENDING):
        raise InputError(f"--output: a run's report is a folder, {given.output} is named as a page")


def _table_ratio(given: Namespace, results: "Results | None") -> float | None:
    """Returns the ratio that was run and is meant, if one is given."""
    if given.table_ratio is None or results is None:
        return None
    from tlprune.experiments.page.tables import table_ratios

    ratios = table_ratios(results)
    if (found := next((one for one in ratios if abs(one - given.table_ratio) < 1e-9), None)) is None:
        known = ", ".join(f"{one:g}" for one in ratios) or "none"
        raise InputError(f"--table_ratio: {given.table_ratio:g} was not run; ratios that were: {known}")
    return found


def _written(output: str | None, first: Path) -> tuple[Path, str | None]:
    """Returns the folder and the name of the page if one is given, after checking that it can be written."""
    if output is not None and output.endswith(_PAGE_ENDING):
        require_writable(output)
        return user_path(output).parent, user_path(output).name
    beside = first / "report" if first.is_dir() else first.with_name(f"{first.stem}-report")
    folder = user_path(output) if output else beside
    _require_folder(folder)
    return folder, None


def _diagnose(given: Namespace, shown: "Sequence[Shown]", evidence: "Sequence[Evidence]") -> None:
    """Computes the diagnostics of the only Selection of a page."""
    from tlprune.commands.diagnostics import Opened  # loads torchvision

    [one], [found] = shown, evidence
    opened = Opened.open({one.title: one.selection}, given, one.budget)
    found.diagnoses = [(target, diagnosis) for target, _, [diagnosis] in opened.diagnoses()]


def _require_folder(folder: Path) -> None:
    """Rejects an unwritable output folder before anything is read."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write to {folder}: it is a file")
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"cannot write {folder}: {there} is no folder that can be written to")
