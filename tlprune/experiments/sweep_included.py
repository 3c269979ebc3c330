"""Trainings of a sweep whose batches include images of the target: what they are given, and what is refused."""

from typing import Any

from tlprune.datamodules.arguments import TRANSFORMS
from tlprune.datamodules.pruned_source import PrunedSourceDataModule
from tlprune.errors import InputError
from tlprune.experiments.frozen_transfers import FrozenTransfer
from tlprune.experiments.recipes import Recipe, is_config
from tlprune.experiments.sweep_plan import Sweep
from tlprune.experiments.sweep_stages import uses_surrogate

__all__ = ["check_included", "included_options", "includes_target", "surrogate_sees_target"]


def included_options(recipe: Recipe, target: str) -> dict[str, Any]:
    """Options of a DataModule whose batches include images of the target; empty for others."""
    if not recipe.includes_target:
        return {}
    seed = recipe.select_options.target_seed
    return {"target": target} | ({"selection": {"target_seed": seed}} if seed else {})


def surrogate_sees_target(sweep: Sweep, method: str) -> bool:
    """Returns whether batches of a method's surrogate include images of the target, so that each has its own."""
    path = sweep.surrogate_of(method) if uses_surrogate(sweep, method) else None
    return path is not None and includes_target(path)


def includes_target(surrogate: str) -> bool:
    """Returns whether batches of a surrogate include images of the target.

    Args:
        surrogate: Path of its config, or of its weights.
    """
    return is_config(surrogate) and Recipe.read(surrogate, "PrunedSourceDataModule").includes_target


def check_included(sweep: Sweep, recipe: Recipe) -> None:
    """Rejects a training whose batches cannot include the target, or would include what validates.

    Args:
        sweep: Sweep with the targets and transfers.
        recipe: Config of a training; nothing is checked unless its batches include the target.

    Raises:
        InputError: An option of the DataModule does not fit, or a transfer splits targets by another seed.
    """
    if not recipe.includes_target:
        return
    try:
        included = {name: value for name, value in recipe.data.items() if name not in TRANSFORMS}
        PrunedSourceDataModule(**included | {"source": sweep.source, "target": list(sweep.targets)})
    except InputError as error:
        raise InputError(f"{recipe.path}: {error}") from error
    seed = recipe.select_options.target_seed
    for mode, transfer in sweep.transfers.items():
        other = 0 if isinstance(transfer, FrozenTransfer) else int(transfer.data.get("seed") or 0)
        if other != seed:
            raise InputError(
                f"transfer {mode!r} splits targets by seed {other}, {recipe.path} includes images by "
                f"`selection.target_seed` {seed}: validation images would be trained on"
            )
