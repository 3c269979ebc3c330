"""Figures of a Selection: votes per unit, and example images of kept and dropped units."""

from collections.abc import Callable, Sequence
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from tlprune.selection.advisor import Forecast
from tlprune.selection.selection import Selection

__all__ = [
    "DROPPED",
    "KEPT",
    "advice_figure",
    "drawable",
    "explanation_figure",
    "leaks_figure",
    "units_figure",
    "votes_figure",
]

KEPT = "#0072b2"
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind readers can distinguish."""
DROPPED = "#d55e00"

_LABELLED = 12

_BARS = 500

_POINTS = 1000
"""Most units on either side of the border that a figure has points for."""


def votes_figure(selection: Selection, kept: int, title: str) -> Figure:
    """Plots the votes of all units, best first, and the share of votes of the best k units."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    votes = selection.votes[selection.ranking]
    for begin, end, colour in ((0, kept, KEPT), (kept, selection.num_units, DROPPED)):
        places = _places(begin, end)
        ranks, heights = [place + 1 for place in places], votes[places].tolist()
        if selection.num_units <= _BARS:
            axes.bar(ranks, heights, color=colour, width=0.85)
        else:
            axes.fill_between(ranks, heights, color=colour, step="mid", linewidth=0)
    axes.axvline(kept + 0.5, color="black", linewidth=1, linestyle="--")
    axes.set(xlabel="rank of the unit", ylabel="votes", title=drawable(title), xlim=(0.25, selection.num_units + 0.75))
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    share = axes.twinx()
    curve = selection.covered * 100
    places = [*_places(0, kept), *_places(kept, selection.num_units)]
    share.plot([place + 1 for place in places], curve[places].tolist(), color="black", linewidth=1.5)
    share.set(ylabel="share of votes covered (%)", ylim=(0, 103))
    at_cut = f" {curve[kept - 1]:.1f} % of votes\n in {kept} units kept"
    right = kept > 0.7 * selection.num_units
    share.annotate(
        at_cut, (kept + 0.5, 50), va="center", ha="right" if right else "left", fontsize=9, backgroundcolor="#ffffffcc"
    )
    return figure


