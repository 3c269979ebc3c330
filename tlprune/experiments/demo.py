"""``tlprune demo``: a fair trial of the claim, on data that comes with the package, in minutes."""

import os
import time
from multiprocessing import get_context
from multiprocessing.managers import SyncManager
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryFile
from threading import Thread
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_classes, synthetic_source
from tlprune.data.target_splits import list_targets, open_target
from tlprune.errors import InputError, did_you_mean
from tlprune.experiments.cells import Cells, run_cells
from tlprune.experiments.comparison import Arm, Comparison, Method, Run
from tlprune.experiments.report import print_comparison, write_comparison
from tlprune.experiments.trial import Neighbours, Pretraining, Transfer
from tlprune.processes import end_with_parent
from tlprune.selection.selection import Selection
from tlprune.storage.atomic import atomic_path
from tlprune.storage.cache import cache_root, forget
from tlprune.storage.paths import user_path

__all__ = ["demo"]

_VAL_SHARE = 0.1  # of PrunedSourceDataModule

_METHODS: dict[str, Method] = {"lm": "label_mapping", "fm": "feature_mapping"}
_RATIOS = {"lm": (0.5, 0.7, 0.9), "fm": (0.5, 0.65, 0.8)}


def _arms(method: str, quick: bool) -> tuple[Arm, ...]:
    middle = _RATIOS[method][1]
    ratios = (middle,) if quick else _RATIOS[method]
    compared: tuple[Method, ...] = (_METHODS[method], "random", "reverse")
    arms = [Arm("none", 0.0), *(Arm(one, ratio) for ratio in ratios for one in compared)]
    if not quick:
        arms += [Arm(_METHODS[method], middle, "steps"), Arm("random", middle, "steps")]
    return tuple(arms)


def _recipes(method: str, quick: bool) -> tuple[Pretraining, Pretraining]:
    """How surrogates and source models are trained."""
    if method == "lm":
        epochs = 8 if quick else 12
        return Pretraining("resnet8_w8", 6), Pretraining("resnet8_w16", epochs, warmup_epochs=2)
    epochs = 5 if quick else 12
    without_labels: dict[str, Any] = {"weight_decay": 1e-4, "method": "simclr", "batch_size": 256}
    without_labels |= {"augment": "simclr_small"}
    surrogate = Pretraining("resnet8_w8", 3 if quick else 6, **without_labels)
    return surrogate, Pretraining("resnet8_w16", epochs, **without_labels)


