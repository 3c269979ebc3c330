"""``tlprune sweep``: compares methods over ratios, seeds and targets, and reuses finished work."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tlprune.commands.arguments import make_console, make_parser, parse, require_writable
from tlprune.config_files import check_configs
from tlprune.errors import InputError, require_within
from tlprune.selection.registry import selector_names
from tlprune.storage.paths import user_path

if TYPE_CHECKING:
    from tlprune.experiments.results import Cell, Results
    from tlprune.experiments.sweep_plan import Sweep

__all__ = ["run"]

_SMALL = 64
"""Height and width in pixels up to which several trainings share a GPU."""


def run(arguments: list[str]) -> None:
    """Runs a sweep, or prints its plan.

    Raises:
        InputError: If the input is invalid.
    """
    check_configs(arguments, "'source', 'targets' and 'methods'", lists=("targets", "ratios", "equal", "starts"))
    given = parse(_parser(), arguments)
    if given.workers is not None:
        require_within("workers", given.workers, 1)
    from tlprune.experiments.sweep import begin, finished  # loads torch and Lightning, which take seconds

    sweep = _sweep(given)
    require_writable(str(sweep.output / "results.json"))
    console = make_console()
    if given.fresh and not given.dry_run:
        from tlprune.experiments.results import RESULTS
        from tlprune.storage.cache import forget

        names = ("stages", "selections", "tensorboard", RESULTS)
        forget(*(sweep.output / name for name in names))
    before = _cells_before(sweep.output)
    results = begin(sweep, f"tlprune sweep {shlex.join(arguments)}")
    results.cells += finished(sweep, sweep.groups())
    _tell_changed(sweep, results, before, console)
    if given.dry_run:
        _tell_plan(sweep, results, console)
        return
    _run(sweep, results, before, given, console)


def _parser() -> ArgumentParser:
    what = "Pretrain and transfer for every method, prune ratio, seed and target; find the winning subsets."
    parser = make_parser("sweep", what)
    add = parser.add_argument
    add("--config", action="config", help="yaml file with any of these; the command line beats it")
    add("--source", type=str, default="drawn", help="as 'tlprune select' takes it (default: drawn)")
    add("--targets", type=list[str], required=True, help="'digits', 'photos', named sets, folders")
    text = "config of 'tlprune fit' to train surrogates by, one for each seed; or the weights file of one for all"
    add("--surrogate", type=str | None, default=None, help=text)
    add("--pretrain", type=str, required=True, help="config of 'tlprune fit' for source models")
    text = (
        "what pretraining starts from: 'scratch', and weights as modules take them; every cell is run from each, and "
    )
    text += "the weights are transferred alone too (default: what the config of pretrain says)"
    add("--starts", type=list[str] | None, default=None, help=text)
    text = "by mode, the first decides: a config of 'tlprune fit', or as {config: FILE}; {solver: lbfgs}; or "
    text += "{num_neighbours: 20} for kNN; with 'shots: [5, 20, all]' a mode for each number of labels per class"
    add("--transfers", type=dict[str, str | dict], required=True, help=text)  # type: ignore[type-arg]
    text = "by name, a Selector, or 'selector' with 'label', 'surrogate', 'ablates', 'sampling'"
    # With the type dict[str, Any], the parser would import a class_path and fill in its defaults
    method = str | dict | list | float | None  # type: ignore[type-arg]
    add("--methods", type=dict[str, method], default={"label_mapping": selector_names()[0]}, help=text)
    add("--controls", type=bool, default=True, help="run random pruning and the reverse of the first method too")
    text = "method whose number of images all others keep too (default: each removes the same share of its own units)"
    add("--match_images", type=str | None, default=None, help=text)
    text = "draw random pruning for each target; else one draw, and one pretraining, serves all (default: false)"
    add("--draw_per_target", type=bool, default=False, help=text)
    add("--ratios", type=list[float], default=[0.1, 0.3, 0.5, 0.7, 0.9], help="shares of units removed, in (0, 1)")
    text = "what pruned models have as much of as the whole source's: [epochs], [steps] or both"
    add("--equal", type=list[str], default=["epochs"], help=text)
    add("--seeds", type=int, default=3, help="how many times all is repeated")
    text = "'grid': every ratio; 'bisection': as few as it takes to find each winning subset"
    add("--search", type=Literal["grid", "bisection"], default="grid", help=text)
    text = "say of every cell how near what it keeps is to the target, in features of the surrogate; reports show it"
    margin = "points of accuracy that a winning subset may lose to no pruning"
    add("--margin", type=float, default=1.0, help=margin)
    add("--diagnostics", type=bool, default=False, help=text)
    add("--output", type=str | None, default=None, help="the sweep's folder (default: runs/sweep-NAME of the config)")
    text = "cells at a time without --slurm (default: one for each GPU, up to eight if small; else each core)"
    add("--workers", type=int | None, default=None, help=text)
    text = "run each cell as a job of SLURM, with these options of submitit, such as {timeout_min: 600}"
    add("--slurm", type=dict[str, Any] | None, default=None, help=text)
    add("--dry_run", "--dry-run", action="store_true", help="say what would be run and what it will take")
    add("--fresh", action="store_true", help="run again what an earlier command finished")
    return parser


def _sweep(given: Namespace) -> "Sweep":
    from tlprune.experiments.recipes import Recipe
    from tlprune.experiments.results import ALONE, AS_CONFIGURED, SCRATCH
    from tlprune.experiments.sweep_plan import Sweep, methods_of
    from tlprune.experiments.sweep_starts import WEIGHTS_ALONE
    from tlprune.experiments.sweep_transfers import transfers_of

    configs = [Path(str(one)).stem for one in given.config or [] if one is not None]
    name = user_path(given.output).name if given.output else f"sweep-{configs[-1] if configs else 'drawn'}"
    methods = methods_of(given.methods, given.controls)
    starts = (AS_CONFIGURED,) if given.starts is None else tuple(given.starts)
    if any(start not in (SCRATCH, AS_CONFIGURED) for start in starts):
        methods[ALONE] = WEIGHTS_ALONE
    return Sweep(
        name=name,
        source=given.source,
        targets=tuple(given.targets),
        surrogate=given.surrogate,
        pretrain=Recipe.read(given.pretrain, "PrunedSourceDataModule"),
        transfers=transfers_of(given.transfers),
        methods=methods,
        ratios=tuple(sorted(given.ratios)),
        match_budget=tuple(given.equal),
        seeds=given.seeds,
        search=given.search,
        output=user_path(given.output or f"runs/{name}").absolute(),
        match_images=given.match_images,
        draw_per_target=given.draw_per_target,
        diagnostics=given.diagnostics,
        margin=given.margin,
        starts=starts,
    )


def _tell_plan(sweep: "Sweep", results: "Results", console: Console) -> None:
    """Prints a line for each group, and the forecast for the whole sweep."""
    from tlprune.experiments.forecast import forecast
    from tlprune.experiments.sweep import shared_pretraining
    from tlprune.experiments.sweep_included import surrogate_sees_target

    costs = forecast(sweep, results)
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    labels = _add_columns(table, sweep, ("pruned", "equal", "seeds", "finished", "each, s", "left, s"))
    total, cells = 0.0, 0
    for group in sweep.groups():
        there = len(results.of(group))
        shared = shared_pretraining(sweep, group)
        each = costs.transfer if shared else costs.cell(group)
        left = (sweep.seeds - there) * each
        total, cells = total + left, cells + sweep.seeds - there
        label = results.methods[group.method].label + _from(group.start)
        row = [labels[group.target], label, f"{group.ratio:.0%}", group.match_budget, str(sweep.seeds), str(there)]
        table.add_row(*row, f"{each:,.0f}" + (" *" if shared else ""), f"{left:,.0f}")
    console.print(table)
    if len(sweep.targets) > 1:
        console.print("* pretrained once for all targets: this is the transfer alone")
    if sweep.search == "bisection":
        console.print("bisection runs a part of these: a third or so of the ratios")
    own = any(surrogate_sees_target(sweep, method) for method in sweep.methods)
    count = sweep.seeds * (len(sweep.targets) if own else 1)
    surrogates = 0.0 if costs.surrogate is None or not cells else costs.surrogate * count
    how = "from what finished cells took" if costs.measured else "from a few steps on random images, loading apart"
    console.print(
        f"{cells} cells left; {total:,.0f} s, and {surrogates:,.0f} s for surrogates, on one device, {how}",
        soft_wrap=True,
    )


def _is_small(sweep: "Sweep") -> bool:
    """Returns whether a cell does not fill a GPU: its images are in memory and have at most 64 pixels."""
    from tlprune.data.opening import usual_size

    data = sweep.pretrain.data
    return bool(data.get("in_memory")) and (data.get("image_size") or usual_size(sweep.source)) <= _SMALL


def _tell_changed(sweep: "Sweep", results: "Results", before: list["Cell"], console: Console) -> None:
    """Says which cells of the command before are not finished for this one, and what that may come from."""
    finished = {(cell.group, cell.seed) for cell in results.cells}
    planned = {(group, seed) for group in sweep.groups() for seed in range(sweep.seeds)}
    if count := sum((cell.group, cell.seed) in planned - finished for cell in before):
        text = f"{count} cells of the command before are not finished for this one: a config, the modes of transfer, "
        text += "tlprune, or the images (by path, size or time of change) differ; what is the same is not run again"
        console.print(text, soft_wrap=True)


def _run(sweep: "Sweep", results: "Results", before: list["Cell"], given: Namespace, console: Console) -> None:
    from tlprune.experiments.closing import print_claims, print_copies, print_pooled, print_starts
    from tlprune.experiments.executors import cluster, default_workers, local_processes
    from tlprune.experiments.live import LiveSweep
    from tlprune.experiments.running import NOTES
    from tlprune.experiments.starts import compares_starts
    from tlprune.experiments.sweep import run_sweep, save_settings
    from tlprune.experiments.sweep_progress import SweepProgress
    from tlprune.experiments.wording import SEVERAL, start_label, target_labels
    from tlprune.storage.cache import forget

    sweep.output.mkdir(parents=True, exist_ok=True)
    total = sum(sweep.seeds for _ in sweep.groups())
    if results.cells:
        text = f"{len(results.cells)} of {total} cells are finished; --fresh runs them again"
        console.print(text)
    chosen = (
        local_processes(given.workers or default_workers(small=_is_small(sweep)))
        if given.slurm is None
        else cluster(sweep.output / "slurm", given.slurm)
    )
    labels = target_labels(sweep.targets)
    progress = SweepProgress(results, total)
    live = LiveSweep(sweep, results, progress, console)

    def on_cell_end(cell: "Cell") -> None:
        live.print_cell(_line(cell, results, labels))
        save_settings(cell, results, sweep.output / "tensorboard")

    try:
        with live, chosen as executor:
            run_sweep(sweep, results, executor, on_cell_end, progress)
    except (KeyboardInterrupt, SystemExit):
        text = f"stopped: {progress.done} of {total} cells are finished; give the same command again to go on"
        console.print(text, soft_wrap=True)
        raise
    finally:
        forget(sweep.output / NOTES)  # notes of processes that were ended
    for start, part in results.by_start().items():
        if start:
            console.print(f"pretraining {start_label(start)}", style="bold", soft_wrap=True)
        if len(part.targets) <= SEVERAL:
            print_claims(part, console)
        if len(part.targets) > 1:
            print_pooled(part, console)
    if compares_starts(results):
        print_starts(results, console)
    print_copies(results, console)
    if left := sum(not any(_agree(one, cell) for cell in results.cells) for one in before):
        text = (
            f"{left} cells of an earlier command, with other settings, are not in results.json any more; they stay in "
        )
        console.print(f"{text}stages, and that command brings them back without running them", soft_wrap=True)
    console.print(
        f"In {sweep.output}: results.json, selections, tensorboard. Next: tlprune report {sweep.output}", soft_wrap=True
    )


def _cells_before(folder: Path) -> list["Cell"]:
    """Cells of the command that wrote into the folder before; none where there are no results."""
    from tlprune.experiments.results import Results

    try:
        return Results.load(folder).cells
    except InputError:
        return []


def _agree(first: "Cell", second: "Cell") -> bool:
    """Returns whether two are one cell, of which one may have further modes of transfer."""
    names = ("group", "seed", "images_kept", "pretraining_seconds")  # no two pretrainings take the same time
    if any(getattr(first, name) != getattr(second, name) for name in names):
        return False
    return all(second.scores.get(mode, score) == score for mode, score in first.scores.items())


def _line(cell: "Cell", results: "Results", labels: dict[str, str]) -> str:
    pruned = f", {cell.ratio:.0%}" if cell.ratio else ""
    steps = " =" if cell.match_budget == "steps" else ""
    name = f"{results.methods[cell.method].label}{pruned}{steps}{_from(cell.start)}"
    scores = "  ".join(f"{mode} {score.test:.1f}" for mode, score in cell.scores.items())
    width = max(map(len, labels.values()))
    return (
        f"seed {cell.seed + 1}  {labels[cell.target]:<{width}}  {name:<24} {cell.pretraining_seconds:>6.1f} s  {scores}"
    )


def _from(start: str) -> str:
    from tlprune.experiments.results import AS_CONFIGURED
    from tlprune.experiments.wording import start_label

    return "" if start == AS_CONFIGURED else f", {start_label(start)}"


def _add_columns(table: Table, sweep: "Sweep", others: tuple[str, ...]) -> dict[str, str]:
    """Adds the columns; the target column never shrinks on a narrow terminal. Returns the display names of targets."""
    from tlprune.experiments.wording import target_labels

    labels = target_labels(sweep.targets)
    table.add_column("target", no_wrap=True, min_width=max(map(len, labels.values())))
    longest = max(len(method.label) for method in sweep.methods.values())
    table.add_column("method", overflow="fold", min_width=min(longest, 8))
    for heading in others:
        table.add_column(heading, justify="left" if heading == "equal" else "right", overflow="fold")
    return labels
