"""Stages of a sweep (surrogate, selection, pretraining, transfer) and their dependencies.

A stage's key contains everything that its outcome depends on, so cells share stages. For example, random pruning is
pretrained once for all targets, and one ranking serves every ratio.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tlprune import __version__
from tlprune.datamodules.downstream import DownstreamDataModule
from tlprune.datamodules.pruned_source import PrunedSourceDataModule
from tlprune.experiments.frozen_transfers import FrozenTransfer
from tlprune.experiments.recipes import Recipe, is_config
from tlprune.experiments.results import ALONE, NONE, Group
from tlprune.experiments.sweep_plan import Sweep
from tlprune.experiments.sweep_selectors import NamedSelector, named_selector
from tlprune.models.weights import read_weights
from tlprune.selection.ranking import Budget
from tlprune.selection.sampling_weights import log_odds
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector
from tlprune.storage.fingerprint import digest_file, digest_json, digest_tensors
from tlprune.storage.journal import Done, Journal, Stage
from tlprune.storage.named import digest_own_code
from tlprune.storage.paths import expanded

__all__ = [
    "Kept",
    "comparison_stage",
    "diagnosis_stage",
    "differs_by_target",
    "file_name",
    "forget_opened",
    "kept_of",
    "pretrain_stage",
    "pretraining_done",
    "seed_of",
    "selection_stage",
    "selector_of",
    "source_of",
    "surrogate_and_seconds",
    "surrogate_backbone",
    "surrogate_stage",
    "transfer_stage",
    "uses_surrogate",
    "voting_size",
]

_BETWEEN_TARGETS = 1000
"""Distance between the seeds of two targets."""

_OF_SELECTION = ("image_size", "eval_size", "num_workers", "on_bad_image", "cache", "val_share", "seed")
"""Arguments of the pretraining's source in the key of a selection stage."""

_OF_DRAW = ("shots", "shots_seed")
"""Arguments of a target that draw a part of its training images."""


def selector_of(sweep: Sweep, method: str, seed: int) -> Selector:
    """Builds a method's selector.

    Args:
        sweep: Sweep that defines the method.
        method: Name of the method.
        seed: Seed passed to the selector and to nested selectors, if they take one and the config sets none.

    Raises:
        InputError: If the selector does not exist or does not accept these options.
    """
    return _named(sweep, method, seed).selector


def differs_by_target(sweep: Sweep, method: str) -> bool:
    """Returns whether a method has a ranking for each target: the target votes, or chance is drawn for each."""
    selector = selector_of(sweep, method, 0)
    return selector.needs_target or (sweep.draw_per_target and _draws(sweep, method))


def seed_of(sweep: Sweep, method: str, target: str, seed: int) -> int:
    """Returns the seed of a method's selector: the seed of the repetition, or one for each target as well."""
    apart = sweep.draw_per_target and _draws(sweep, method)
    return seed + _BETWEEN_TARGETS * sweep.targets.index(target) if apart else seed


def _draws(sweep: Sweep, method: str) -> bool:
    """Returns whether a method depends on its seed alone."""
    selector = selector_of(sweep, method, 0)
    return not selector.needs and selector.options != selector_of(sweep, method, 1).options


def _named(sweep: Sweep, method: str, seed: int) -> NamedSelector:
    given = sweep.methods[method].selector
    if given is None:
        raise RuntimeError(f"{method}: no selector")
    return named_selector(given, seed)


def uses_surrogate(sweep: Sweep, method: str) -> bool:
    """Returns whether a method needs a surrogate."""
    return sweep.selects(method) and selector_of(sweep, method, 0).needs_surrogate is not None


def forget_opened() -> None:
    """Forgets the source and targets that were opened, since their images may have changed, or the working folder."""
    for opened in (_source, _marks_of_source, _target_mark):
        opened.cache_clear()


