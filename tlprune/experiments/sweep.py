"""Runs a sweep over methods, ratios, seeds and targets; each cell is a pretraining and its transfers."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import tlprune
from tlprune.data.target_splits import open_target
from tlprune.errors import InputError
from tlprune.experiments.executors import Executor
from tlprune.experiments.packages import require_packages
from tlprune.experiments.partial import CELLS_PLANNED, cells_planned
from tlprune.experiments.recipes import Recipe, is_config
from tlprune.experiments.results import (
    AS_CONFIGURED,
    NONE,
    RESULTS,
    Cell,
    Group,
    MethodInfo,
    Results,
)
from tlprune.experiments.running import NOTES
from tlprune.experiments.sweep_board import Board, run_tasks, shared_pretraining
from tlprune.experiments.sweep_cells import cell_if_finished
from tlprune.experiments.sweep_copies import add_copies, not_compared
from tlprune.experiments.sweep_included import check_included
from tlprune.experiments.sweep_plan import Spec, Sweep
from tlprune.experiments.sweep_progress import SweepProgress
from tlprune.experiments.sweep_stages import forget_opened, selector_of, source_of
from tlprune.experiments.sweep_starts import check_starts
from tlprune.experiments.wording import start_label
from tlprune.storage.cache import forget

__all__ = ["begin", "finished", "next_groups", "run_sweep", "save_settings", "shared_pretraining"]


def begin(sweep: Sweep, command: str) -> Results:
    """Opens source and targets and builds every selector, so that invalid input is reported before any computation.

    Returns:
        Results without cells.

    Raises:
        InputError: If source, target or selector cannot be opened or built, or a package is missing.
    """
    require_packages("a sweep", "sweep")
    forget_opened()
    infos = {}
    for name, method in sweep.methods.items():
        selector = selector_of(sweep, name, 0) if sweep.selects(name) else None
        needs = selector is not None and selector.needs_surrogate is not None
        surrogate = sweep.surrogate_of(name)
        if needs and surrogate is None:
            raise InputError(f"method {name!r} needs `surrogate`: a config to train it by, or a weights file")
        if needs and surrogate is not None and is_config(surrogate):
            check_included(sweep, Recipe.read(surrogate, "PrunedSourceDataModule"))
        kind = "class" if selector is None else selector.unit_kind
        infos[name] = MethodInfo(method.label, kind, needs, method.ablates, method.sampling)
    check_included(sweep, sweep.pretrain)
    if sweep.diagnostics and sweep.surrogate is not None and is_config(sweep.surrogate):
        check_included(sweep, Recipe.read(sweep.surrogate, "PrunedSourceDataModule"))
    check_starts(sweep)
    source = source_of(sweep)
    source.check_inputs()
    images = source.transformed_source.images
    for name in filter(sweep.selects, sweep.methods):
        try:
            selector_of(sweep, name, 0).check_source(images)
        except InputError as error:
            raise InputError(f"method {name!r} on source {sweep.source}: {error}") from error
    targets = {}
    for name in sweep.targets:
        opened = open_target(name)
        opened.require_labels("a sweep")
        test = 0 if opened.test is None else len(opened.test)
        if test == 0:
            raise InputError(f"target {name}: a sweep needs test images, and there are none")
        sizes = {"train": len(opened.train), "val": len(opened.val), "test": test}
        targets[name] = {"split": opened.split, "classes": list(opened.classes), **sizes}
    recipes = {
        "surrogate": _shown(sweep.surrogate),
        "pretrain": sweep.pretrain.as_json,
        "transfers": {mode: recipe.as_json for mode, recipe in sweep.transfers.items()},
        "methods": {name: asdict(method) for name, method in sweep.methods.items()},
    }
    machine = {"system": platform.platform(), "processor": platform.processor() or platform.machine()}
    machine |= {"gpu": torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {}
    provenance = {
        "command": command,
        "begun": time.strftime("%Y-%m-%d %H:%M:%S"),
        "seeds": sweep.seeds,
        "search": sweep.search,
        "ratios": list(sweep.ratios),
        "margin": sweep.margin,
        CELLS_PLANNED: sweep.seeds * sum(1 for _ in sweep.groups()),
        **({} if sweep.starts == (AS_CONFIGURED,) else {"starts": list(sweep.starts)}),
        "versions": {"tlprune": tlprune.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": machine,
    }
    known = {
        "name": sweep.source,
        "images": len(images),
        "classes": len(images.classes),
        "digest": images.fingerprint(),
    }
    return Results(sweep.name, known, targets, infos, list(sweep.transfers), recipes, provenance)


def _shown(surrogate: str | None) -> Any:
    if surrogate is None or not is_config(surrogate):
        return surrogate
    return Recipe.read(surrogate, "PrunedSourceDataModule").as_json


def next_groups(sweep: Sweep, results: Results) -> list[Group]:
    """Returns the groups to run next, given the finished cells; empty when the sweep is complete.

    A grid runs all groups at once. For each target, method and length, bisection runs the middle of the remaining
    ratios: if its mean validation accuracy is not below that of no pruning by more than the margin, larger ratios
    remain, otherwise smaller ones.
    """
    wanted = [group for group in sweep.groups() if len(results.of(group)) < sweep.seeds]
    if sweep.search == "grid":
        return wanted
    missing = [group for group in wanted if not sweep.prunes(group.method)]
    if missing:
        return missing
    middles = (
        _middle(sweep, results, Group(target, method, match_budget=match_budget, start=start))
        for start in sweep.starts
        for target in sweep.targets
        for method in sweep.methods
        for match_budget in sweep.match_budget
        if sweep.prunes(method)
    )
    return [group for group in middles if group is not None]


def _middle(sweep: Sweep, results: Results, series: Group) -> Group | None:
    low, high = 0, len(sweep.ratios)  # ratios below `low` are known to be harmless, those from `high` on harmful
    mode = results.modes[0]
    while low < high:
        middle = (low + high) // 2
        group = replace(series, ratio=sweep.ratios[middle])
        if len(results.of(group)) < sweep.seeds:
            return group
        difference = results.difference(group, Group(series.target, NONE, start=series.start), mode, "val")
        if difference is not None and difference.mean >= -sweep.margin:
            low = middle + 1
        else:
            high = middle
    return None


def finished(sweep: Sweep, groups: Iterable[Group]) -> Iterator[Cell]:
    """Yields the cells of some groups whose stages were finished by an earlier command."""
    for group in groups:
        for seed in range(sweep.seeds):
            cell = cell_if_finished(sweep, Spec(group, seed))
            if cell is not None:
                yield cell


def run_sweep(
    sweep: Sweep,
    results: Results,
    executor: Executor,
    on_cell_end: Callable[[Cell], None],
    progress: SweepProgress | None = None,
) -> None:
    """Compares test images with the source, runs the unfinished cells and writes the results after each of them.

    Args:
        sweep: Sweep to run.
        results: Results returned by :func:`begin`; cells are added to it.
        executor: Executor that runs the work.
        on_cell_end: Function called with each finished cell.
        progress: Progress to report to; None reports to nobody.
    """
    progress = progress or SweepProgress(results, cells_planned(results.provenance) or 0)
    forget(sweep.output / NOTES)  # notes of killed processes
    add_copies(sweep, results)
    compares = bool(not_compared(sweep))
    if results.cells or not (sweep.output / RESULTS).exists():
        results.save(sweep.output)  # so that a report that follows sees that the sweep runs
    try:
        while (groups := next_groups(sweep, results)) or compares:
            there = {(cell.group, cell.seed) for cell in results.cells}
            board = Board()
            if compares:
                board.add_comparison(sweep)
                compares = False  # what cannot be compared is tried again by the next command alone
            for seed in range(sweep.seeds):
                for group in groups:
                    if (group, seed) not in there:
                        board.add_cell(sweep, group, seed)
            for cell in run_tasks(board.tasks, executor, progress):
                results.cells.append(cell)
                add_copies(sweep, results)
                results.save(sweep.output)
                on_cell_end(cell)
    finally:
        forget(sweep.output / NOTES)
    add_copies(sweep, results)
    results.provenance["ended"] = time.strftime("%Y-%m-%d %H:%M:%S")
    results.save(sweep.output)


def save_settings(cell: Cell, results: Results, folder: Path) -> None:
    """Writes a cell's settings and scores for TensorBoard's HPARAMS tab."""
    from torch.utils.tensorboard import SummaryWriter

    settings = {"target": cell.target, "method": results.methods[cell.method].label, "prune ratio": cell.ratio}
    settings |= {"equal": cell.match_budget, "seed": cell.seed}
    settings |= {} if cell.start == AS_CONFIGURED else {"start": start_label(cell.start)}
    metrics = {f"{mode}/test accuracy": score.test for mode, score in cell.scores.items()}
    metrics |= {f"{mode}/val accuracy": score.val for mode, score in cell.scores.items()}
    metrics |= {"images kept": cell.images_kept, "pretraining seconds": cell.pretraining_seconds}
    name = f"{cell.target}-{cell.method}-{cell.ratio:g}-{cell.match_budget}-{cell.seed}"
    name += "" if cell.start == AS_CONFIGURED else f"-{start_label(cell.start)}"
    with SummaryWriter(str(folder / "cells" / name.replace("/", "-"))) as board:
        board.add_hparams(settings, metrics, run_name=".")
