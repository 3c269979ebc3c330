"""Runs each stage of a sweep once, in whichever process reaches it first.

Training runs ``tlprune fit`` with a config that is written next to its outcome. A killed run therefore resumes where it
stopped, and any cell can be rerun by hand.
"""

import sys
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from tlprune.data.target_splits import open_target
from tlprune.datamodules.arguments import OF_SELECTING
from tlprune.experiments.best_weights import BestWeights
from tlprune.experiments.executors import is_counted
from tlprune.experiments.fitting import fit, quiet
from tlprune.experiments.frozen_transfers import FrozenTransfer
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import ALONE, AS_CONFIGURED, Cell, Score
from tlprune.experiments.running import Note, noted
from tlprune.experiments.sweep_diagnostics import diagnose_cell, diagnostics_if_finished
from tlprune.experiments.sweep_included import included_options
from tlprune.experiments.sweep_plan import Spec, Sweep
from tlprune.experiments.sweep_stages import (
    Kept,
    differs_by_target,
    file_name,
    pretrain_stage,
    seed_of,
    selection_stage,
    selector_of,
    surrogate_and_seconds,
    surrogate_backbone,
    surrogate_stage,
    transfer_stage,
    uses_surrogate,
    voting_size,
)
from tlprune.experiments.sweep_starts import keep_alone
from tlprune.experiments.sweep_transfers import drawn_shots
from tlprune.experiments.wording import start_label, target_labels
from tlprune.pruning import select
from tlprune.storage.cache import forget, locked
from tlprune.storage.journal import Stage

__all__ = ["cell_if_finished", "make_selection", "run_cell", "tell", "train_surrogate"]

_BEST_WEIGHTS = {"class_path": "tlprune.experiments.best_weights.BestWeights"}


def train_surrogate(sweep: Sweep, path: str, seed: int, target: str) -> None:
    """Trains a surrogate on the whole source, unless it is finished.

    Args:
        sweep: Sweep that defines the source.
        path: Path of the training config.
        seed: Seed of the initial weights and the sample order.
        target: Downstream set whose images batches include, if the config says so.
    """
    stage = surrogate_stage(sweep, path, seed, target)
    with locked(stage.folder):
        if stage.done is not None:
            return
        weights = stage.folder / "weights.safetensors"
        recipe = Recipe.read(path, "PrunedSourceDataModule")
        config = recipe.prepared(
            stage.folder,
            sweep.output / "tensorboard" / f"surrogate-{seed}",
            1000 + seed,  # an equal seed would start from the weights of a source model
            {"source": sweep.source, **included_options(recipe, target)},
            callbacks=(_export(weights),),
        )
        seen = target_labels(sweep.targets)[target] if recipe.includes_target else ""
        with noted(sweep.output, Note("training", seed, seen, f"surrogate of {Path(path).stem}")):
            seconds = fit(stage, config).seconds
        stage.finish({"seconds": seconds}, [weights])
    tell(f"surrogate of {Path(path).stem}", seed, seconds)


def make_selection(sweep: Sweep, method: str, target: str, seed: int) -> None:
    """Runs a method's selection for a target, unless it is finished.

    Args:
        sweep: Sweep that defines the method.
        method: Name of the method.
        target: Downstream set; ignored by a method that uses none.
        seed: Seed of the surrogate, and of the method if it is random.
    """
    surrogate = surrogate_and_seconds(sweep, method, seed, target) if uses_surrogate(sweep, method) else None
    stage = selection_stage(sweep, method, target, seed)
    if stage is None:
        raise RuntimeError(f"{method}: its surrogate is not trained")
    with locked(stage.folder):
        if stage.done is not None:
            return
        selector = selector_of(sweep, method, seed_of(sweep, method, target, seed))
        weights, trained = surrogate or (None, 0.0)
        options = {name: value for name, value in sweep.pretrain.data.items() if name in OF_SELECTING}
        voter = target_labels(sweep.targets)[target] if differs_by_target(sweep, method) else ""
        with quiet(), noted(sweep.output, Note("selection", seed, voter, sweep.methods[method].label)):
            begin = time.perf_counter()
            selection = select(
                sweep.source,
                target if selector.needs_target else None,
                selector=selector,
                surrogate=weights,
                surrogate_preprocessing=sweep.pretrain.select_options.surrogate_preprocessing,
                surrogate_backbone=surrogate_backbone(sweep, method),
                target_seed=sweep.pretrain.select_options.target_seed,
                image_size=voting_size(sweep, weights),
                **options,
            )
            wall = time.perf_counter() - begin
        file = sweep.output / "selections" / f"{stage.folder.name.removeprefix('select-')}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        selection.save(file)
        # Earlier commands paid for what they left in the cache; its seconds are recorded in the Selection
        paid = selection.metadata.get("seconds")
        seconds = sum(paid.values()) if paid else wall
        stage.finish({"surrogate_seconds": trained, "selection_seconds": seconds}, [file])
    voter = f" for {target_labels(sweep.targets)[target]}" if differs_by_target(sweep, method) else ""
    tell(f"selection by {sweep.methods[method].label}{voter}", seed, seconds)


