"""Fills TensorBoard's HParams tab: what a run was made with, and the one metric that it is judged by."""

import math
import os
from typing import Any, Literal
from warnings import warn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer
from torch.utils.tensorboard.summary import hparams

from tlprune.errors import InputError, OfLightning, did_you_mean
from tlprune.selection.selection import Selection

__all__ = ["HParamsMonitor", "hyperparameters"]


class HParamsMonitor(OfLightning, Callback):
    """Writes one row of the HParams tab for each fit and each test: hyperparameters, and the metric that matters.

    The metric is logged as ``best/METRIC``: of a fit the best value so far, of a test the value. The prefix puts it
    among the columns that the tab shows at first. The row is there from the first validation on, so a run that is
    stopped has one too. Hyperparameters are those that :func:`hyperparameters` finds; the tab shows first those that
    differ between runs.

    It also has ``TensorBoardLogger`` leave out the row with an ``hp_metric`` of -1 that it writes by default.

    Args:
        metric: What a fit is judged by; anything that is logged for epochs, by the module or by a callback.
        mode: Whether the best value is the highest or the lowest.
        test_metric: What a test is judged by.

    Raises:
        InputError: There is no such mode.
    """

    def __init__(
        self, metric: str = "val/accuracy", mode: Literal["max", "min"] = "max", test_metric: str = "test/accuracy"
    ) -> None:
        if mode not in ("max", "min"):
            raise InputError(f"`mode` must be 'max' or 'min', got {mode!r}")
        self.metric = metric
        self.mode = mode
        self.test_metric = test_metric
        self.best: float | None = None
        self._shown = False
        self._step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keeps the loggers from writing a metric of -1, which they do after this."""
        self._shown, self._step = False, -1
        if stage == "fit":
            self.best = None
        for logger in _boards(trainer):
            logger._default_hp_metric = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the metric."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._look(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what the last epoch logged at its end, where there is no validation."""
        self._look(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what the last epoch logged, and warns if the metric was never there."""
        self._look(trainer, pl_module)
        if self.best is None and _boards(trainer) and trainer.is_global_zero and trainer.callback_metrics:
            miss = did_you_mean(self.metric, trainer.callback_metrics)
            warn(f"HParamsMonitor: no metric {self.metric!r} was logged; {miss}", stacklevel=2)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the row of a test."""
        found = trainer.callback_metrics.get(self.test_metric)
        if found is not None:
            self._log(trainer, pl_module, self.test_metric, float(found))

    def state_dict(self) -> dict[str, float | None]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Goes on from a checkpoint."""
        self.best = state_dict["best"]

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = trainer.callback_metrics.get(self.metric)
        if found is None or trainer.sanity_checking or trainer.global_step == self._step:
            return
        value, self._step = float(found), trainer.global_step
        if math.isnan(value):
            return
        better = max if self.mode == "max" else min
        self.best = value if self.best is None else better(self.best, value)
        self._log(trainer, pl_module, self.metric, self.best)

    def _log(self, trainer: Trainer, pl_module: LightningModule, metric: str, value: float) -> None:
        if not trainer.is_global_zero:
            return
        for logger in _boards(trainer):
            if not self._shown:
                # the description of an experiment is left out: TensorBoard takes the columns for all runs from the
                # first that it finds, and without one from all runs
                _, begin, end = hparams(hyperparameters(trainer, pl_module), {})  # type: ignore[no-untyped-call]
                for summary in (begin, end):
                    logger.experiment._get_file_writer().add_summary(summary)
            logger.log_metrics({f"best/{metric}": value}, step=trainer.global_step)
        self._shown = True


def hyperparameters(trainer: Trainer, pl_module: LightningModule) -> dict[str, str | float]:
    """What a run is made with, as far as it can be known.

    By their own names: numbers, texts and yes or no of the module's and the DataModule's ``hparams``; ``source`` and
    ``target`` of the DataModule; of its Selection ``selection`` (the method), ``prune_ratio`` (the share of units
    pruned), ``selection/units_kept`` and ``selection/images_kept``; the module's ``weights``; ``seed`` of
    ``seed_everything``. Under ``training/``, where it stands behind these in TensorBoard's order: ``optimizer``, ``lr``
    (the first), ``weight_decay``, ``batch_size``, ``augment``, ``epochs`` and ``precision``.

    Args:
        trainer: Runs it.
        pl_module: What is trained.

    Returns:
        Values by name.
    """
    data = getattr(trainer, "datamodule", None)
    training = {name: getattr(data, name, None) for name in ("batch_size", "augment")}
    training |= {"epochs": trainer.max_epochs, "precision": str(trainer.precision)}
    for optimizer in trainer.optimizers[:1]:
        training |= _of_optimizer(optimizer)
    known: dict[str, Any] = {**getattr(data, "hparams", {}), **pl_module.hparams}
    known |= {"weights": getattr(pl_module, "weights", None), "seed": _seed()}
    known |= {name: getattr(data, name, None) for name in ("source", "target") if hasattr(data, name)}
    targets = getattr(data, "targets", ())
    if targets and all(isinstance(one, str) for one in targets):
        known["target"] = ", ".join(targets)
    if hasattr(data, "selection"):
        known |= _of_selection(data)
    known |= {f"training/{name}": value for name, value in training.items()}
    known = {name: str(value) if isinstance(value, bool) else value for name, value in known.items()}
    return {name: value for name, value in known.items() if isinstance(value, (str, int, float)) and name[:1] != "_"}


def _of_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    group = optimizer.param_groups[0]
    rate = group.get("initial_lr", group.get("lr"))
    return {"optimizer": type(optimizer).__name__, "lr": rate, "weight_decay": group.get("weight_decay")}


def _of_selection(data: Any) -> dict[str, Any]:
    selection = data.selection
    if not isinstance(selection, Selection):
        return {"selection": "none", "prune_ratio": 0.0}
    kept = getattr(data, "units_kept", None)
    ratio = None if kept is None else round(1 - kept / selection.num_units, 4)
    numbers = {"selection/units_kept": kept, "selection/images_kept": getattr(data, "images_kept", None)}
    return {"selection": selection.method, "prune_ratio": ratio, **numbers}


def _seed() -> int | None:
    given = os.environ.get("PL_GLOBAL_SEED")
    return int(given) if given is not None else None


def _boards(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
