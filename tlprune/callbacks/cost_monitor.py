"""Logs the cost of a run so far, the remaining time, and the cost relative to the whole source."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tlprune.callbacks.logger_adapters import adapt_loggers
from tlprune.errors import OfLightning, require_within
from tlprune.selection.advisor import Forecast
from tlprune.selection.selection import Selection

__all__ = ["CostMonitor"]


class CostMonitor(OfLightning, Callback):
    """Logs time spent, images per second, time left, and the cost relative to a run on the whole source.

    The callback works with any module and DataModule and writes to every logger; unknown values are omitted. Time is
    measured from the start of the fit, includes validation, and continues after a resume.

    - ``cost/minutes_spent``, and ``cost/minutes_left`` if the run has a maximum number of epochs or steps.
    - ``cost/images_per_second``, over all ranks, during training including loading but not validation.
    - ``cost/selection_minutes`` and ``cost/surrogate_minutes``, once: the time for the Selection of the DataModule, and
      the training time in the file of its surrogate.
    - ``cost/of_full_run``: surrogate, selection and training so far, as a share of the same epochs on the whole source.
      ``cost/saved``: the share saved at the end of the run, negative if it costs more. Both are logged if the
      DataModule has fewer ``images_kept`` than ``images_before_pruning`` and the run has a maximum number of epochs.
      The whole source is assumed to cost as much per image as this run.

    The callback does not wait for a GPU, so the first values of a run on a GPU are too high.

    Args:
        every_n_steps: Number of training batches between log entries, at least 1; None for ``log_every_n_steps`` of the
            Trainer.

    Raises:
        InputError: ``every_n_steps`` is out of range.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None:
            require_within("every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps
        self._before = 0.0
        self._begin: float | None = None
        self._batches = 0
        self._lap_begin: float | None = None
        self._lap_seconds = 0.0
        self._lap_images = 0

    @property
    def seconds(self) -> float:
        """Seconds spent in fits so far, including time before a resume."""
        return self._before + (0.0 if self._begin is None else time.perf_counter() - self._begin)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Resets the state of a previous fit; a checkpoint is read later."""
        self._before = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock and logs the time of surrogate and selection."""
        self._begin = time.perf_counter()
        self._batches = 0
        surrogate, selection = _seconds_before(trainer)
        before = {"cost/surrogate_minutes": surrogate / 60, "cost/selection_minutes": selection / 60}
        self._log(trainer, {name: minutes for name, minutes in before.items() if minutes > 0})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Resumes the training clock."""
        self._lap_begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Any, batch_idx: int
    ) -> None:
        """Counts images, and logs every ``every_n_steps`` batches and after the last batch of an epoch."""
        self._batches += 1
        self._lap_images += _images_in(batch) * trainer.world_size
        every = self.every_n_steps or trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's own parts
        if trainer.is_last_batch or (every and (batch_idx + 1) % every == 0):
            self._log(trainer, self._costs(trainer, batch_idx + 1))
        if trainer.is_last_batch:  # other callbacks at the end of an epoch are not training
            self._lap_begin = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pauses the training clock."""
        if self._lap_begin is not None:
            self._lap_seconds += time.perf_counter() - self._lap_begin
        self._lap_begin = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Resumes the training clock."""
        self._lap_begin = time.perf_counter()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stops the clock."""
        self._before, self._begin, self._lap_begin = self.seconds, None, None
        self._lap_seconds, self._lap_images = 0.0, 0

    def state_dict(self) -> dict[str, float]:
        """Returns the time spent."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restores the time spent from a checkpoint."""
        self._before = float(state_dict["seconds"])

    def _costs(self, trainer: Trainer, done: int) -> dict[str, float]:
        """Computes all known costs after ``done`` batches of this epoch."""
        now = time.perf_counter()
        if self._lap_begin is not None:
            self._lap_seconds += now - self._lap_begin
        self._lap_begin = now
        spent = self.seconds
        costs = {"cost/minutes_spent": spent / 60}
        if self._lap_images and self._lap_seconds > 0:
            costs["cost/images_per_second"] = self._lap_images / self._lap_seconds
        self._lap_seconds, self._lap_images = 0.0, 0
        by_epochs, by_steps = _batches_left(trainer, done)
        each = (now - (self._begin or now)) / self._batches
        left = each * min(by_epochs, by_steps)
        if not math.isfinite(left):
            return costs
        costs["cost/minutes_left"] = left / 60
        share = _share_kept(trainer)
        if share is not None and by_epochs <= by_steps and spent + left > 0:
            surrogate, selection = _seconds_before(trainer)
            forecast = Forecast(surrogate, selection, (spent + left) / share)
            costs["cost/of_full_run"] = (surrogate + selection + spent) / forecast.full_seconds
            costs["cost/saved"] = forecast.saving(share)
        return costs

    def _log(self, trainer: Trainer, costs: dict[str, float]) -> None:
        for adapter in adapt_loggers(trainer) if costs else ():
            adapter.log_scalars(costs, trainer.global_step)


def _images_in(batch: object) -> int:
    """Returns the number of images in a batch: the length of its first tensor, or 0 without a tensor."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    inner = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, Sequence) else ()
    return next((count for value in inner if not isinstance(value, str) and (count := _images_in(value))), 0)


def _batches_left(trainer: Trainer, done: int) -> tuple[float, float]:
    """Returns the batches left by the Trainer's epochs and by its steps; infinite without a maximum."""
    by_epochs = by_steps = math.inf
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        by_epochs = (trainer.max_epochs - trainer.current_epoch) * trainer.num_training_batches - done
    if trainer.max_steps >= 0:
        by_steps = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
    return max(by_epochs, 0), max(by_steps, 0)


def _share_kept(trainer: Trainer) -> float | None:
    """Returns the share of the source's training images that is kept; None if nothing is pruned or it is unknown."""
    data = getattr(trainer, "datamodule", None)
    kept, before = (getattr(data, name, None) for name in ("images_kept", "images_before_pruning"))
    return kept / before if isinstance(kept, int) and isinstance(before, int) and 0 < kept < before else None


def _seconds_before(trainer: Trainer) -> tuple[float, float]:
    """Returns seconds of surrogate and selection from the metadata of the Selection; 0 if not recorded."""
    selection = getattr(getattr(trainer, "datamodule", None), "selection", None)
    if not isinstance(selection, Selection):
        return 0.0, 0.0
    record = selection.metadata
    return float(record.get("surrogate_seconds", 0.0)), float(sum(record.get("seconds", {}).values()))
