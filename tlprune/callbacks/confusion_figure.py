"""Draws a confusion matrix and lists the most confused pairs."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from tlprune.callbacks.tables import Row

__all__ = ["PAIR_COLUMNS", "confused_pairs", "confusion_figure"]

PAIR_COLUMNS = ["true class", "taken for", "images", "images of the true class", "share of the true class (%)"]

_NUMBERED = 40
"""Largest number of classes for which cells show numbers."""

_PAIRS = 20


def confusion_figure(counts: Tensor, classes: Sequence[str], title: str) -> Figure:
    """Draws a confusion matrix with true classes in rows and predicted classes in columns.

    Args:
        counts: Number of images by true class (rows) and predicted class (columns), ``[C, C]`` int64.
        classes: The ``C`` class names.
        title: Title of the figure.

    Returns:
        A figure with numbers in percent of a row.
    """
    number = len(counts)
    side = min(3.6 + 0.32 * number, 14)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = _shares(counts)
    shown = axes.imshow((shares * 100).numpy(), cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="share of the true class (%)", shrink=0.8)
    right = float(counts.diagonal().sum()) / max(float(counts.sum()), 1)
    axes.set(xlabel="taken for", ylabel="true class", title=_drawable(f"{title}: {100 * right:.1f} % right"))
    if number > _NUMBERED:
        return figure
    names = [_drawable(name if len(name) <= 24 else name[:23] + "…") for name in classes]
    axes.set_xticks(range(number), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=8)
    axes.set_yticks(range(number), names, fontsize=8)
    for row, column in (shares >= 0.005).nonzero().tolist():
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{100 * float(shares[row, column]):.0f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if number <= 12 else 7)
    return figure


def confused_pairs(counts: Tensor, classes: Sequence[str]) -> list[Row]:
    """Lists the twenty pairs of classes with the largest share of confused images.

    Args:
        counts: Number of images by true class (rows) and predicted class (columns), ``[C, C]`` int64.
        classes: The ``C`` class names.

    Returns:
        Rows of ``PAIR_COLUMNS``; none if no image is confused with another class.

    Example:
        >>> import torch
        >>> confused_pairs(torch.tensor([[3, 1], [0, 4]]), ["cat", "dog"])
        [['cat', 'dog', 1, 4, 25.0]]
    """
    apart = counts.clone().fill_diagonal_(0)
    shares = _shares(counts) * (apart > 0)
    best = shares.flatten().sort(descending=True, stable=True).indices[:_PAIRS].tolist()
    rows: list[Row] = []
    for true, taken in (divmod(place, len(counts)) for place in best):
        if images := int(apart[true, taken]):
            whole = int(counts[true].sum())
            rows.append([classes[true], classes[taken], images, whole, round(100 * images / whole, 2)])
    return rows


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def _drawable(text: str) -> str:
    """Escapes undecodable bytes and formula signs, because class names may be any file names."""
    return text.encode(errors="backslashreplace").decode().replace("$", r"\$")
