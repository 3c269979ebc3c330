"""A Selection as pictures: who got the votes, and what kept and dropped units look like."""

from collections.abc import Callable, Sequence
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tlprune.selection.manifest import Selection
from tlprune.selection.ranking import coverage

__all__ = ["DROPPED", "KEPT", "explanation_figure", "units_figure", "votes_figure"]

KEPT = "#0072b2"
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind readers can tell apart."""
DROPPED = "#d55e00"

_LABELLED = 12


def votes_figure(selection: Selection, kept: int, title: str) -> Figure:
    """Votes of all units, best first, and the share of votes that the best k hold.

    Args:
        selection: What is shown.
        kept: How many units are kept.
        title: Heading.

    Returns:
        A figure.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    votes = selection.votes[selection.ranking]
    ranks = range(1, selection.num_units + 1)
    colours = [KEPT if rank <= kept else DROPPED for rank in ranks]
    axes.bar(ranks, votes.tolist(), color=colours, width=0.85)
    axes.axvline(kept + 0.5, color="black", linewidth=1, linestyle="--")
    axes.set(xlabel="rank of the unit", ylabel="votes", title=title, xlim=(0.25, selection.num_units + 0.75))
    share = axes.twinx()
    curve = coverage(selection.votes, selection.ranking) * 100
    share.plot(ranks, curve.tolist(), color="black", linewidth=1.5)
    share.set(ylabel="share of votes covered (%)", ylim=(0, 103))
    at_cut = f" {curve[kept - 1]:.1f} % of votes\n in {kept} units kept"
    right = kept > 0.7 * selection.num_units
    share.annotate(
        at_cut, (kept + 0.5, 50), va="center", ha="right" if right else "left", fontsize=9, backgroundcolor="#ffffffcc"
    )
    return figure


def units_figure(selection: Selection, kept: int, example: Callable[[int], Tensor], title: str) -> Figure:
    """The best kept units, the last kept ones, and the worst dropped ones, an image of each with its votes.

    Args:
        selection: What is shown.
        kept: How many units are kept.
        example: Gives an image ``[3, H, W]`` uint8 of a unit.
        title: Heading.

    Returns:
        A figure.
    """
    order = selection.ranking.tolist()
    last_kept = order[max(kept - _LABELLED, _LABELLED) : kept]
    rows = [("kept,\nmost votes", order[: min(kept, _LABELLED)], KEPT), ("kept,\nlast", last_kept, KEPT)]
    dropped = order[kept:]
    rows.append(("dropped,\nfirst", dropped[:_LABELLED], DROPPED))
    rows.append(("dropped,\nlast", dropped[_LABELLED:][-_LABELLED:], DROPPED))
    rows = [row for row in rows if row[1]]
    figure = Figure(figsize=(15, 1.7 * len(rows) + 0.5), layout="constrained")
    figure.suptitle(title)
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
    """A unit's own images, and the target images that voted for it.

    Args:
        name: Of the unit.
        own: Images ``[3, H, W]`` uint8 of the unit; the first twelve are shown.
        voters: Target images ``[3, H, W]`` uint8, each with its class; the first thirty-six are shown.
        title: Heading.

    Returns:
        A figure.
    """
    shown = [voters[start : start + _LABELLED] for start in range(0, min(len(voters), 3 * _LABELLED), _LABELLED)]
    figure = Figure(figsize=(15, 1.6 * (1 + len(shown)) + 0.5), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(1 + len(shown), _LABELLED, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    rows = [(f"images of\n{name.replace('_', ' ')}", [(image, "") for image in own[:_LABELLED]])]
    rows += [("target images\nthat voted for it", list(line)) for line in shown]
    for line, (label, images) in zip(grid, rows, strict=True):
        line[0].text(-0.1, 0.5, label, ha="right", va="center", transform=line[0].transAxes, fontsize=10)
        for axes, (image, text) in zip(line, images, strict=False):
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.set_title(text, fontsize=8)
    return figure


def _show_unit(axes: Axes, selection: Selection, unit: int, image: Tensor, colour: str) -> None:
    axes.imshow(image.permute(1, 2, 0).numpy())
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2)
    shown = "\n".join(wrap(selection.unit_names[unit].replace("_", " "), 18, max_lines=2, placeholder=" …"))
    votes = f"{selection.votes[unit]:g}"
    axes.set_xlabel(f"{shown}\n{votes} {'vote' if votes == '1' else 'votes'}", fontsize=7)
