"""Logs numbers, curves, pictures, tables and hyperparameters to every logger of a Trainer.

Lightning's loggers share an interface for numbers and hyperparameters only. An adapter adds the rest for TensorBoard,
W&B, MLflow and CSV; any other logger has the numbers and hyperparameters. W&B and MLflow are imported for their own
loggers only.
"""

import io
import posixpath
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from tlprune.callbacks.tables import Row, csv_text, markdown_text, plain_text

__all__ = ["LoggerAdapter", "adapt_loggers", "draw"]

AnyLogger = TypeVar("AnyLogger", bound=Logger)


class LoggerAdapter(Generic[AnyLogger]):
    """Logs to a logger through Lightning's interface alone: numbers and hyperparameters, no pictures or tables.

    Args:
        logger: Logger to write to, on rank 0.
    """

    shows_pictures = False
    """Whether pictures, histograms and tables are shown."""

    def __init__(self, logger: AnyLogger) -> None:
        self.logger = logger

    @property
    def run(self) -> str:
        """Name of the run, distinct from those of other runs and loggers."""
        return f"{type(self.logger).__name__}:{self.logger.name}:{self.logger.version}"

    @property
    def summary_writer(self) -> SummaryWriter | None:
        """Writer for what only TensorBoard shows; None for other loggers."""
        return None

    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Logs numbers.

        Args:
            scalars: Numbers by name.
            step: Step of the Trainer.
        """
        self.logger.log_metrics(dict(scalars), step=step)

    def log_curve(self, name: str, axes: tuple[str, str], points: Sequence[tuple[int, float]]) -> None:
        """Logs a curve that is not a function of the Trainer's step.

        Args:
            name: Name of the curve.
            axes: Meaning of abscissa and ordinate.
            points: Abscissae, which increase, and ordinates.
        """
        for step, value in points:
            self.log_scalars({name: value}, step)

    def log_histogram(self, name: str, parts: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        """Logs histograms of several sets of values.

        Args:
            name: Name of the histogram.
            parts: Values by name of the set.
        """

    def log_picture(self, name: str, picture: Image.Image, step: int | None = None) -> None:
        """Logs a picture.

        Args:
            name: Name of the picture.
            picture: Picture in RGB.
            step: Step of the Trainer; None for a picture that is logged once a run.
        """

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int | None = None) -> None:
        """Logs a table.

        Args:
            name: Name of the table, different from those of pictures.
            columns: Names of the ``C`` columns.
            rows: Rows of ``C`` cells.
            step: Step of the Trainer; None for a table that is logged once a run.
        """

    def log_hyperparameters(self, values: Mapping[str, str | float]) -> None:
        """Logs hyperparameters.

        Args:
            values: Hyperparameters by name.
        """
        self.logger.log_hyperparams(dict(values))


class TensorBoardAdapter(LoggerAdapter[TensorBoardLogger]):
    """Logs to TensorBoard; tables are text, and sets of a histogram are steps."""

    shows_pictures = True

    @property
    def run(self) -> str:
        return self.logger.log_dir

    @property
    def summary_writer(self) -> SummaryWriter:
        writer: SummaryWriter = self.logger.experiment
        return writer

    def log_histogram(self, name: str, parts: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        for step, values in enumerate(parts.values()):
            self.summary_writer.add_histogram(name, values, global_step=step)

    def log_picture(self, name: str, picture: Image.Image, step: int | None = None) -> None:
        self.summary_writer.add_image(name, np.asarray(picture), global_step=step or 0, dataformats="HWC")

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int | None = None) -> None:
        self.summary_writer.add_text(name, markdown_text(columns, rows), global_step=step or 0)

    def log_hyperparameters(self, values: Mapping[str, str | float]) -> None:
        # no description of the experiment: TensorBoard would take the columns of all runs from the first description
        # that it finds, and without one it takes them from all runs
        shown = {name: str(value) if isinstance(value, bool) else value for name, value in values.items()}
        _, begin, end = hparams(shown, {})  # type: ignore[no-untyped-call]
        for summary in (begin, end):
            self.summary_writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


class WandbAdapter(LoggerAdapter[WandbLogger]):
    """Logs to Weights & Biases; hyperparameters are in ``config``, last values in ``summary``."""

    shows_pictures = True

    @property
    def run(self) -> str:
        return f"wandb:{self.logger.experiment.id}"

    def log_curve(self, name: str, axes: tuple[str, str], points: Sequence[tuple[int, float]]) -> None:
        import wandb

        table = wandb.Table(columns=list(axes), data=[list(point) for point in points])
        chart: Any = wandb.plot.line(table, *axes, title=name)
        self.logger.log_metrics({name: chart}, step=0)

    def log_histogram(self, name: str, parts: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        import wandb

        counted = {part: np.histogram(values, bins=64) for part, values in parts.items()}
        histograms: Any = {f"{name}/{part}": wandb.Histogram(np_histogram=counts) for part, counts in counted.items()}
        self.logger.log_metrics(histograms, step=0)

    def log_picture(self, name: str, picture: Image.Image, step: int | None = None) -> None:
        self.logger.log_image(name, [picture], step=step or 0)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int | None = None) -> None:
        cells = [[plain_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
        self.logger.log_table(name, list(columns), cells, step=step or 0)


class MLFlowAdapter(LoggerAdapter[MLFlowLogger]):
    """Logs to MLflow; pictures and tables are artifacts.

    MLflow restricts names: a metric or parameter is a path of a file in a file store, so none may be the folder of
    another. A parameter of a run never changes; a later value becomes a tag.
    """

    shows_pictures = True

    @property
    def run(self) -> str:
        return f"mlflow:{self.logger.run_id}"

    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        super().log_scalars({_legal(name): value for name, value in scalars.items()}, step)

    def log_curve(self, name: str, axes: tuple[str, str], points: Sequence[tuple[int, float]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_legal(name), value, now, step) for step, value in points]
        self.logger.experiment.log_batch(self.logger.run_id, metrics=metrics)  # one request, not one for each point

    def log_picture(self, name: str, picture: Image.Image, step: int | None = None) -> None:
        self.logger.experiment.log_image(self.logger.run_id, picture, _file(name, step, "png"))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int | None = None) -> None:
        self.logger.experiment.log_text(self.logger.run_id, csv_text(columns, rows), _file(name, step, "csv"))

    def log_hyperparameters(self, values: Mapping[str, str | float]) -> None:
        named = {_legal(name).replace("/", "."): str(value)[:250] for name, value in values.items()}
        known = self.logger.experiment.get_run(self.logger.run_id).data.params
        self.logger.log_hyperparams({name: value for name, value in named.items() if name not in known})
        for name, value in named.items():
            if known.get(name, value) != value:
                self.logger.experiment.set_tag(self.logger.run_id, name, value)


class CSVAdapter(LoggerAdapter[CSVLogger]):
    """Logs to files beside ``metrics.csv`` and ``hparams.yaml``."""

    shows_pictures = True

    @property
    def run(self) -> str:
        return self.logger.log_dir

    def log_curve(self, name: str, axes: tuple[str, str], points: Sequence[tuple[int, float]]) -> None:
        self.log_table(name, axes, points)

    def log_picture(self, name: str, picture: Image.Image, step: int | None = None) -> None:
        content = io.BytesIO()
        picture.save(content, format="png")
        self._write(_file(name, step, "png"), content.getvalue())

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int | None = None) -> None:
        self._write(_file(name, step, "csv"), csv_text(columns, rows).encode())

    def _write(self, file: str, content: bytes) -> None:
        folder = self.logger.experiment.log_dir  # the logger clears the folder when it opens it
        path = posixpath.join(folder, file)
        filesystem = get_filesystem(folder)  # Lightning's logger may write to a remote one
        filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
        filesystem.pipe_file(path, content)


_ADAPTERS: dict[type[Logger], type[LoggerAdapter[Any]]] = {
    TensorBoardLogger: TensorBoardAdapter,
    WandbLogger: WandbAdapter,
    MLFlowLogger: MLFlowAdapter,
    CSVLogger: CSVAdapter,
}


def adapt_loggers(trainer: Trainer) -> list[LoggerAdapter[Any]]:
    """Returns an adapter for each logger of a Trainer on rank 0; none on other ranks."""
    if not trainer.is_global_zero:
        return []
    return [_adapter_of(logger) for logger in trainer.loggers if not isinstance(logger, DummyLogger)]


def _adapter_of(logger: Logger) -> LoggerAdapter[Any]:
    for kind, adapter in _ADAPTERS.items():
        if isinstance(logger, kind):
            return adapter(logger)
    return LoggerAdapter(logger)


def draw(figure: Figure) -> Image.Image:
    """Draws a figure, once for all loggers.

    Returns:
        Picture in RGB.
    """
    canvas: Any = FigureCanvasAgg(figure)  # Matplotlib has no types
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _file(name: str, step: int | None, ending: str) -> str:
    return f"{name}.{ending}" if step is None else f"{name}/step_{step}.{ending}"


def _legal(name: str) -> str:
    """Replaces what MLflow allows in no name."""
    parts = re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII).split("/")
    return "/".join(part for part in parts if part.strip("."))
