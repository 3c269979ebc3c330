"""Logs the hyperparameters of a run and its main metric."""

import math
import os
from typing import Any, Literal
from warnings import warn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer

from tlprune.callbacks.logger_adapters import adapt_loggers
from tlprune.data.own_transform import name_of
from tlprune.errors import InputError, OfLightning, did_you_mean
from tlprune.selection.selection import Selection

__all__ = ["HParamsMonitor", "hyperparameters"]


class HParamsMonitor(OfLightning, Callback):
    """Logs hyperparameters and the main metric of each fit and each test to every logger.

    The metric is logged as ``best/METRIC``: the best value so far in a fit, the value itself in a test. It is logged
    from the first validation on, so a stopped run has it too. Hyperparameters are those of :func:`hyperparameters`.
    TensorBoard shows both as one row of its HParams tab, W&B as ``config`` and ``summary``, MLflow as parameters and
    metrics of the run, and ``CSVLogger`` writes ``hparams.yaml`` and ``metrics.csv``.

    The callback also disables the row with an ``hp_metric`` of -1 that ``TensorBoardLogger`` writes by default.

    Args:
        metric: Main metric of a fit; any metric logged per epoch by the module or by a callback.
        mode: Whether the best value is the highest (``max``) or the lowest (``min``).
        test_metric: Main metric of a test.

    Raises:
        InputError: ``mode`` does not exist.
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
        """Prevents the loggers from writing a metric of -1, which they do after this hook."""
        self._shown, self._step = False, -1
        if stage == "fit":
            self.best = None
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger._default_hp_metric = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the metric."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._look(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the metric that the previous epoch logged at its end, if there is no validation."""
        self._look(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the metric of the last epoch, and warns if the metric was never logged."""
        self._look(trainer, pl_module)
        if self.best is None and adapt_loggers(trainer) and trainer.callback_metrics:
            miss = did_you_mean(self.metric, trainer.callback_metrics)
            warn(f"HParamsMonitor: no metric {self.metric!r} was logged; {miss}", stacklevel=2)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the metric of a test."""
        logged = trainer.callback_metrics.get(self.test_metric)
        if logged is not None:
            self._log(trainer, pl_module, self.test_metric, float(logged))

    def state_dict(self) -> dict[str, float | None]:
        """Returns the best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Restores the best value from a checkpoint."""
        self.best = state_dict["best"]

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logged = trainer.callback_metrics.get(self.metric)
        if logged is None or trainer.sanity_checking or trainer.global_step == self._step:
            return
        value, self._step = float(logged), trainer.global_step
        if math.isnan(value):
            return
        better = max if self.mode == "max" else min
        self.best = value if self.best is None else better(self.best, value)
        self._log(trainer, pl_module, self.metric, self.best)

    def _log(self, trainer: Trainer, pl_module: LightningModule, metric: str, value: float) -> None:
        for adapter in adapt_loggers(trainer):
            if not self._shown:
                adapter.log_hyperparameters(hyperparameters(trainer, pl_module))
            adapter.log_scalars({f"best/{metric}": value}, trainer.global_step)
        self._shown = True


def hyperparameters(trainer: Trainer, pl_module: LightningModule) -> dict[str, str | float]:
    """Collects the hyperparameters of a run, as far as known.

    These have their own names: numbers, strings and booleans in the ``hparams`` of module and DataModule; ``source``
    and ``target`` of the DataModule, and its ``shots`` if they are a number; for its Selection ``selection`` (the
    method), ``prune_ratio`` (the share of pruned units), ``selection/units_kept`` and ``selection/images_kept``;
    ``weights`` of the module; ``seed`` of ``seed_everything``. The following have the prefix ``training/``, which sorts
    them last in TensorBoard: ``optimizer``, ``lr`` (of the first group), ``weight_decay``, ``batch_size``, ``augment``
    (or the name of ``transform``), ``epochs`` and ``precision``.

    Returns:
        Values by name.
    """
    data = getattr(trainer, "datamodule", None)
    training = {name: getattr(data, name, None) for name in ("batch_size", "augment")}
    if callable(transform := getattr(data, "transform", None)):
        training["augment"] = name_of(transform)
    training |= {"epochs": trainer.max_epochs, "precision": str(trainer.precision)}
    for optimizer in trainer.optimizers[:1]:
        training |= _of_optimizer(optimizer)
    known: dict[str, Any] = {**getattr(data, "hparams", {}), **pl_module.hparams}
    known |= {"weights": getattr(pl_module, "weights", None), "seed": _seed()}
    known |= {name: getattr(data, name, None) for name in ("source", "target") if hasattr(data, name)}
    known |= {"shots": shots} if isinstance(shots := getattr(data, "shots", None), int) else {}
    targets = getattr(data, "targets", ())
    if targets and all(isinstance(target, str) for target in targets):
        known["target"] = ", ".join(targets)
    if hasattr(data, "selection"):
        known |= _of_selection(data)
    known |= {f"training/{name}": value for name, value in training.items()}
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
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed is not None else None
