"""``tlprune demo``: the claim tested against random, reverse and no pruning, on data that comes with the package."""

import time
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryFile
from typing import get_args

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_source
from tlprune.data.target_splits import list_targets
from tlprune.errors import InputError, did_you_mean, require_within
from tlprune.experiments.demo_photographs import (
    WEIGHTS,
    photographs_figure,
    photographs_select,
    what_photographs_need,
)
from tlprune.experiments.demo_plan import DemoMethod, demo_sweep
from tlprune.experiments.demo_report import print_summary, write_summary
from tlprune.experiments.executors import Executor, Job, default_workers, local_processes
from tlprune.experiments.packages import require_packages
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import NONE, Cell, Group, Results
from tlprune.experiments.summary import Summary
from tlprune.experiments.sweep import begin, finished, run_sweep
from tlprune.experiments.sweep_plan import Sweep
from tlprune.experiments.sweep_stages import pretraining_done, source_of, surrogate_stage
from tlprune.progress import in_notebook
from tlprune.selection.selection import Selection
from tlprune.storage.atomic import atomic_path
from tlprune.storage.cache import cache_root, forget
from tlprune.storage.paths import user_path

__all__ = ["demo", "images_left"]


def demo(
    target: str = "digits",
    method: DemoMethod = "lm",
    quick: bool = False,
    seeds: int | None = None,
    output: str | None = None,
    cache: str | None = None,
    fresh: bool = False,
) -> Results:
    """Prunes the built-in source for a target, pretrains, transfers, and compares with no, random, reverse pruning.

    Args:
        target: ``digits`` (handwritten digits) or ``photos`` (patches of photographs).
        method: ``lm``, Label Mapping and supervised pretraining; or ``fm``, Feature Mapping and SimCLR, which use no
            label of the source.
        quick: One ratio, two seeds, shorter training: under 90 seconds on two cores, with wider intervals.
        seeds: How many times everything is repeated, surrogate included; None for 4 (``fm`` 3), or 2 when quick.
        output: Folder for results; None for ``runs/demo-TARGET``, ``runs/demo-fm-TARGET``.
        cache: The cache folder; None for the user's.
        fresh: Whether cells that an earlier command finished are run again; else the demo goes on where that stopped.

    Returns:
        Every cell, as ``results.json`` has them.

    Raises:
        InputError: There is no such target, ``seeds`` is below 1, a folder cannot be written, or a package
            is missing.
    """
    started = time.perf_counter()
    require_packages("the demo", "demo")
    if target not in list_targets():
        raise InputError(f"unknown target {target!r}: {did_you_mean(target, list_targets())}")
    if method not in get_args(DemoMethod):
        raise InputError(f"`method` must be 'lm' or 'fm', got {method!r}")
    if seeds is not None:
        require_within("seeds", seeds, 1)
    folder = user_path(output or f"runs/demo-{'fm-' if method == 'fm' else ''}{target}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()  # found out now, not after minutes of work
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    if fresh:
        forget(folder / "stages", folder / "selections")
    console = Console(force_interactive=False if in_notebook() else None)
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    progress = Progress(*columns, console=console, speed_estimate_period=90)
    trained = progress.add_task("train and compare", start=False, total=None, visible=False)
    with local_processes(default_workers(small=True), lambda count: progress.advance(trained, count)) as executor:
        # while photographs vote in this process, one draws the source, and another imports what trains
        drawn = executor.submit(synthetic_source, cache_root(cache))
        executor.submit(_imported)
        _show_photographs(folder, cache, console)
        with progress:
            root = _drawn(drawn, executor, progress)
            sweep = demo_sweep(target, method, quick, seeds, folder, cache)
            results = begin(sweep, f"tlprune demo --target {target} --method {method}{' --quick' if quick else ''}")
            results.cells += finished(sweep, sweep.groups())
            results.provenance["reused"] = len(results.cells)
            _run(sweep, results, executor, progress, trained)
            results.provenance["seconds"] = time.perf_counter() - started
            results.save(folder)
            summary = Summary(results)
            selection = _copied(sweep, summary, folder)
            images = scan_class_folder(root)
            write_summary(summary, selection, lambda unit: images[selection.example(unit)][0], folder)
    print_summary(summary, selection, folder, console)
    return results


def _show_photographs(folder: Path, cache: str | None, console: Console) -> None:
    """Lets real photographs choose classes of ImageNet, where all that this takes is installed."""
    if missing := what_photographs_need():
        text = f"pip install 'tlprune[demo]' lets photographs choose classes of ImageNet here (needs {missing})"
        console.print(text, highlight=False, markup=False)  # [demo] is no style
        return
    selection, photographs = photographs_select(cache)
    photographs_figure(selection, photographs, folder / "photographs.png")
    voted = int((selection.votes > 0).sum())
    text = f"{len(photographs)} photographs choose {voted} of ImageNet's {selection.num_units:,} classes"
    console.print(f"{text} by their names, without an image of ImageNet:", highlight=False)
    for index, unit in enumerate(selection.assignments.tolist()):
        console.print(f"  {photographs.name(index):<22}{selection.name(unit)}", highlight=False)
    console.print(
        f"{folder}/photographs.png shows them. For a folder of yours:\n  tlprune select --source classes:imagenet1k "
        f"--target FOLDER \\\n      --surrogate {WEIGHTS} --output names.safetensors\n"
        "Now the built-in source, where the claim can be tested in minutes:",
        highlight=False,
        soft_wrap=True,
    )


def _imported() -> None:
    """Does nothing: a process that is sent this imports the module, and with it all that trains."""


def _drawn(drawing: Job, executor: Executor, progress: Progress) -> Path:
    """Waits for the source to be drawn, and returns its folder."""
    task = progress.add_task("draw the source", total=None)
    executor.wait([drawing])
    root: Path = drawing.result()
    progress.update(task, total=1, completed=1)
    return root


def _run(sweep: Sweep, results: Results, executor: Executor, progress: Progress, trained: TaskID) -> None:
    """Runs the missing cells under a progress bar that counts images and gives the time left."""
    total = images_left(sweep, results)
    progress.update(trained, total=total, visible=True)
    progress.start_task(trained)
    if results.cells:
        text = f"{len(results.cells)} of {sum(sweep.seeds for _ in sweep.groups())} runs are finished"
        progress.console.print(f"{text}; --fresh runs them again", highlight=False)

    def on_cell_end(cell: Cell) -> None:
        scores = "  ".join(f"{mode} {score.test:.1f}" for mode, score in cell.scores.items())
        pruned = f", {cell.ratio:.0%} pruned" if cell.method != NONE else ""
        name = f"{results.methods[cell.method].label}{pruned}{' =' if cell.match_budget == 'steps' else ''}"
        text = f"seed {cell.seed + 1}  {name:<22}{cell.pretraining_seconds:>5.1f} s  {scores}"  # 80 columns
        progress.console.print(text, highlight=False)

    run_sweep(sweep, results, executor, on_cell_end)
    progress.update(trained, completed=total)


def images_left(sweep: Sweep, results: Results) -> int:
    """Images that are still to be trained on, which the progress bar counts.

    Args:
        sweep: The comparison, whose configs count in epochs.
        results: With the cells that are finished.
    """
    left = {(group, seed) for group in sweep.groups() for seed in range(sweep.seeds)}
    left -= {(cell.group, cell.seed) for cell in results.cells}
    source = source_of(sweep).images_before_pruning
    target = int(results.targets[sweep.targets[0]]["train"])
    shares = sum(1.0 if group.match_budget == "steps" else 1 - group.ratio for group, _ in left)
    images = shares * _epochs(sweep.pretrain) * source
    images += sum(_epochs(one) for one in sweep.transfers.values() if isinstance(one, Recipe)) * target * len(left)
    config = str(sweep.surrogate)
    untrained = [
        seed
        for seed in {seed for _, seed in left}
        if surrogate_stage(sweep, config, seed, sweep.targets[0]).done is None
    ]
    images += len(untrained) * _epochs(Recipe.read(config, "PrunedSourceDataModule")) * source
    return round(images)


def _epochs(recipe: Recipe) -> int:
    return recipe.epochs or 0


def _copied(sweep: Sweep, summary: Summary, folder: Path) -> Selection:
    """Copies the first seed's Selection and source models to where people find them, and reads the Selection."""
    shown = summary.results.of(summary.shown)[0]
    files = {"selection": sweep.output / str(shown.selection)}
    for name, group in (("pruned", summary.shown), ("full", Group(summary.target, NONE))):
        if (done := pretraining_done(sweep, group, shown.seed)) is None:
            raise RuntimeError(f"{group}: changed when it was just finished")
        files[name] = done.outputs[0]
    for name, file in files.items():
        with atomic_path(folder / f"{name}.safetensors") as temporary:
            copyfile(file, temporary)
    return Selection.load(folder / "selection.safetensors")
