"""A comparison for people: table, pictures, summary."""

import json
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tlprune.experiments.comparison import Arm, Comparison
from tlprune.experiments.curves import accuracy_figure
from tlprune.experiments.methods import METHOD_LABELS
from tlprune.experiments.page.reading import demo_results
from tlprune.experiments.statistics import Estimate
from tlprune.selection.figures import units_figure, votes_figure
from tlprune.selection.selection import Selection
from tlprune.storage.atomic import atomic_path, write_bytes

__all__ = ["cost_figure", "print_comparison", "write_comparison"]

_HEADINGS = ("method", "pruned", "images", "S", "L", "P", "saved")
_LEGEND = "S, L, P: median seconds of surrogate, selection, pretraining; S and L count."


def _with_interval(found: Estimate, sign: str) -> str:
    return f"{found.mean:.1f}" if found.count == 1 else f"{found.mean:.1f}{sign}{found.half_width:.1f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _rows(comparison: Comparison, sign: str = " ± ") -> list[list[str]]:
    rows = []
    for arm in comparison.arms:
        surrogate, selection, pretraining = comparison.seconds_of(arm)
        name = METHOD_LABELS[arm.method] + (" =" if arm.equal == "steps" else "")
        paid = [_seconds(surrogate), _seconds(selection)] if arm.votes else ["-", "-"]
        saved = "-" if arm.method == "none" else f"{comparison.saving(arm):.0%}"
        row = [name, f"{arm.ratio:.0%}", f"{comparison.of(arm)[0].images_kept:,}", *paid, _seconds(pretraining), saved]
        rows.append(row + [_with_interval(comparison.accuracy(arm, mode), sign) for mode in comparison.modes])
    return rows


def print_comparison(comparison: Comparison, selection: Selection, folder: Path, console: Console) -> None:
    """Prints the table, what it says, where the files are, and what to try next.

    Args:
        comparison: All runs.
        selection: The method's order of the first seed.
        folder: Where :func:`write_comparison` wrote.
        console: Where to print.
    """
    seeds = len(comparison.of(comparison.arms[0]))
    title = f"{comparison.target}: test accuracy in percent, mean of {seeds} seeds ± 95 % interval"
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in (*_HEADINGS, *comparison.modes):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for arm, row in zip(comparison.arms, _rows(comparison, "±"), strict=True):
        table.add_row(*row, style="bold" if arm.method == "none" else None)
    console.print(table)
    console.print(f"{_LEGEND}\n'=' marks equal steps, all else is equal epochs.", highlight=False)
    shown = comparison.shown_arm
    console.print(
        f"With the surrogate at hand, as for a second target, {comparison.label} at {shown.ratio:.0%} pruned saves "
        f"{comparison.saving(shown, reused=True):.0%}.\n",
        highlight=False,
    )
    console.print(_differences_table(comparison))
    console.print(f"{comparison.against_random()}\n", style="bold", highlight=False)
    for mode in comparison.modes:
        ratio = comparison.winning_ratio(mode)
        found = f"none, {comparison.label} is below no pruning at each ratio"
        if ratio is not None:
            kept = comparison.of(Arm(comparison.method, ratio))[0]
            found = f"{ratio:.0%} pruned, {kept.units_kept} {comparison.units} and {kept.images_kept:,} images"
        console.print(f"Winning subset by {mode}: {found}", highlight=False)
    best = ", ".join(selection.name(unit) for unit in selection.ranking[:8].tolist())
    console.print(f"Most votes: {best}\n", highlight=False)
    console.print(
        f"In {folder}: summary.json, table.md, accuracy.png, cost.png, votes.png,\n"
        "units.png, selection.safetensors, pruned.safetensors, full.safetensors.\n"
        f"It took {comparison.seconds:.0f} s{_reused(comparison)}.\n",
        highlight=False,
    )
    other = "photos" if comparison.target == "digits" else "digits"
    console.print("Try next:", style="bold")
    unlabelled = comparison.method == "feature_mapping"
    for command in (
        f"tlprune demo --target {other}{' --method fm' if unlabelled else ''}",
        f"tlprune fit --config configs/{'ssl' if unlabelled else 'source'}/drawn_surrogate.yaml",
        f"tlprune fit --config configs/{'ssl/drawn_simclr' if unlabelled else 'source/drawn_pruned'}.yaml",
    ):
        console.print(f"  {command}", highlight=False)