def run_cell(sweep: Sweep, spec: Spec) -> Cell:
    """Pretrains on the kept images and transfers, unless this is finished.

    Args:
        sweep: Sweep that defines the cell.
        spec: Cell and seed; its Selection must exist.
    """
    found = pretrain_stage(sweep, spec.group, spec.seed)
    if found is None:
        raise RuntimeError(f"{spec}: what it needs is not finished")
    stage, kept = found
    if sweep.diagnostics and diagnostics_if_finished(sweep, spec, kept) is None and kept.budget is not None:
        with _noted(sweep, spec, "diagnostics"):
            seconds = diagnose_cell(sweep, spec, kept)
        target = target_labels(sweep.targets)[spec.group.target]
        tell(f"diagnostics for {target} of {_what(sweep, spec)}", spec.seed, seconds)
    with locked(stage.folder):
        done = stage.done
        if done is None:
            if spec.group.method == ALONE:
                keep_alone(sweep, spec.group.start, stage)
            else:
                with _noted(sweep, spec, "pretraining"):
                    _pretrain(sweep, spec, stage, kept)
            done = stage.done
    if done is None:
        raise RuntimeError(f"{stage.folder}: changed when it was just finished")
    for mode in sweep.transfers:
        there = transfer_stage(sweep, spec.group.target, spec.seed, mode, done.outputs[0])
        with locked(there.folder):
            if there.done is None:
                with _noted(sweep, spec, mode):
                    _transfer(sweep, spec, mode, there, done.outputs[0])
    cell = cell_if_finished(sweep, spec)
    if cell is None:
        raise RuntimeError(f"{spec}: changed when it was just finished")
    return cell


def cell_if_finished(sweep: Sweep, spec: Spec) -> Cell | None:
    """Returns the cell if all its stages are finished, without running anything."""
    group, seed = spec.group, spec.seed
    found = pretrain_stage(sweep, group, seed)
    done = None if found is None else found[0].done
    if found is None or done is None:
        return None
    scores: dict[str, Score] = {}
    for mode in sweep.transfers:
        scored = transfer_stage(sweep, group.target, seed, mode, done.outputs[0]).done
        if scored is None:
            return None
        scores[mode] = Score(**scored.result)
    kept, known = found[1], done.result
    diagnostics = diagnostics_if_finished(sweep, spec, kept) if sweep.diagnostics else None
    if sweep.diagnostics and diagnostics is None and kept.budget is not None:
        return None
    units = known["classes"] if known["images_kept"] else 0
    whole = kept.selection is None
    paid = kept.paid or {"surrogate_seconds": 0.0, "selection_seconds": 0.0}
    return Cell(
        target=group.target,
        method=group.method,
        ratio=group.ratio,
        match_budget=group.match_budget,
        seed=seed,
        units_total=known["classes"] if whole else kept.units_total,
        units_kept=units if whole else kept.units_kept,
        images_total=known["images_total"],
        images_kept=known["images_kept"],
        pretraining_seconds=known["seconds"],
        source_accuracy=known["source_accuracy"],
        scores=scores,
        selection=None if kept.selection is None else f"selections/{kept.selection.name}",
        diagnostics=diagnostics,
        steps=known["steps"],
        start=group.start,
        **paid,
    )


def _export(path: Path) -> dict[str, Any]:
    return {"class_path": "ExportBackbone", "init_args": {"path": str(path)}}