def _places(begin: int, end: int) -> list[int]:
    """Returns the ranks of a range that are drawn, from 0: all, or evenly spaced ones with both ends."""
    count = min(end - begin, _POINTS)
    return [begin + place * (end - begin - 1) // max(count - 1, 1) for place in range(count)]


def units_figure(selection: Selection, kept: int, example: Callable[[int], Tensor], title: str) -> Figure:
    """Plots one image with its votes for the best kept units, the last kept units, and the worst dropped units.

    Args:
        selection: Selection to plot.
        kept: Number of kept units.
        example: Function that returns a uint8 image ``[3, H, W]`` of a unit.
        title: Title of the figure.
    """
    order = selection.ranking.tolist()
    last_kept = order[max(kept - _LABELLED, _LABELLED) : kept]
    rows = [("kept,\nmost votes", order[: min(kept, _LABELLED)], KEPT), ("kept,\nlast", last_kept, KEPT)]
    dropped = order[kept:]
    rows.append(("dropped,\nfirst", dropped[:_LABELLED], DROPPED))
    rows.append(("dropped,\nlast", dropped[_LABELLED:][-_LABELLED:], DROPPED))
    rows = [row for row in rows if row[1]]
    figure = Figure(figsize=(15, 1.7 * len(rows) + 0.5), layout="constrained")
    figure.suptitle(drawable(title))
    grid = figure.subplots(len(rows), _LABELLED, squeeze=False)
    for line, (label, units, colour) in zip(grid, rows, strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", color=colour, fontsize=10)
        for place, axes in enumerate(line):
            if place < len(units):
                _show_unit(axes, selection, units[place], example(units[place]), colour)
            else:
                axes.axis("off")
    return figure


def explanation_figure(name: str, own: Sequence[Tensor], voters: Sequence[tuple[Tensor, str]], title: str) -> Figure:
    """Plots a unit's own images and the target images that voted for it.

    Args:
        name: Name of the unit.
        own: Uint8 images ``[3, H, W]`` of the unit; the first twelve are shown. Without any there is no row for them.
        voters: Uint8 target images ``[3, H, W]``, each with its class; the first thirty-six are shown.
        title: Title of the figure.
    """
    shown = [voters[start : start + _LABELLED] for start in range(0, min(len(voters), 3 * _LABELLED), _LABELLED)]
    rows: list[tuple[str, list[tuple[Tensor, str]]]] = []
    if own:
        rows.append((f"images of\n{drawable(name.replace('_', ' '))}", [(image, "") for image in own[:_LABELLED]]))
    rows += [("target images\nthat voted for it", list(line)) for line in shown]
    figure = Figure(figsize=(15, 1.6 * max(len(rows), 1) + 0.5), layout="constrained")
    figure.suptitle(drawable(title))
    grid = figure.subplots(max(len(rows), 1), _LABELLED, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for line, (label, images) in zip(grid, rows, strict=False):
        line[0].text(-0.1, 0.5, label, ha="right", va="center", transform=line[0].transAxes, fontsize=10)
        for axes, (image, text) in zip(line, images, strict=False):
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.set_title(_short(text), fontsize=8)
    return figure


def advice_figure(selection: Selection, marked: dict[str, int], forecast: Forecast | None) -> Figure:
    """Plots covered votes and saved time against the share of pruned units.

    Args:
        selection: Selection made with votes.
        marked: Numbers of units to mark on the curve, by label.
        forecast: Forecast of the saving; None to leave it out.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    units = selection.num_units
    pruned = [100 * (1 - kept / units) for kept in range(1, units + 1)]
    axes.plot(pruned, (selection.covered * 100).tolist(), color=KEPT, linewidth=2, label="votes covered")
    if len(selection.target_votes):
        names = selection.metadata.get("targets", [])
        for place, curve in enumerate(selection.covered_by_target):
            label = names[place] if place < len(names) else f"target {place + 1}"
            axes.plot(pruned, (curve * 100).tolist(), linewidth=1, linestyle=":", label=drawable(f"votes of {label}"))
    if forecast is not None:
        shares = selection.unit_sizes[selection.ranking].cumsum(0) / len(selection.unit_of_sample)
        for reused, style, label in ((False, "-", "time saved"), (True, "--", "time saved, surrogate at hand")):
            saved = [100 * forecast.saving(share, reused) for share in shares.tolist()]
            axes.plot(pruned, saved, color=DROPPED, linewidth=1.5, linestyle=style, label=label)
    for row, (name, kept) in enumerate(marked.items()):
        at = 100 * (1 - kept / units)
        axes.axvline(at, color="black", linewidth=1, linestyle="--", zorder=1)
        left = at > 60
        axes.annotate(
            f"{name}: {at:.3g} % pruned",
            (at, 0),
            (-4 if left else 4, 4 + 14 * row),
            textcoords="offset points",
            zorder=4,
            fontsize=9,
            ha="right" if left else "left",
            bbox={"fc": "white", "ec": "none", "pad": 1},
        )
    axes.set(xlabel="units pruned (%)", ylabel="share (%)", xlim=(0, 100), ylim=(0, 104))
    axes.set_title(f"{selection.method}: how much to prune")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def leaks_figure(
    pairs: Sequence[tuple[Tensor, Tensor, str]], title: str, lines: tuple[str, str] = ("test", "kept\nsource")
) -> Figure:
    """Plots test images above the training images that they resemble.

    Args:
        pairs: Test image, training image (uint8 ``[3, H, W]`` each) and caption; the first twelve pairs are shown.
        title: Title of the figure.
        lines: Names of the two lines of images.
    """
    figure = Figure(figsize=(15, 3.8), layout="constrained")
    figure.suptitle(drawable(title))
    grid = figure.subplots(2, _LABELLED, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    if not pairs:
        figure.text(0.5, 0.5, "none", ha="center", va="center", fontsize=14)
        return figure
    for line, text in zip(grid, lines, strict=True):
        line[0].text(-0.1, 0.5, text, ha="right", va="center", transform=line[0].transAxes, fontsize=10)
    for place, (test, source, caption) in enumerate(pairs[:_LABELLED]):
        grid[0, place].imshow(test.permute(1, 2, 0).numpy())
        grid[1, place].imshow(source.permute(1, 2, 0).numpy())
        grid[0, place].set_title(drawable(caption), fontsize=8)
    return figure


def _short(name: str) -> str:
    return drawable("\n".join(wrap(name.replace("_", " "), 18, max_lines=2, placeholder=" …")))


def drawable(text: str) -> str:
    """Escapes a text for matplotlib: bytes that are not text are escaped, and no formulas are rendered.

    Args:
        text: Text that may contain any file name, such as a class name.
    """
    return text.encode(errors="backslashreplace").decode().replace("$", r"\$")


def _show_unit(axes: Axes, selection: Selection, unit: int, image: Tensor, colour: str) -> None:
    axes.imshow(image.permute(1, 2, 0).numpy())
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2)
    shown = _short(selection.name(unit))
    votes = f"{selection.votes[unit]:g}"
    axes.set_xlabel(f"{shown}\n{votes} {'vote' if votes == '1' else 'votes'}", fontsize=7)
