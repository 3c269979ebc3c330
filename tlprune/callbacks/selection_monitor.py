"""Shows the kept and dropped units of a Selection and their votes."""

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from tlprune.callbacks.logger_adapters import LoggerAdapter, adapt_loggers, draw
from tlprune.callbacks.projector import project_units
from tlprune.callbacks.ranking_table import RANKING_COLUMNS, ranking_rows, shown_places
from tlprune.errors import OfLightning, require_within
from tlprune.selection.figures import units_figure, votes_figure
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection

__all__ = ["SelectionMonitor"]

_POINTS = 500
"""Largest number of points of a curve."""

_ROWS = 1000
"""Largest number of rows of a table."""


class SelectionMonitor(OfLightning, Callback):
    """Logs the Selection of the DataModule when training starts; does nothing without a Selection.

    Every logger has

    - the numbers ``selection/units_kept``, ``selection/images_kept``, ``selection/vote_entropy`` and
      ``selection/votes_covered`` (in [0, 1]), with several targets also ``selection/votes_covered_by_target/NAME``
    - if there are votes, ``selection/coverage_curve``, the share of votes of the best ``k`` units, with ``k`` as the
      step or as a column.

    The loggers of TensorBoard, W&B, MLflow and CSV also have

    - the figures ``selection/votes``, if there are votes, and ``selection/units``
    - the table ``selection/ranking`` with name, votes, rank and images of units; of more than 1,000 units, these are
      evenly spaced along the ranking.

    TensorBoard and W&B have the histogram ``selection/votes_of_a_unit``, if there are votes, of all units (in
    TensorBoard at step 0) and of kept units (step 1). TensorBoard has the projector, if the selector has features of
    units: k-means centroids or class means for Feature Mapping, rows of the surrogate's head for Label Mapping. Single
    images are not projected.

    A resumed fit that logs to the same run does not log them again.

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
        """Logs everything on rank 0."""
        data: Any = getattr(trainer, "datamodule", None)
        selection = getattr(data, "selection", None)
        adapters = [adapter for adapter in adapt_loggers(trainer) if adapter.run not in self._written_to]
        self._written_to += [adapter.run for adapter in adapters]
        if not isinstance(selection, Selection) or not adapters:
            return
        kept = int(data.units_kept)
        images: Any = getattr(data, "source_images", None)

        def example(unit: int) -> Tensor:
            image: Tensor = images[selection.example(unit)][0]
            return image

        shown = None if images is None else example
        for adapter in adapters:
            adapter.log_scalars(_scalars(selection, kept, getattr(data, "budget", None)), 0)
            if len(selection.assignments):
                _log_votes(adapter, selection, kept)
        showing = [adapter for adapter in adapters if adapter.shows_pictures]
        if showing:
            _log_figures(showing, selection, kept, shown)
        for adapter in adapters:
            writer = adapter.summary_writer
            if writer is not None and (features := self._unit_features(data, selection)) is not None:
                project_units(writer, selection, kept, features, shown, self.projected_units)

    def state_dict(self) -> dict[str, list[str]]:
        """Returns the runs that were written to."""
        return {"written_to": self._written_to}

    def load_state_dict(self, state_dict: dict[str, list[str]]) -> None:
        """Restores the runs that were written to from a checkpoint."""
        self._written_to = list(state_dict["written_to"])

    def _unit_features(self, data: Any, selection: Selection) -> Tensor | None:
        """Returns features of units, ``[U, D]``; None if they are unknown or the projector is disabled."""
        unit_features = getattr(data, "unit_features", None)
        if unit_features is None or not self.projected_units or selection.unit_kind == "sample":
            return None
        features: Tensor | None = unit_features()
        return features if features is not None and len(features) == selection.num_units else None


def _scalars(selection: Selection, kept: int, budget: object) -> dict[str, float]:
    images = selection.unit_sizes[selection.ranking[:kept]].sum()
    if isinstance(budget, Budget) and budget.exactly is not None:  # the last unit is cut
        images = images.clamp(max=budget.exactly)
    scalars = {
        "selection/units_kept": float(kept),
        "selection/images_kept": float(images),
        "selection/votes_covered": selection.coverage(kept),
        "selection/vote_entropy": selection.vote_entropy,
    }
    names = selection.metadata.get("targets", [])
    for place, covered in enumerate(selection.covered_by_target[:, kept - 1] if len(selection.target_votes) else []):
        name = names[place] if place < len(names) else str(place + 1)
        scalars[f"selection/votes_covered_by_target/{name}"] = float(covered)
    return scalars


def _log_votes(adapter: LoggerAdapter[Any], selection: Selection, kept: int) -> None:
    """Logs the histogram and the coverage curve."""
    ranked = selection.votes[selection.ranking].numpy()
    adapter.log_histogram("selection/votes_of_a_unit", {"all": ranked, "kept": ranked[:kept]})
    places = shown_places(selection, _POINTS)
    points = [(place + 1, float(selection.covered[place])) for place in places]
    adapter.log_curve("selection/coverage_curve", ("units", "share of votes"), points)


def _log_figures(
    adapters: Sequence[LoggerAdapter[Any]],
    selection: Selection,
    kept: int,
    example: Callable[[int], Tensor] | None,
) -> None:
    """Logs the figures and the table of the ranking; ``example`` returns an image of a unit."""
    title = f"{selection.method}: {kept} of {selection.num_units} units kept"
    pictures: dict[str, Image.Image] = {}
    if len(selection.assignments):
        pictures["selection/votes"] = draw(votes_figure(selection, kept, title))
    if example is not None:
        pictures["selection/units"] = draw(units_figure(selection, kept, example, title))
    rows = ranking_rows(selection, kept, shown_places(selection, _ROWS))
    for adapter in adapters:
        for name, picture in pictures.items():
            adapter.log_picture(name, picture)
        adapter.log_table("selection/ranking", RANKING_COLUMNS, rows)
