"""What is reported: folders of sweeps, of which a demo is one, as one set of results, and single Selections.

Nothing here loads torch, so that what cannot be reported is refused at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from tlprune.errors import InputError
from tlprune.experiments.copied import require_copies
from tlprune.experiments.partial import CELLS_PLANNED, cells_planned
from tlprune.experiments.results import RESULTS, Results

__all__ = ["Reported", "read_runs"]


@dataclass
class Reported:
    """What a page is about.

    Args:
        results: All cells, each with its Selection's file as an absolute path; None where there are only Selections.
        selections: Files of Selections that were given by themselves.
        notes: What a reader has to know of how runs were put together, in sentences.
    """

    results: Results | None = None
    selections: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_runs(paths: Sequence[Path]) -> Reported:
    """Reads what ``tlprune report`` is given, and unites the cells of several runs.

    Args:
        paths: Folders of sweeps, and saved Selections.

    Raises:
        InputError: One is none of these, or damaged, or has no finished cell; or two of them cannot be compared: they
            pruned different sources, split a target differently, or disagree about the same cell.
    """
    found = Reported()
    for path in dict.fromkeys(path.absolute() for path in paths):
        if path.is_file():
            found.selections.append(path)
            continue
        results = _read_folder(path)
        if not results.cells:
            raise InputError(f"{path}: no cell is finished yet")
        _check(results, path)
        if results.is_partial:
            planned = cells_planned(results.provenance)
            text = f"{path.name} has not ended: {len(results.cells)} of {planned} cells are finished."
            found.notes.append(f"{text} Differences are those so far, means are over the seeds that each group has.")
        files = [replace(cell, selection=_inside(path, cell.selection)) for cell in results.cells]
        there = {cell.target for cell in files}
        shown = {name: info for name, info in results.targets.items() if name in there}
        results = replace(results, cells=files, targets=shown)
        found.results = results if found.results is None else _unite(found.results, results, path, found.notes)
    if found.results is not None and found.selections:
        raise InputError(f"{found.selections[0]}: a Selection has a page of its own, apart from sweeps")
    return found


def _check(results: Results, path: Path) -> None:
    """Refuses what does not fit the rest, which only another program than ours can have written."""
    if not all(isinstance(part, dict) for part in (results.source, results.recipes, results.provenance)):
        raise InputError(f"{path}: damaged (its source, recipes or provenance have no names)")
    if not isinstance(results.targets, dict) or not all(isinstance(one, dict) for one in results.targets.values()):
        raise InputError(f"{path}: damaged (its targets have no names)")
    for name, known in results.targets.items():
        images = known.get("test", 0)
        if isinstance(images, bool) or not isinstance(images, int) or images < 0:
            raise InputError(f"{path}: damaged (target {name} has {images!r} test images)")
        require_copies(known.get("copies"), f"{path}: damaged (copies of test images of target {name}")
    planned = results.provenance.get(CELLS_PLANNED, 0)
    if isinstance(planned, bool) or not isinstance(planned, int) or planned < 0:
        raise InputError(f"{path}: damaged ({planned!r} planned cells)")
    starts = results.provenance.get("starts", [])
    if not isinstance(starts, list) or not all(isinstance(start, str) for start in starts):
        raise InputError(f"{path}: damaged (its starts are {starts!r}, and not a list of names)")
    margin = results.provenance.get("margin", 0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 100:
        raise InputError(f"{path}: damaged (its margin is {margin!r}, and not points of accuracy in [0, 100))")
    for cell in results.cells:
        numbers = [cell.ratio, cell.surrogate_seconds, cell.selection_seconds, cell.pretraining_seconds]
        if not isinstance(cell.start, str):
            raise InputError(f"{path}: damaged (a cell of seed {cell.seed} starts from {cell.start!r})")
        if not isinstance(cell.diagnostics, dict | None):
            raise InputError(f"{path}: damaged (diagnostics of a cell of seed {cell.seed} have no names)")
        numbers += (cell.diagnostics or {}).values()
        numbers += [] if cell.steps is None else [cell.steps]
        numbers += [value for score in cell.scores.values() for value in (score.val, score.test)]
        if not all(isinstance(number, int | float) and isfinite(number) for number in numbers):
            raise InputError(f"{path}: damaged (a cell of seed {cell.seed} has values that are no numbers)")
        if cell.method not in results.methods or cell.target not in results.targets:
            raise InputError(f"{path}: damaged (a cell of an unknown method or target: {cell.method}, {cell.target})")
        if not set(cell.scores) <= set(results.modes) or not cell.scores:
            raise InputError(f"{path}: damaged (a cell of seed {cell.seed} has scores of no known mode)")


def _read_folder(path: Path) -> Results:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if (path / RESULTS).exists():
        return Results.load(path)
    raise InputError(f"{path}: neither a folder of a sweep or a demo ({RESULTS}), nor a Selection")


def _inside(folder: Path, selection: str | None) -> str | None:
    """An absolute path; None for one that leads out of the sweep's folder, which is none of a sweep's own."""
    if selection is None:
        return None
    path = (folder / selection).resolve()
    return str(path) if path.is_relative_to(folder.resolve()) else None


def _unite(first: Results, second: Results, path: Path, notes: list[str]) -> Results:
    """All cells of two runs; ``path`` names the second."""
    if _conflicts(first.source, second.source):
        raise InputError(f"{path}: pruned another source than the runs before it; report it apart")
    for target in first.targets.keys() & second.targets.keys():
        if _conflicts(_split_of(first.targets[target]), _split_of(second.targets[target])):
            raise InputError(f"{path}: has other images or another split of target {target}; report it apart")
    differing = _conflicts(first.recipes, second.recipes)
    if differing:
        notes.append(f"Recipes differ between the runs: {path.name} has other values of {', '.join(differing)}.")
    if renamed := _conflicts(first.methods, second.methods):
        notes.append(f"{path.name} describes {', '.join(renamed)} otherwise; what came first is shown.")
    known = {(cell.group, cell.seed): cell for cell in first.cells}
    cells = list(first.cells)
    for cell in second.cells:
        twin = known.get((cell.group, cell.seed))
        if twin is None:
            cells.append(cell)
        elif twin.scores != cell.scores:
            label = second.methods[cell.method].label
            where = f"{cell.target}, {label}, {cell.ratio:.0%} pruned, seed {cell.seed}"
            raise InputError(f"{path}: found something else for the same cell ({where}); report it apart")
    return Results(
        name=", ".join(dict.fromkeys((first.name, second.name))),
        source=second.source | first.source,
        targets=first.targets | {name: info | first.targets.get(name, {}) for name, info in second.targets.items()},
        methods=first.methods | {name: info for name, info in second.methods.items() if name not in first.methods},
        modes=list(dict.fromkeys([*first.modes, *second.modes])),
        recipes=first.recipes | ({second.name: second.recipes} if second.recipes != first.recipes else {}),
        provenance=first.provenance | ({second.name: second.provenance} if second.provenance else {}),
        cells=cells,
    )


def _split_of(target: Mapping[str, Any]) -> dict[str, Any]:
    """A target without what its test images were found to be."""
    return {name: value for name, value in target.items() if name != "copies"}


def _conflicts(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What both have, and have differently."""
    return [name for name in first if name in second and first[name] != second[name]]
