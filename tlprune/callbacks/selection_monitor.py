"""Shows in TensorBoard what was kept, what was dropped, and who got the votes."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from tlprune.selection.figures import units_figure, votes_figure
from tlprune.selection.manifest import Selection

__all__ = ["SelectionMonitor"]


class SelectionMonitor(Callback):
    """Writes the DataModule's Selection to TensorBoard when training starts; without one it does nothing.

    Scalars ``selection/units_kept``, ``selection/images_kept`` and ``selection/votes_covered`` (in [0, 1]; for each of
    several targets too), figures ``selection/votes``, where there are votes, and ``selection/units``.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes figures and scalars on the first rank."""
        data = getattr(trainer, "datamodule", None)
        selection = getattr(data, "selection", None)
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not isinstance(selection, Selection) or not boards or not trainer.is_global_zero:
            return
        kept = int(data.units_kept)  # type: ignore[union-attr]  # a DataModule with a Selection has it
        sizes = selection.unit_sizes[selection.ranking[:kept]]
        scalars = {
            "selection/units_kept": float(kept),
            "selection/images_kept": float(sizes.sum()),
            "selection/votes_covered": selection.coverage(kept),
        }
        title = f"{selection.method}: {kept} of {selection.num_units} units kept"
        names = selection.record.get("targets", [])
        for place, covered in enumerate(
            selection.covered_by_target[:, kept - 1] if len(selection.target_votes) else []
        ):
            name = names[place] if place < len(names) else str(place + 1)
            scalars[f"selection/votes_covered/{name}"] = float(covered)
        figures: dict[str, Figure] = {}
        if len(selection.ballots):
            figures["selection/votes"] = votes_figure(selection, kept, title)
        images = getattr(data, "source_images", None)
        if images is not None:

            def example(unit: int) -> Tensor:
                image: Tensor = images[selection.example(unit)][0]
                return image

            figures["selection/units"] = units_figure(selection, kept, example, title)
        for board in boards:
            board.log_metrics(scalars, step=0)
            for name, figure in figures.items():
                board.experiment.add_figure(name, figure, global_step=0)