def demo(
    target: str = "digits",
    method: Literal["lm", "fm"] = "lm",
    quick: bool = False,
    seeds: int | None = None,
    output: str | None = None,
    cache: str | None = None,
    fresh: bool = False,
) -> Comparison:
    """Prunes the built-in source for a target, pretrains, transfers, and compares with no, random, reverse pruning.

    Args:
        target: ``digits`` (handwritten digits) or ``photos`` (patches of photographs).
        method: ``lm``, Label Mapping and supervised pretraining; or ``fm``, Feature Mapping and SimCLR, for which no
            label of the source is looked at.
        quick: One ratio, two seeds, shorter training: under 90 seconds on two cores, with wider intervals.
        seeds: How many times everything is repeated, surrogate included; None for 4 (``fm`` 3), or 2 when quick.
        output: Folder for results; None for ``runs/demo-TARGET``, ``runs/demo-fm-TARGET``.
        cache: The cache folder; None for the user's.
        fresh: Whether cells that an earlier command finished are run again; else it goes on where that stopped.

    Returns:
        Every run, as ``summary.json`` has it.

    Raises:
        InputError: There is no such target, ``seeds`` is below 1, or a folder cannot be written.
    """
    begin = time.perf_counter()
    if target not in list_targets():
        raise InputError(f"unknown target {target!r}: {did_you_mean(target, list_targets())}")
    if method not in _METHODS:
        raise InputError(f"`method` must be 'lm' or 'fm', got {method!r}")
    if seeds is not None and seeds < 1:
        raise InputError(f"`seeds` must be at least 1, got {seeds}")
    folder = user_path(output or f"runs/demo-{'fm-' if method == 'fm' else ''}{target}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()  # found out now, not after minutes of work
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    console = Console()
    surrogate, pretraining = _recipes(method, quick)
    judged = (Neighbours(),) if method == "fm" else ()
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    journal = folder / "stages"
    if fresh:
        forget(journal)
    with Progress(*columns, console=console, speed_estimate_period=90) as progress:
        cells = Cells(
            source=_draw(progress, cache),
            target=target,
            split_seed=0,
            arms=_arms(method, quick),
            seeds=seeds or (2 if quick else 4 if method == "lm" else 3),
            surrogate=surrogate,
            pretraining=pretraining,
            transfers=(*judged, Transfer("probe", 50, 0.03), Transfer("finetune", 20, 0.003)),
            folder=journal,
        )
        opened = open_target(target, cells.split_seed)
        comparison = Comparison(target, opened.split, cells.pretraining, cells.surrogate, cells.transfers)
        runs = cells.finished + _run(cells, len(opened.train), progress)
        comparison.runs = sorted(runs, key=lambda run: (cells.arms.index(run.arm), run.seed))
        comparison.reused = len(cells.finished)
        comparison.seconds = time.perf_counter() - begin
        images = scan_class_folder(cells.source)
        shown = Selection.load(cells.selection(comparison.shown_arm, 0))
        write_comparison(comparison, shown, lambda unit: images[shown.example(unit)][0], folder)
        for name, file in {
            "selection": cells.selection(comparison.shown_arm, 0),
            "pruned": cells.weights(comparison.shown_arm, 0),
            "full": cells.weights(Arm("none", 0.0), 0),
        }.items():
            with atomic_path(folder / f"{name}.safetensors") as temporary:
                copyfile(file, temporary)
    print_comparison(comparison, shown, folder, console)
    return comparison


def _draw(progress: Progress, cache: str | None) -> Path:
    task = progress.add_task("draw the source", total=len(synthetic_classes()))
    root = synthetic_source(cache_root(cache), drawn=lambda: progress.advance(task))
    progress.update(task, completed=len(synthetic_classes()))
    return root


def _run(cells: Cells, target_images: int, progress: Progress) -> list[Run]:
    """Runs all cells under a progress bar that counts images and says the time left."""
    held_out = _VAL_SHARE if cells.pretraining.method == "supervised" else 0
    source_images = round(len(scan_class_folder(cells.source)) * (1 - held_out))
    left = [cells.left(seed) for seed in range(cells.seeds)]
    surrogates = sum(bool(arms) and cells.stage(None, seed).done is None for seed, arms in enumerate(left))
    total = sum(cells.images(arms, source_images, target_images) for arms in left)
    total += surrogates * cells.surrogate.epochs * source_images
    task = progress.add_task("train and compare", total=total)
    if cells.finished:
        text = f"{len(cells.finished)} of {len(cells.arms) * cells.seeds} runs are finished; --fresh runs them again"
        progress.console.print(text, highlight=False)
    runs: list[Run] = []
    manager = SyncManager(ctx=get_context("spawn"))
    manager.start(end_with_parent, (os.getpid(),))
    with manager:
        told = manager.Queue()

        def listen() -> None:
            while (count := told.get()) is not None:
                progress.advance(task, count)

        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            for run in run_cells(cells, told):
                runs.append(run)
                scores = "  ".join(f"{mode} {score.test:.1f}" for mode, score in run.scores.items())
                label = run.arm.label.replace(", equal steps", " =")  # 80 columns; the table explains the sign
                text = f"seed {run.seed + 1}  {label:<22}{run.pretraining_seconds:>5.1f} s  {scores}"
                progress.console.print(text, highlight=False)
        finally:
            told.put(None)
            listener.join()
    progress.update(task, completed=progress.tasks[task].total)
    return sorted(runs, key=lambda run: (run.seed, cells.arms.index(run.arm)))
