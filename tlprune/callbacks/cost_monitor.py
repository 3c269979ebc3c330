"""Says what a run has cost so far, what is left of it, and what the whole source would have cost."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tlprune.errors import OfLightning, require_within
from tlprune.selection.advisor import Forecast
from tlprune.selection.selection import Selection

__all__ = ["CostMonitor"]


class CostMonitor(OfLightning, Callback):
    """Logs time spent, images a second, time left, and the cost so far against that of the full run.

    For any module and any DataModule, to every logger; what cannot be known is left out. Time counts from the start of
    the fit, validation included, and goes on where a checkpoint left it.

    - ``cost/minutes_spent``, and ``cost/minutes_left`` where epochs or steps have an end.
    - ``cost/images_per_second``, on all ranks, while training: loading counts, validation does not.
    - ``cost/selection_minutes`` and ``cost/surrogate_minutes``, once: what the DataModule's Selection took when it was
      made, and what its surrogate's file says that it took.
    - ``cost/of_full_run``: surrogate, selection and training so far, as a share of the same epochs on the whole source;
      ``cost/saved``: the share that is saved when the run ends, below 0 where it costs more. Both where the DataModule
      has fewer ``images_kept`` than ``images_before_pruning`` and the run ends after so many epochs. The whole source
      is taken to cost as much for each image as this run does.

    Nothing waits for a GPU, so the first numbers of a run there are too high.

    Args:
        every_n_steps: Training batches between two looks, at least 1; None is the Trainer's ``log_every_n_steps``.

    Raises:
        InputError: The argument is out of range.
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
        """Seconds spent in fits so far, those before a resume included."""
        return self._before + (0.0 if self._begin is None else time.perf_counter() - self._begin)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets a fit before this one; a checkpoint is read after this."""
        self._before = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the clock, and logs what was spent before."""
        self._begin = time.perf_counter()
        self._batches = 0
        surrogate, selection = _seconds_before(trainer)
        before = {"cost/surrogate_minutes": surrogate / 60, "cost/selection_minutes": selection / 60}
        self._log(trainer, {name: minutes for name, minutes in before.items() if minutes > 0})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self._lap_begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Any, batch_idx: int
    ) -> None:
        """Counts, and logs every so many batches and after the last of an epoch."""
        self._batches += 1
        self._lap_images += _images_in(batch) * trainer.world_size
        every = self.every_n_steps or trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's own parts
        if trainer.is_last_batch or (every and (batch_idx + 1) % every == 0):
            self._log(trainer, self._costs(trainer, batch_idx + 1))
        if trainer.is_last_batch:  # what other callbacks do at the end of an epoch is no training
            self._lap_begin = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training rests."""
        if self._lap_begin is not None:
            self._lap_seconds += time.perf_counter() - self._lap_begin
        self._lap_begin = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self._lap_begin = time.perf_counter()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stops the clock."""
        self._before, self._begin, self._lap_begin = self.seconds, None, None
        self._lap_seconds, self._lap_images = 0.0, 0

    def state_dict(self) -> dict[str, float]:
        """The time spent."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Goes on from a checkpoint."""
        self._before = float(state_dict["seconds"])

    def _costs(self, trainer: Trainer, done: int) -> dict[str, float]:
        """All that is known after ``done`` batches of this epoch."""
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
        if costs and trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(costs, step=trainer.global_step)


def _images_in(batch: object) -> int:
    """Images of a batch: the length of the first tensor in it; 0 where there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    inner = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, Sequence) else ()
    return next((found for one in inner if not isinstance(one, str) and (found := _images_in(one))), 0)


def _batches_left(trainer: Trainer, done: int) -> tuple[float, float]:
    """Batches that the Trainer's epochs leave, and its steps; infinite where they set no end."""
    by_epochs = by_steps = math.inf
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        by_epochs = (trainer.max_epochs - trainer.current_epoch) * trainer.num_training_batches - done
    if trainer.max_steps >= 0:
        by_steps = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
    return max(by_epochs, 0), max(by_steps, 0)


def _share_kept(trainer: Trainer) -> float | None:
    """Share of the source's training images that is trained on; None where that is all, or not known."""
    data = getattr(trainer, "datamodule", None)
    kept, before = (getattr(data, name, None) for name in ("images_kept", "images_before_pruning"))
    return kept / before if isinstance(kept, int) and isinstance(before, int) and 0 < kept < before else None


def _seconds_before(trainer: Trainer) -> tuple[float, float]:
    """Seconds for the surrogate and for the selection, as the DataModule's Selection notes them; else 0."""
    selection = getattr(getattr(trainer, "datamodule", None), "selection", None)
    if not isinstance(selection, Selection):
        return 0.0, 0.0
    record = selection.metadata
    return float(record.get("surrogate_seconds", 0.0)), float(sum(record.get("seconds", {}).values()))