def source_of(sweep: Sweep) -> PrunedSourceDataModule:
    """Opens the unpruned source as the pretraining config defines it; once per process and command."""
    return _source(sweep.source, _as_json(sweep.pretrain.source_data))


@cache
def _source(source: str, options: str) -> PrunedSourceDataModule:
    data = PrunedSourceDataModule(**json.loads(options) | {"source": source})
    data.prepare_data()
    return data


def _as_json(options: dict[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, default=str)


def _source_mark(sweep: Sweep) -> list[Any]:
    """Returns a value that changes when any image of the source does."""
    return _marks_of_source(sweep.source, _as_json(sweep.pretrain.source_data))


@cache
def _marks_of_source(source: str, options: str) -> list[Any]:
    return _source(source, options).depends_on()


@cache
def _target_mark(target: str, options: str, whole: bool) -> list[Any]:
    return DownstreamDataModule(**json.loads(options) | {"target": target}).depends_on(whole)


def _mark_of_target(sweep: Sweep, target: str, options: dict[str, Any] | None = None) -> list[Any]:
    """Returns a value that changes when any image of a target does."""
    return _target_mark(target, _as_json(options or {}), sweep.pretrain.verify_content)


def _stage(sweep: Sweep, name: str, **depends: Any) -> Stage:
    return Journal(sweep.output / "stages").stage(name, {"tlprune": __version__} | depends)


def file_name(name: str) -> str:
    """Converts a name to a file name; folder names contain slashes."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip("-.")[-60:]


def surrogate_stage(sweep: Sweep, path: str, seed: int, target: str) -> Stage:
    """Returns the stage that trains a surrogate with the config ``path``; ``target`` counts if batches include it."""
    recipe = Recipe.read(path, "PrunedSourceDataModule")
    depends = {"source": _source_mark(sweep), "recipe": recipe.decides, "seed": seed, **recipe.depends_on}
    return _stage(sweep, f"surrogate-{seed}", **depends, **_included_mark(sweep, recipe, target))


def _included_mark(sweep: Sweep, recipe: Recipe, target: str) -> dict[str, Any]:
    """Returns what a training depends on whose batches include images of the target; empty for others."""
    if not recipe.includes_target:
        return {}
    return {"included": [_mark_of_target(sweep, target), recipe.select_options.target_seed]}


def surrogate_and_seconds(sweep: Sweep, method: str, seed: int, target: str) -> tuple[str, float] | None:
    """Returns the weights of a method's surrogate and its training seconds; None if it is not trained yet."""
    path = sweep.surrogate_of(method)
    if path is None:
        raise RuntimeError(f"{method}: no surrogate")
    return _weights_and_seconds(sweep, path, seed, target)


def _weights_and_seconds(sweep: Sweep, path: str, seed: int, target: str) -> tuple[str, float] | None:
    if not is_config(path):
        return path, read_weights(path).seconds or 0.0
    done = surrogate_stage(sweep, path, seed, target).done
    return None if done is None else (str(done.outputs[0]), float(done.result["seconds"]))


def selection_stage(sweep: Sweep, method: str, target: str, seed: int) -> Stage | None:
    """Returns the stage of a method's ranking, shared by targets if it uses none; None without its surrogate."""
    selector, named = _named(sweep, method, seed_of(sweep, method, target, seed))
    surrogate = None
    if (
        selector.needs_surrogate is not None
        and (surrogate := surrogate_and_seconds(sweep, method, seed, target)) is None
    ):
        return None
    weights = None if surrogate is None else surrogate[0]
    options = sweep.pretrain.select_options
    looked_at = {name: sweep.pretrain.data.get(name) for name in _OF_SELECTION}
    looked_at["target_seed"] = options.target_seed or None
    if options.image_size is not None:
        looked_at["selection.image_size"] = options.image_size
    if options.surrogate_preprocessing is not None:
        looked_at["surrogate_preprocessing"] = options.surrogate_preprocessing.as_json()
    return _stage(
        sweep,
        f"select-{file_name(method)}-{file_name(target)}-{seed}"
        if differs_by_target(sweep, method)
        else f"select-{file_name(method)}-{seed}",
        source=_source_mark(sweep),
        target=_mark_of_target(sweep, target) if selector.needs_target else None,
        selector=sweep.methods[method].selector,
        options=selector.options,
        surrogate=None if weights is None else _weights_mark(weights),
        data=looked_at,
        **({"code": code} if (code := digest_own_code(named)) else {}),
        **({} if (network := surrogate_backbone(sweep, method)) is None else {"surrogate_backbone": network}),
    )


def surrogate_backbone(sweep: Sweep, method: str) -> str | None:
    """Returns the network of a method's surrogate if that is a weights file and the pretraining config names it."""
    path = sweep.surrogate_of(method)
    return None if path is None or is_config(path) else sweep.pretrain.select_options.surrogate_backbone


def voting_size(sweep: Sweep, weights: str | None) -> int | None:
    """Returns the height and width in pixels of images that vote; None for the size that the surrogate records.

    Args:
        sweep: Sweep whose pretraining config may set it.
        weights: Weights of the surrogate; None without one.
    """
    given = sweep.pretrain.select_options.image_size
    if given is not None or (weights is not None and read_weights(weights).preprocessing.image_size is not None):
        return given
    size = sweep.pretrain.data.get("eval_size") or sweep.pretrain.data.get("image_size")
    return None if size is None else int(size)


def _weights_mark(weights: str) -> Any:
    """Returns a value that changes when the weights or the transform of their images change."""
    return digest_file(weights) if Path(weights).is_file() else [weights, read_weights(weights).preprocessing.as_json()]


@dataclass(frozen=True)
class Kept:
    """Images that a cell pretrains on.

    Args:
        selection: Path of the Selection; None for the whole source.
        digest: Digest of the kept images and of whether kept classes are renumbered; None for the whole source.
        budget: Number of units or images kept; None for the whole source, or one that is drawn by weights.
        units_total: Number of ranked units; 0 without a ranking.
        units_kept: Number of kept units.
        paid: Seconds of surrogate training and selection.
    """

    selection: Path | None = None
    digest: str | None = None
    budget: Budget | None = None
    units_total: int = 0
    units_kept: int = 0
    paid: dict[str, float] | None = None


def kept_of(sweep: Sweep, group: Group, seed: int) -> Kept | None:
    """Returns what a cell of a group keeps; None if its Selection does not exist yet."""
    if not sweep.selects(group.method):
        return Kept()
    done = _finished_selection(sweep, group.method, group.target, seed)
    budget = _budget(sweep, group, seed) if sweep.prunes(group.method) else None
    if done is not None and not sweep.prunes(group.method):
        return _weighted(done)
    if done is None or budget is None:
        return None
    selection = Selection.load(done.outputs[0])
    kept = digest_tensors({"kept": selection.kept(budget).samples})
    units = len(selection.units_kept(budget))
    digest = digest_json([selection.unit_kind == "class", kept])
    return Kept(done.outputs[0], digest, budget, selection.num_units, units, done.result)


def _weighted(done: Done) -> Kept:
    """Returns the whole source with the weights of a Selection."""
    selection = Selection.load(done.outputs[0])
    digest = digest_tensors({"log_odds": log_odds(selection)})
    return Kept(done.outputs[0], digest, None, selection.num_units, selection.num_units, done.result)


def _finished_selection(sweep: Sweep, method: str, target: str, seed: int) -> Done | None:
    stage = selection_stage(sweep, method, target, seed)
    return None if stage is None else stage.done


def _budget(sweep: Sweep, group: Group, seed: int) -> Budget | None:
    """Returns a group's budget; None if the Selection whose number of images it matches does not exist yet."""
    reference = sweep.match_images
    if reference in (None, group.method):
        return Budget(ratio=group.ratio)
    done = _finished_selection(sweep, str(reference), group.target, seed)
    return None if done is None else Budget(exactly=len(Selection.load(done.outputs[0]).keep(ratio=group.ratio)))


def pretrain_stage(sweep: Sweep, group: Group, seed: int) -> tuple[Stage, Kept] | None:
    """Returns a cell's pretraining and its images; None if the Selection or the number of steps is not known yet."""
    if group.method == ALONE:
        return _alone_stage(sweep, group.start), Kept()
    kept = kept_of(sweep, group, seed)
    if kept is None:
        return None
    steps = None
    if group.match_budget == "steps":
        whole = pretraining_done(sweep, Group(group.target, NONE, start=group.start), seed)
        if whole is None:
            return None
        steps = int(whole.result["steps"])
    name = "none" if group.method == NONE else f"{file_name(group.method)}-{group.ratio:g}-{group.match_budget}"
    recipe = sweep.pretrain_from(group.start)
    stage = _stage(
        sweep,
        f"pretrain-{name}-{seed}",
        source=_source_mark(sweep),
        kept=kept.digest,
        recipe=recipe.decides,
        steps=steps,
        seed=seed,
        **recipe.depends_on,
        **_included_mark(sweep, recipe, group.target),
    )
    return stage, kept


def _alone_stage(sweep: Sweep, start: str) -> Stage:
    """Returns the stage that holds the weights of a start as they are, for all targets and seeds."""
    return _stage(
        sweep,
        f"pretrain-{ALONE}-{file_name(start)}",
        source=_source_mark(sweep),
        weights=_weights_mark(expanded(start)),
        backbone=sweep.pretrain.backbone,
        preprocessing=sweep.pretrain.options("model").get("preprocessing"),
    )


def pretraining_done(sweep: Sweep, group: Group, seed: int) -> Done | None:
    """Returns what a cell's pretraining left; None if it is not finished."""
    found = pretrain_stage(sweep, group, seed)
    return None if found is None else found[0].done


def diagnosis_stage(sweep: Sweep, target: str, seed: int, kept: Kept) -> tuple[Stage, str] | None:
    """Returns the stage that diagnoses kept images, and the surrogate's weights; None if these are not trained yet."""
    surrogate = _weights_and_seconds(sweep, expanded(str(sweep.surrogate)), seed, target)
    if surrogate is None:
        return None
    data = {name: sweep.pretrain.data.get(name) for name in _OF_SELECTION}
    stage = _stage(
        sweep,
        f"diagnose-{file_name(target)}-{seed}",
        source=_source_mark(sweep),
        target=_mark_of_target(sweep, target),
        surrogate=_weights_mark(surrogate[0]),
        kept=kept.digest,
        data=data,
        options=_as_json(vars(sweep.pretrain.select_options)),
    )
    return stage, surrogate[0]


def comparison_stage(sweep: Sweep, target: str) -> Stage:
    """Returns the stage that compares the test images of a target with the source."""
    marks = {"source": _source_mark(sweep), "target": _mark_of_target(sweep, target)}
    skips = sweep.pretrain.data.get("on_bad_image")
    return _stage(sweep, f"compare-{file_name(target)}", **marks, on_bad_image=skips)


def transfer_stage(sweep: Sweep, target: str, seed: int, mode: str, weights: Path) -> Stage:
    """Returns the stage that transfers weights to a target."""
    recipe = sweep.transfers[mode]
    name = f"{file_name(mode)}-{file_name(target)}-{seed}"
    known = {"weights": digest_file(weights), "seed": seed}
    if isinstance(recipe, FrozenTransfer):
        return _stage(sweep, name, **known, target=_mark_of_target(sweep, target), **{recipe.key: recipe.as_json})
    # The whole target and the seed tell which images are drawn
    options = {option: value for option, value in recipe.data.items() if option not in _OF_DRAW}
    mark = _mark_of_target(sweep, target, options)
    return _stage(sweep, name, **known, target=mark, recipe=recipe.decides, **recipe.depends_on)
