"""Forecast of a sweep's cost."""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from tlprune.errors import InputError
from tlprune.experiments.frozen_transfers import FrozenTransfer
from tlprune.experiments.recipes import Recipe, is_config
from tlprune.experiments.results import ALONE, NONE, Cell, Group, Results
from tlprune.experiments.sweep_plan import Sweep
from tlprune.experiments.sweep_stages import source_of, uses_surrogate
from tlprune.models.cost import training_seconds_per_image
from tlprune.models.weights import read_weights

__all__ = ["CostForecast", "forecast", "measured_costs"]


@dataclass(frozen=True)
class CostForecast:
    """Seconds on one device or one CPU thread, excluding data loading.

    Args:
        full: Seconds to pretrain on the whole source.
        surrogate: Seconds to train one surrogate; None if none is trained.
        transfer: Seconds of one cell's transfers.
        measured: Whether times come from finished cells, rather than from a few timed steps on random images.
    """

    full: float
    surrogate: float | None
    transfer: float
    measured: bool

    def cell(self, group: Group) -> float:
        """Estimates the seconds of one cell; the kept share of images is approximated by the share of units."""
        if group.method == ALONE:
            return self.transfer
        share = 1.0 if group.method == NONE or group.match_budget == "steps" else 1 - group.ratio
        return share * self.full + self.transfer


def forecast(sweep: Sweep, results: Results) -> CostForecast:
    """Forecasts the cost from finished cells, or otherwise from a few steps on random images.

    Raises:
        InputError: If a config does not set its network or its epochs, so that nothing can be timed.
    """
    source = source_of(sweep)
    images, classes = source.images_before_pruning, len(source.transformed_source.classes)
    paths = {one for one in map(sweep.surrogate_of, sweep.methods) if one is not None and is_config(one)}
    paying = any(uses_surrogate(sweep, method) for method in sweep.methods)
    recipe = Recipe.read(min(paths), "PrunedSourceDataModule") if paths and paying else None
    costs = measured_costs(results)
    if costs is not None and (recipe is None or costs.surrogate is not None):
        return replace(costs, surrogate=None) if recipe is None else costs
    size, batch = source.image_size, source.batch_size
    surrogate = None if recipe is None else _seconds(recipe, size, batch, classes, images)
    full = _seconds(sweep.pretrain_from(sweep.starts[-1]), size, batch, classes, images)
    each = full / (images * (sweep.pretrain.epochs or 1))
    seen = median(
        sum(_images_seen(recipe, target) for recipe in sweep.transfers.values()) for target in results.targets.values()
    )
    return CostForecast(full, surrogate, each * seen, False)


def measured_costs(results: Results) -> CostForecast | None:
    """Returns the median costs of finished cells; None if none of them was pretrained.

    Args:
        results: Results with the finished cells. ``surrogate`` is None if none of them paid for one.
    """
    trained = [cell for cell in results.cells if cell.method != ALONE]
    if not trained:
        return None
    surrogates = [cell.surrogate_seconds for cell in results.cells if cell.surrogate_seconds]
    return CostForecast(
        full=median(_full_seconds(cell) for cell in trained),
        surrogate=median(surrogates) if surrogates else None,
        transfer=median(sum(score.seconds for score in cell.scores.values()) for cell in results.cells),
        measured=True,
    )


def _full_seconds(cell: Cell) -> float:
    share = 1.0 if cell.match_budget == "steps" else cell.images_kept / cell.images_total
    return cell.pretraining_seconds / share


def _images_seen(recipe: Recipe | FrozenTransfer, target: dict[str, Any]) -> int:
    """Images that a transfer computes; features of a probe and of neighbours once, finetuning like pretraining."""
    train = int(target["train"])
    if recipe.shots is not None:
        train = min(train, recipe.shots * len(target["classes"]))
    passes = 1
    if isinstance(recipe, Recipe) and recipe.options("model").get("mode") != "probe":
        passes = recipe.epochs or 1
    return passes * (train + int(target["val"]))


def _seconds(recipe: Recipe, size: int, batch: int, classes: int, images: int) -> float:
    backbone = recipe.backbone
    if backbone is None and recipe.weights is not None:
        backbone = read_weights(recipe.weights).backbone
    if backbone is None or recipe.epochs is None:
        raise InputError(
            f"{recipe.path}: no forecast without the model's `backbone`, or `weights` that name it, and the trainer's "
            "`max_epochs`"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # cells run side by side with one thread each
    try:
        each = training_seconds_per_image(backbone, size, batch, max(classes, 1))
    finally:
        torch.set_num_threads(threads)
    included = recipe.data.get("include_target") or 0.0
    return each * images * recipe.epochs / (1 - included)
