"""Reports of a sweep that compares starts: a page for each start, and their comparison on the first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlprune.experiments.page.evidence import Evidence
from tlprune.experiments.page.followed import Followed
from tlprune.experiments.page.rendering import PAGE, write_report
from tlprune.experiments.results import Results
from tlprune.experiments.starts import (
    StartRow,
    compares_starts,
    difference_verdict,
    first_label,
    row_target,
    start_rows,
)
from tlprune.experiments.statistics import Estimate, Pooled
from tlprune.experiments.wording import mode_label, start_label
from tlprune.storage.as_csv import as_csv
from tlprune.storage.atomic import write_bytes

__all__ = ["Starts", "starts_csv", "starts_of", "write_reports"]


@dataclass(frozen=True)
class Starts:
    """Comparison of starts, as the page shows it.

    Args:
        first: Display name of the start that others are compared with.
        compared: Whether there are others.
        tables: Transfer modes with their rows: display names of target, start and method, and the numbers.
        links: Display names of the other starts, with the addresses of their pages.
    """

    first: str
    compared: bool
    tables: list[tuple[str, list[tuple[str, str, str, StartRow]]]]
    links: list[tuple[str, str]]


def starts_of(results: Results) -> Starts:
    """Compares the starts of a sweep for its page."""
    tables = [
        (
            mode_label(mode, results.recipes),
            [
                (
                    row_target(results, row),
                    start_label(row.group.start),
                    results.methods[row.group.method].label,
                    row,
                )
                for row in start_rows(results, mode)
            ],
        )
        for mode in results.modes
    ]
    links = [(start_label(start), f"{name}/{PAGE}") for start, name in _folders(results).items()]
    return Starts(first_label(results), len(results.starts) > 1, tables, links)


def starts_csv(results: Results) -> str:
    """One row for each group and mode of transfer: means, differences, intervals, verdicts.

    Rows over all targets have no target.
    """
    headings = ["target", "start", "method", "label", "ratio", "equal", "mode", "targets", "test_accuracy"]
    for other in ("first_start", "weights_alone"):
        headings += [f"minus_{other}{end}" for end in ("", "_low_95", "_high_95", "_verdict")]
    rows = []
    for mode in results.modes:
        for row in start_rows(results, mode):
            group = row.group
            line: list[object] = [group.target, group.start, group.method, results.methods[group.method].label]
            line += [group.ratio, group.match_budget, mode, row.targets, row.accuracy.mean]
            rows.append([*line, *_numbers(row.to_first), *_numbers(row.to_alone)])
    return as_csv(headings, rows)


def _numbers(found: Estimate | Pooled | None) -> list[object]:
    if found is None:
        return [None] * 4
    known = found.enough_targets if isinstance(found, Pooled) else found.count > 1
    return [found.mean, *((found.low, found.high) if known else (None, None)), difference_verdict(found)]


def write_reports(
    results: Results | None,
    evidence: Sequence[Evidence],
    notes: Sequence[str],
    title: str,
    folder: Path,
    followed: Followed | None = None,
    page: str = PAGE,
    table_ratio: float | None = None,
) -> list[str]:
    """Writes the page, and where a sweep compares starts a page for each, in a folder of its own but for the first.

    Args:
        results: All cells; None for a page about Selections alone.
        evidence: What is shown of Selections, on the first page.
        notes: What a reader has to know first, in sentences.
        title: Heading of the page.
        folder: Folder to write; it is made.
        followed: State of pages that are written again; None for pages that do not reload themselves.
        page: Name of the page of Selections alone.
        table_ratio: Ratio of the tables of methods and targets; None for the middle one.

    Returns:
        Names of the files.

    Raises:
        InputError: The folder cannot be written.
    """
    if results is None or not compares_starts(results):
        return write_report(
            results, evidence, notes, title, folder, followed=followed, page=page, table_ratio=table_ratio
        )
    (first, part), *others = results.by_start().items()
    heading = f"{title}, {start_label(first)}"
    written = write_report(
        part, evidence, notes, heading, folder, starts_of(results), followed, table_ratio=table_ratio
    )
    write_bytes(folder / "starts.csv", starts_csv(results).encode(errors="backslashreplace"))
    names = _folders(results)
    for start, other in others:
        heading = f"{title}, {start_label(start)}"
        files = write_report(
            other, [], notes, heading, folder / names[start], followed=followed, table_ratio=table_ratio
        )
        written += [f"{names[start]}/{name}" for name in files]
    return [*written, "starts.csv"]


def _folders(results: Results) -> dict[str, str]:
    """Names of the folders of all starts but the first."""
    names = [re.sub(r"[^A-Za-z0-9_-]+", "-", start_label(start)).strip("-") for start in results.starts]
    return {
        start: name if names.count(name) == 1 else f"{name}-{place + 1}"
        for place, (start, name) in enumerate(zip(results.starts, names, strict=True))
        if place > 0
    }
