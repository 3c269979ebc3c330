"""What the demo found, for people: table, verdicts, pictures, ``summary.json``."""

import json
from collections.abc import Callable
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tlprune.experiments.claims import FEWEST_SEEDS
from tlprune.experiments.curves import accuracy_figure, cost_figure
from tlprune.experiments.page.markup import markdown_text
from tlprune.experiments.results import Group
from tlprune.experiments.summary import HEADINGS, LEGEND, Summary
from tlprune.experiments.verdicts import claim_sentence
from tlprune.experiments.wording import difference, mode_label
from tlprune.selection.figures import units_figure, votes_figure
from tlprune.selection.selection import Selection
from tlprune.storage.atomic import atomic_path, write_bytes

__all__ = ["print_summary", "write_summary"]

_HONESTLY = (
    "The built-in source is small and drawn: classes chosen by hand gain one or two points over random ones there. "
    "docs/results.md has what comes out on real images."
)


def write_summary(summary: Summary, selection: Selection, example: Callable[[int], Tensor], folder: Path) -> None:
    """Writes ``summary.json``, ``table.md`` and four pictures.

    Args:
        summary: Of all cells.
        selection: The method's order of the first seed.
        example: Gives an image ``[3, H, W]`` uint8 of a unit.
        folder: Where to write; it is created.

    Raises:
        InputError: The folder cannot be written.
    """
    results, target = summary.results, summary.target
    write_bytes(folder / "summary.json", (json.dumps(summary.as_json(), indent=2) + "\n").encode())
    headings = [*HEADINGS, *results.modes]
    rows = [[markdown_text(cell) for cell in row] for row in summary.rows()]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    write_bytes(folder / "table.md", f"{table}\n\n{LEGEND} '=' marks equal steps.\n".encode())
    kept = results.of(summary.shown)[0].units_kept
    title = f"{summary.label} for {target}: {kept} of {selection.num_units} {summary.units()} kept"
    figures = {
        "accuracy": accuracy_figure(results, target, results.modes),
        "cost": cost_figure(results, target, summary.method),
        "votes": votes_figure(selection, kept, title),
        "units": units_figure(selection, kept, example, title),
    }
    for name, figure in figures.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def print_summary(summary: Summary, selection: Selection, folder: Path, console: Console) -> None:
    """Prints the table, what it says, where the files are, and what to try next.

    Args:
        summary: Of all cells.
        selection: The method's order of the first seed.
        folder: Where :func:`write_summary` wrote.
        console: Where to print.
    """
    results = summary.results
    seeds = results.seeds(summary.groups)
    table = _table(f"{summary.target}: test accuracy in percent, mean of {seeds} seeds ± 95 % interval")
    for heading in (*HEADINGS, *results.modes):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for group, row in zip(summary.groups, summary.rows("±"), strict=True):
        table.add_row(*row, style="bold" if group == summary.whole else None)
    console.print(table)
    console.print(f"{LEGEND}\n'=' marks equal steps, all others train for equal epochs.", highlight=False)
    shown = summary.shown
    console.print(
        f"With the surrogate at hand, as for a second target, {summary.label} at {shown.ratio:.0%} pruned saves "
        f"{summary.saving(shown, reused=True):.0%}.\n",
        highlight=False,
    )
    console.print(_differences(summary))
    console.print(f"{summary.against_random()}\n", style="bold", highlight=False)
    for mode in results.modes:
        text = claim_sentence(summary.label, summary.winning(mode), summary.units())
        console.print(f"By {mode_label(mode, results.recipes)}: {text}", highlight=False, soft_wrap=True)
    if seeds < FEWEST_SEEDS:
        console.print("One or two seeds decide nothing: run --seeds 3 or more.", highlight=False)
    console.print(f"{_HONESTLY}\n", highlight=False, soft_wrap=True)
    best = ", ".join(selection.name(unit) for unit in selection.ranking[:8].tolist())
    console.print(f"Most votes: {best}\n", highlight=False)
    reused = results.provenance.get("reused")
    before = f"; {reused} of {len(results.cells)} runs were finished before" if reused else ""
    photographs = "photographs.png, " if (folder / "photographs.png").is_file() else ""
    console.print(
        f"In {folder}: results.json, summary.json, table.md, accuracy.png,\n"
        "cost.png, votes.png, units.png, selection.safetensors, pruned.safetensors,\n"
        f"full.safetensors, {photographs}and the configs in recipes.\n"
        f"It took {results.provenance['seconds']:.0f} s{before}.\n",
        highlight=False,
    )
    console.print("Try next:", style="bold")
    for command in _next(summary, folder):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _next(summary: Summary, folder: Path) -> list[str]:
    other = "photos" if summary.target == "digits" else "digits"
    unlabelled = summary.method == "feature_mapping"
    return [
        f"tlprune report {folder}",
        f"tlprune demo --target {other}{' --method fm' if unlabelled else ''}",
        f"tlprune fit --config configs/{'ssl' if unlabelled else 'source'}/drawn_surrogate.yaml",
        f"tlprune fit --config configs/{'ssl/drawn_simclr' if unlabelled else 'source/drawn_pruned'}.yaml",
    ]


def _differences(summary: Summary) -> Table:
    table = _table(f"{summary.label} minus ..., in points, paired by seed, with 95 % interval")
    for heading in ("", "pruned", "random", "no pruning"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    rows: dict[tuple[str, Group], list[str]] = {}
    for one in summary.differences():
        rows.setdefault((one.mode, one.group), []).append(f"{difference(one.points)} {one.verdict:<7}")
    for (mode, group), cells in rows.items():
        table.add_row(mode + (" =" if group.match_budget == "steps" else ""), f"{group.ratio:.0%}", *cells)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=0, pad_edge=False)