def _reused(comparison: Comparison) -> str:
    return f"; {comparison.reused} of {len(comparison.runs)} runs were finished before" if comparison.reused else ""


def _differences_table(comparison: Comparison) -> Table:
    title = f"{comparison.label} minus ..., in points, paired by seed, with 95 % interval"
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in ("", "pruned", "random", "no pruning"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    rows: dict[tuple[str, Arm], list[str]] = {}
    for one in comparison.differences():
        points = f"{one.points.mean:+.1f}"
        if one.points.count > 1:
            points += f" [{one.points.low:+.1f}, {one.points.high:+.1f}]"
        rows.setdefault((one.mode, one.arm), []).append(f"{points} {one.verdict:<7}")
    for (mode, arm), cells in rows.items():
        table.add_row(mode + (" =" if arm.equal == "steps" else ""), f"{arm.ratio:.0%}", *cells)
    return table


def write_comparison(
    comparison: Comparison, selection: Selection, example: Callable[[int], Tensor], folder: Path
) -> None:
    """Writes ``summary.json``, ``table.md`` and four pictures.

    Args:
        comparison: All runs.
        selection: The method's order of the first seed.
        example: Gives an image ``[3, H, W]`` uint8 of a class.
        folder: Where to write; it is created.

    Raises:
        InputError: The folder cannot be written.
    """
    summary = comparison.as_json()
    write_bytes(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    headings = [*_HEADINGS, *comparison.modes]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *_rows(comparison)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    write_bytes(folder / "table.md", f"{table}\n\n{_LEGEND} '=' marks equal steps.\n".encode())
    kept = comparison.of(comparison.shown_arm)[0].units_kept
    title = f"{comparison.label} for {comparison.target}: {kept} of {selection.num_units} {comparison.units} kept"
    figures = {
        "accuracy": accuracy_figure(demo_results(summary), comparison.target, comparison.modes),
        "cost": cost_figure(comparison),
        "votes": votes_figure(selection, kept, title),
        "units": units_figure(selection, kept, example, title),
    }
    for name, figure in figures.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def cost_figure(comparison: Comparison) -> Figure:
    """Seconds of surrogate, selection and pretraining against prune ratio for the method, beside no pruning.

    Args:
        comparison: All runs.

    Returns:
        A figure with stacked bars and the share saved above each.
    """
    arms = [arm for arm in comparison.arms if arm.method in ("none", comparison.method) and arm.equal == "epochs"]
    figure = Figure(figsize=(6.5, 4.4), layout="constrained")
    axes = figure.subplots()
    names = ["no pruning" if arm.method == "none" else f"{arm.ratio:.0%} pruned" for arm in arms]
    parts = list(zip(*(comparison.seconds_of(arm) for arm in arms), strict=True))
    bottom = [0.0] * len(arms)
    stages = (("surrogate", "#56b4e9"), ("selection", "#cc79a7"), ("pretraining", "#0072b2"))
    for (stage, colour), heights in zip(stages, parts, strict=True):
        axes.bar(names, heights, bottom=bottom, color=colour, label=stage, width=0.6)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    for place, (arm, height) in enumerate(zip(arms, bottom, strict=True)):
        text = f"{height:.1f} s" if arm.method == "none" else f"{height:.1f} s\n{comparison.saving(arm):.0%} saved"
        axes.annotate(text, (place, height), ha="center", va="bottom", fontsize=9)
    axes.set(
        ylabel="seconds, median over seeds",
        title=f"What pretraining costs with {comparison.label} for {comparison.target}",
    )
    axes.set_ylim(0, max(bottom) * 1.2)
    axes.legend(fontsize=9)
    return figure
