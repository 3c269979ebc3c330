"""Shows the units of a Selection in the surrogate's feature space in the TensorBoard projector."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from tlprune.callbacks.ranking_table import RANKING_COLUMNS, ranking_rows, shown_places
from tlprune.selection.selection import Selection

__all__ = ["project_units"]

_SIDE = 48
"""Side of the picture of a unit in pixels. A thousand pictures form a sprite of 1,536 pixels; the projector allows
8,192."""


def project_units(
    writer: SummaryWriter,
    selection: Selection,
    kept: int,
    features: Tensor,
    example: Callable[[int], Tensor] | None,
    most: int,
) -> None:
    """Writes a point for each unit, with its name, votes, rank, whether it is kept, and one of its images.

    Args:
        writer: TensorBoard writer of the run.
        selection: Selection to show.
        kept: Number of kept units.
        features: Features of the units, ``[U, D]``.
        example: Function from a unit to one of its images, ``[3, H, W]`` uint8; None for points without pictures.
        most: Largest number of units to show, at least 1; larger Selections are subsampled evenly along the ranking.
    """
    places = shown_places(selection, most)
    units = [int(selection.ranking[place]) for place in places]
    rows = [
        [f"{cell:g}" if isinstance(cell, float) else cell for cell in row]
        for row in ranking_rows(selection, kept, places)
    ]
    pictures = None if example is None else torch.stack([_picture(example(unit)) for unit in units])
    writer.add_embedding(features[units], rows, pictures, global_step=0, tag="units", metadata_header=RANKING_COLUMNS)


def _picture(image: Tensor) -> Tensor:
    """Crops an image to its centre and resizes it to ``[3, S, S]`` in [0, 1]."""
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[None, :, top : top + side, left : left + side].float() / 255
    return F.interpolate(square, (_SIDE, _SIDE), mode="bilinear", antialias=True)[0].clamp(0, 1)