def _pretrain(sweep: Sweep, spec: Spec, stage: Stage, kept: Kept) -> None:
    weights = stage.folder / "weights.safetensors"
    data: dict[str, Any] = {"source": sweep.source, **included_options(sweep.pretrain, spec.group.target)}
    if kept.selection is not None:
        data["selection"] = str(kept.selection)
    if kept.budget is not None:
        exactly, ratio = kept.budget.exactly, kept.budget.ratio
        data |= {"prune_ratio": ratio} if exactly is None else {"keep_exactly": exactly}
    elif kept.selection is not None:
        data["sampling"] = "weighted"
    steps = stage.depends["steps"]
    config = sweep.pretrain_from(spec.group.start).prepared(
        stage.folder,
        sweep.output / "tensorboard" / stage.folder.name,
        spec.seed,
        data,
        trainer={} if steps is None else {"max_epochs": -1, "max_steps": steps},
        callbacks=(_export(weights),),
    )
    fitted = fit(stage, config)
    trainer, source = fitted.cli.trainer, fitted.cli.datamodule
    looked = trainer.callback_metrics.get("val/accuracy")
    accuracy = None if looked is None else float(looked)
    if accuracy is not None and steps is not None:  # the config counts epochs, so its last validation may be far back
        with quiet():
            accuracy = trainer.validate(fitted.cli.model, datamodule=source, verbose=False)[0]["val/accuracy"]
    result = {
        "seconds": fitted.seconds,
        "steps": trainer.global_step,
        "classes": len(source.source_images.classes),
        "images_kept": source.images_kept,
        "images_total": source.images_before_pruning,
        "source_accuracy": None if accuracy is None else 100 * accuracy,
    }
    stage.finish(result, [weights])
    tell(f"pretraining on {_what(sweep, spec)}", spec.seed, fitted.seconds)


def _transfer(sweep: Sweep, spec: Spec, mode: str, stage: Stage, weights: Path) -> None:
    recipe = sweep.transfers[mode]
    if isinstance(recipe, FrozenTransfer):
        score = recipe.score(weights, open_target(spec.group.target), spec.seed)
    else:
        score = _trained(sweep, spec, mode, recipe, stage, weights)
    stage.finish(asdict(score))
    target = target_labels(sweep.targets)[spec.group.target]
    tell(f"{mode} on {target} of {_what(sweep, spec)}", spec.seed, score.seconds)


def _trained(sweep: Sweep, spec: Spec, mode: str, recipe: Recipe, stage: Stage, weights: Path) -> Score:
    """Trains on the target; the validation set chooses the epoch, and the test set is used once."""
    best = stage.folder / "checkpoints" / "best.ckpt"
    config = recipe.prepared(
        stage.folder,
        sweep.output / "tensorboard" / f"{file_name(mode)}-{weights.parent.name}",
        spec.seed,
        {"target": spec.group.target} | drawn_shots(recipe, spec.seed),
        model={"weights": str(weights)},
        callbacks=(_checkpoint(best) if recipe.writes_checkpoints else _BEST_WEIGHTS,),
    )
    fitted = fit(stage, config)
    trainer, model = fitted.cli.trainer, fitted.cli.model
    options: dict[str, Any] = {"datamodule": fitted.cli.datamodule, "verbose": False}
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    with quiet():
        if recipe.writes_checkpoints:
            options["ckpt_path"] = best
            val = trainer.validate(model, **options)[0]["val/accuracy"]
        else:
            val = next(one for one in callbacks if isinstance(one, BestWeights)).restore(model)
        test = trainer.test(model, **options)[0]["test/accuracy"]
    forget(best.parent)
    return Score(100 * float(val), 100 * float(test), fitted.seconds)


def _checkpoint(path: Path) -> dict[str, Any]:
    options: dict[str, Any] = {"dirpath": str(path.parent), "filename": path.stem}
    options |= {"monitor": "val/accuracy", "mode": "max"}
    options |= {"enable_version_counter": False, "save_weights_only": True}
    return {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": options}


def _noted(sweep: Sweep, spec: Spec, stage: str) -> AbstractContextManager[None]:
    target = target_labels(sweep.targets)[spec.group.target]
    return noted(sweep.output, Note(stage, spec.seed, target, _what(sweep, spec)))


def _what(sweep: Sweep, spec: Spec) -> str:
    """Describes what a cell pretrains on, for display."""
    group = spec.group
    label = sweep.methods[group.method].label
    label = f"{label}, {group.ratio:.0%} pruned" if group.ratio else label
    return label if group.start == AS_CONFIGURED else f"{label}, {start_label(group.start)}"


def tell(what: str, seed: int | None, seconds: float) -> None:
    """Logs a line when a stage ends; on a terminal, or if images are counted, a progress bar replaces it.

    Args:
        what: What the stage did.
        seed: Seed of the repetition; None for a stage that serves all.
        seconds: Seconds that it took.
    """
    if sys.stdout is not None and not sys.stdout.isatty() and not is_counted():
        sys.stdout.write(f"{'' if seed is None else f'seed {seed + 1}  '}{what}: {seconds:.1f} s\n")
        sys.stdout.flush()
