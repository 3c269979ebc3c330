"""Shows the kept and dropped units of a Selection and their votes in TensorBoard."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from tlprune.callbacks.projector import project_units
from tlprune.errors import OfLightning, require_within
from tlprune.selection.figures import units_figure, votes_figure
from tlprune.selection.selection import Selection

__all__ = ["SelectionMonitor"]

_POINTS = 500
"""Largest number of points of a curve."""


class SelectionMonitor(OfLightning, Callback):
    """Writes the Selection of the DataModule to TensorBoard when training starts; does nothing without a Selection.

    - Scalars ``selection/units_kept``, ``selection/images_kept`` and ``selection/votes_covered`` (in [0, 1]; with
      several targets also for each target). If there are votes, also ``selection/coverage_curve``, the share of votes
      of the best ``k`` units, with ``k`` as the step.
    - Figures ``selection/votes``, if there are votes, and ``selection/units``.
    - Histogram ``selection/votes_of_a_unit``, if there are votes: all units at step 0, kept units at step 1.
    - The projector, if the selector has features of units: k-means centroids or class means for Feature Mapping, rows
      of the surrogate's head for Label Mapping. Single images are not projected.

    A run resumed in the same folder does not write them again.

    Args:
        projected_units: Largest number of units in the projector, each with one of its images, which must be read.
            Larger Selections are subsampled evenly along the ranking. 0 disables the projector.

    Raises:
        InputError: ``projected_units`` is out of range.
    """

    def __init__(self, projected_units: int = 1000) -> None:
        require_within("projected_units", projected_units, 0)
        self.projected_units = projected_units
        self._written_to: list[str] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes everything on rank 0."""
        data: Any = getattr(trainer, "datamodule", None)
        selection = getattr(data, "selection", None)
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        boards = [board for board in boards if board.log_dir not in self._written_to]
        self._written_to += [board.log_dir for board in boards]
        if not isinstance(selection, Selection) or not boards or not trainer.is_global_zero:
            return
        kept = int(data.units_kept)
        images: Any = getattr(data, "source_images", None)

        def example(unit: int) -> Tensor:
            image: Tensor = images[selection.example(unit)][0]
            return image

        title = f"{selection.method}: {kept} of {selection.num_units} units kept"
        figures: dict[str, Figure] = {}
        if len(selection.assignments):
            figures["selection/votes"] = votes_figure(selection, kept, title)
        if images is not None:
            figures["selection/units"] = units_figure(selection, kept, example, title)
        features = self._unit_features(data, selection)
        for board in boards:
            board.log_metrics(_scalars(selection, kept), step=0)
            for name, figure in figures.items():
                board.experiment.add_figure(name, figure, global_step=0)
            if len(selection.assignments):
                _write_votes(board, selection, kept)
            if features is not None:
                shown = None if images is None else example
                project_units(board.experiment, selection, kept, features, shown, self.projected_units)

    def state_dict(self) -> dict[str, list[str]]:
        """Returns the folders that were written to."""
        return {"written_to": self._written_to}

    def load_state_dict(self, state_dict: dict[str, list[str]]) -> None:
        """Restores the written folders from a checkpoint."""
        self._written_to = list(state_dict["written_to"])

    def _unit_features(self, data: Any, selection: Selection) -> Tensor | None:
        """Returns features of units, ``[U, D]``; None if they are unknown or the projector is disabled."""
        unit_features = getattr(data, "unit_features", None)
        if unit_features is None or not self.projected_units or selection.unit_kind == "sample":
            return None
        features: Tensor | None = unit_features()
        return features if features is not None and len(features) == selection.num_units else None


def _scalars(selection: Selection, kept: int) -> dict[str, float]:
    sizes = selection.unit_sizes[selection.ranking[:kept]]
    scalars = {
        "selection/units_kept": float(kept),
        "selection/images_kept": float(sizes.sum()),
        "selection/votes_covered": selection.coverage(kept),
        "selection/vote_entropy": selection.vote_entropy,
    }
    names = selection.metadata.get("targets", [])
    for place, covered in enumerate(selection.covered_by_target[:, kept - 1] if len(selection.target_votes) else []):
        name = names[place] if place < len(names) else str(place + 1)
        scalars[f"selection/votes_covered/{name}"] = float(covered)
    return scalars


def _write_votes(board: TensorBoardLogger, selection: Selection, kept: int) -> None:
    """Writes the histogram and the coverage curve."""
    ranked = selection.votes[selection.ranking].numpy()
    for step, votes in enumerate((ranked, ranked[:kept])):
        board.experiment.add_histogram("selection/votes_of_a_unit", votes, global_step=step)
    units = selection.num_units
    for place in torch.linspace(0, units - 1, min(units, _POINTS)).round().long().tolist():
        board.log_metrics({"selection/coverage_curve": float(selection.covered[place])}, step=place + 1)
