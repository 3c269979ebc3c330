"""Learning-rate schedules that adapt to the number of steps of a run, and ``configure_optimizers``."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, Protocol, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, Callback
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from tlprune.errors import InputError
from tlprune.modules.layer_decay import layer_rates

__all__ = [
    "DefaultOptimizer",
    "LRScaling",
    "PlannedLR",
    "TriangularLR",
    "WarmupCosineLR",
    "build_optimizers",
    "sendable",
    "unfreeze_again",
]


LRScaling = Literal["none", "linear", "sqrt"]
"""Scaling of a learning rate for 256 images per step with the number of images per step, over all ranks and accumulated
batches: ``linear`` (Goyal et al., "Accurate, Large Minibatch SGD", 2017), with their square root (``sqrt``), or
``none``."""

_SCALED_FROM = 256


class PlannedLR(LRScheduler):
    """Base class of schedules per step that take the length of the run from the Trainer instead of the config.

    A pruned source has fewer steps per epoch; a schedule in epochs or shares of the run adapts to it.

    Args:
        optimizer: Optimiser whose learning rates are the peak values.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._total = 1
        self._per_epoch = 1.0
        super().__init__(optimizer)

    def plan(self, total_steps: int, steps_per_epoch: float) -> None:
        """Sets the length of the run.

        Args:
            total_steps: Number of optimiser steps in the whole run, at least 1.
            steps_per_epoch: Number of optimiser steps per epoch.
        """
        self._total = max(total_steps, 1)
        self._per_epoch = max(steps_per_epoch, 1.0)
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate

    def factor(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """Computes the share of the peak learning rate at ``step`` (from 0), in [0, 1]."""
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """Computes the learning rate of each parameter group at the current step.

        Groups that a callback such as BackboneFinetuning added later keep the rate that it gives them.
        """
        share = self.factor(min(self.last_epoch, self._total), self._total, self._per_epoch)
        planned = [base * share for base in self.base_lrs]
        return planned + [group["lr"] for group in self.optimizer.param_groups[len(planned) :]]

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the schedule, without its length, because a resumed Trainer may run longer."""
        return {key: value for key, value in super().state_dict().items() if key not in {"_total", "_per_epoch"}}


class WarmupCosineLR(PlannedLR):
    """Linear warm-up for some epochs, followed by one half-cosine decay to the end of the run.

    The cosine is that of Loshchilov and Hutter, "SGDR" (2016), equation 5, without restarts.

    Args:
        optimizer: Optimiser whose learning rates are the peak values.
        warmup_epochs: Length of the warm-up in epochs, at least 0; fractions are allowed.
        final: Share of the peak at the end, in [0, 1].

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(self, optimizer: Optimizer, warmup_epochs: float = 0.0, final: float = 0.0) -> None:
        if warmup_epochs < 0:
            raise InputError(f"`warmup_epochs` must be at least 0, got {warmup_epochs}")
        if not 0 <= final <= 1:
            raise InputError(f"`final` must be in [0, 1], got {final}")
        self.warmup_epochs = warmup_epochs
        self.final = final
        super().__init__(optimizer)

    def factor(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """Rises linearly to 1, then follows half a cosine to ``final``."""
        warmup = min(self.warmup_epochs * steps_per_epoch, total_steps - 1)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(total_steps - warmup, 1)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


class TriangularLR(PlannedLR):
    """Linear rise to the peak at a given epoch, then linear decay to zero at the end of the run.

    Args:
        optimizer: Optimiser whose learning rates are the peak values.
        peak_epoch: Epoch of the peak, at least 0; fractions are allowed.
        start: Share of the peak at the first step, in [0, 1].

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(self, optimizer: Optimizer, peak_epoch: float = 2.0, start: float = 2e-4) -> None:
        if peak_epoch < 0:
            raise InputError(f"`peak_epoch` must be at least 0, got {peak_epoch}")
        if not 0 <= start <= 1:
            raise InputError(f"`start` must be in [0, 1], got {start}")
        self.peak_epoch = peak_epoch
        self.start = start
        super().__init__(optimizer)

    def factor(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """Rises linearly from ``start`` to 1, then falls linearly to 0."""
        peak = min(self.peak_epoch * steps_per_epoch, total_steps - 1)
        if step < peak:
            return self.start + (1 - self.start) * step / peak
        return (total_steps - step) / max(total_steps - peak, 1)


@dataclass(frozen=True)
class DefaultOptimizer:
    """Picklable default of a module's ``optimizer``, for processes that receive the module.

    The parser reads defaults from the lambda in a signature, and a lambda cannot be pickled.

    Args:
        module: Class whose constructor has the default.
    """

    module: type[nn.Module]

    def __call__(self, parameters: Iterable[Any]) -> Optimizer:
        """Builds the optimiser of parameters."""
        made: Optimizer = signature(self.module.__init__).parameters["optimizer"].default(parameters)
        return made


def sendable(optimizer: OptimizerCallable, module: nn.Module) -> OptimizerCallable:
    """Makes the default of an optimiser callable picklable.

    Args:
        optimizer: Argument of the constructor of ``module``.
        module: Module of any class, possibly one that inherits the constructor.

    Returns:
        A :class:`DefaultOptimizer` for the default, else ``optimizer`` itself.
    """
    for kind in type(module).__mro__:
        constructor = vars(kind).get("__init__")
        named = None if constructor is None else signature(constructor).parameters.get("optimizer")
        if named is not None and named.default is optimizer:
            return DefaultOptimizer(kind)
    return optimizer


class _HasParameters(Protocol):
    def parameters(self) -> Iterable[nn.Parameter]: ...


def build_optimizers(
    module: LightningModule,
    trained: _HasParameters,
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    decay_all: bool = True,
    lr_scaling: LRScaling = "none",
    layer_decay: float = 1.0,
) -> OptimizerLRScheduler:
    """Builds the return value of ``configure_optimizers``.

    Args:
        module: Module that trains, attached to its Trainer.
        trained: The module or the part of it to optimise. Initially frozen parameters are excluded, so that a callback
            such as BackboneFinetuning can add them later.
        optimizer: Factory of the optimiser, called with parameters.
        lr_scheduler: Factory of the learning-rate schedule, called with the optimiser. A :class:`PlannedLR` steps after
            each batch, other schedules after each epoch as in plain Lightning. ``ReduceLROnPlateau`` monitors
            ``val/loss`` unless it names another metric.
        decay_all: Whether weight decay also applies to biases and normalisation layers. LARS scales the learning rate
            only of parameters with weight decay.
        lr_scaling: Scaling of the learning rates with the number of images per step.
        layer_decay: Factor of the learning rate from each block of ``module.backbone`` to the block before it, in
            (0, 1]. The first group of the optimiser has the whole rate.

    Returns:
        Optimiser and schedule in the format of Lightning.

    Raises:
        InputError: Learning rates are to be scaled, but there is no single training DataLoader with a batch size.
    """
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    rates = {} if layer_decay == 1 else layer_rates(cast(nn.Module, module.backbone), layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault((rates.get(parameter, 1.0), decay_all or parameter.ndim > 1), []).append(parameter)
    ordered = sorted(groups, reverse=True)
    if len(groups) < 2 and decay_all:
        built = optimizer(parameters)
    else:
        options = {True: {}, False: {"weight_decay": 0.0}}
        built = optimizer([{"params": groups[rate, decays], **options[decays]} for rate, decays in ordered])
    if rates and len(built.param_groups) != len(groups):
        split = f"it makes {len(built.param_groups)} groups of {len(groups)}"
        raise InputError(f"`layer_decay` needs an optimiser that keeps groups of parameters as they are: {split}")
    if rates:
        for group, (rate, _) in zip(built.param_groups, ordered, strict=True):
            group["lr"] *= rate
    if lr_scaling != "none":
        ratio = _images_per_step(module.trainer) / _SCALED_FROM
        for group in built.param_groups:
            group["lr"] *= ratio if lr_scaling == "linear" else math.sqrt(ratio)
    if lr_scheduler is None:
        return built
    scheduler = lr_scheduler(built)
    if isinstance(scheduler, PlannedLR):
        total = int(module.trainer.estimated_stepping_batches)
        per_epoch = module.trainer.num_training_batches / module.trainer.accumulate_grad_batches
        scheduler.plan(total, per_epoch if math.isfinite(per_epoch) else total)
        return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
    if isinstance(scheduler, ReduceLROnPlateau):
        monitor = getattr(scheduler, "monitor", "val/loss")
        return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}
    return {"optimizer": built, "lr_scheduler": scheduler}


def unfreeze_again(trainer: Trainer) -> None:
    """Makes what Lightning had unfrozen trainable again when a run with BackboneFinetuning goes on from a checkpoint.

    Its backbone is in the optimiser by then, but Lightning freezes it a second time (issue 21901 of Lightning). Other
    frozen parameters stay frozen.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if trainer.ckpt_path is None or not any(isinstance(one, BaseFinetuning) for one in callbacks):
        return
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)


def _images_per_step(trainer: Trainer) -> int:
    _ = trainer.estimated_stepping_batches  # creates the training DataLoader
    size = getattr(trainer.train_dataloader, "batch_size", None)
    if not isinstance(size, int):
        raise InputError("`lr_scaling` needs one training DataLoader with a `batch_size`; use lr_scaling 'none'")
    return size * trainer.world_size * trainer.accumulate_grad_batches
