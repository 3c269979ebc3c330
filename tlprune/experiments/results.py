"""Results of a sweep: a cell for each method, ratio, length, target and seed, and statistics over them."""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from tlprune.errors import InputError
from tlprune.experiments.partial import is_partial
from tlprune.experiments.statistics import Estimate, Pooled, estimate, paired_difference, pooled
from tlprune.storage.atomic import write_bytes

__all__ = ["ALONE", "AS_CONFIGURED", "NONE", "RESULTS", "SCRATCH"]
__all__ += ["Cell", "Group", "MatchBudget", "MethodInfo", "Results", "Score"]

RESULTS = "results.json"
"""Name of the file in a sweep's folder."""

NONE = "none"
"""Name of the method that keeps the whole source."""

ALONE = "weights_alone"
"""Name of the method that transfers the weights of a start as they are, without pretraining on the source."""

SCRATCH = "scratch"
"""Start from random weights."""

AS_CONFIGURED = ""
"""Start that the pretraining config defines, of a sweep that names none."""

_SCHEMA = 1

_MARGIN = 1.0
"""Points that a winning subset may lose, if a sweep does not say otherwise."""

_TOLERANCE = 0.01
"""Share by which images and steps of two compared trainings may differ."""

_IN_FILES = {"match_budget": "equal", "uses_surrogate": "pays"}
_IN_PYTHON = {written: field for field, written in _IN_FILES.items()}
"""Fields that have a different name in files."""

MatchBudget = Literal["epochs", "steps"]
"""Length of a pruned training: as many epochs as on the whole source, or as many optimiser steps."""


@dataclass(frozen=True)
class Score:
    """Accuracy of a transferred model, in percent.

    Args:
        val: Accuracy on validation images, at the epoch chosen by them.
        test: Accuracy on test images at that epoch; the test set is used once.
        seconds: Seconds of the transfer.
    """

    val: float
    test: float
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class MethodInfo:
    """Description of a method for display.

    Args:
        label: Name in tables and figures.
        unit_kind: Kind of unit kept or dropped as a whole: ``class``, ``cluster`` or ``sample``.
        uses_surrogate: Whether the method needs a surrogate, whose cost is counted.
        ablates: Values of the varied factors, such as ``{"K": 50}``; empty for a method that is not an ablation.
        sampling: ``once`` for a method that prunes; ``weighted`` for one that draws from the whole source; ``none`` for
            one that uses no image of the source.
    """

    label: str
    unit_kind: str = "class"
    uses_surrogate: bool = True
    ablates: dict[str, str | float] = field(default_factory=dict)
    sampling: str = "once"


@dataclass(frozen=True)
class Group:
    """Cells that differ only in their seed.

    Args:
        target: Name of the downstream set.
        method: Name of the method.
        ratio: Prune ratio p, the share of units removed; 0 for :data:`NONE`.
        match_budget: Quantity held equal to no pruning: epochs or optimiser steps.
        start: :data:`SCRATCH`, or weights that pretraining starts from; :data:`AS_CONFIGURED` if a sweep names none.
    """

    target: str
    method: str
    ratio: float = 0.0
    match_budget: MatchBudget = "epochs"
    start: str = AS_CONFIGURED


@dataclass(frozen=True)
class Cell:
    """One pretraining and its transfers.

    Args:
        target: Name of the downstream set.
        method: Name of the method.
        ratio: Share of units removed.
        match_budget: Quantity held equal to no pruning: epochs or optimiser steps.
        seed: Seed of all random choices.
        units_total: Number of units of the source.
        units_kept: Number of kept units.
        images_total: Number of training images of the whole source.
        images_kept: Number of kept training images.
        surrogate_seconds: Seconds to train the surrogate; 0 without one.
        selection_seconds: Seconds of voting and ranking; 0 without a selection.
        pretraining_seconds: Seconds of pretraining on the kept images.
        source_accuracy: Percent accuracy on held-out source images of the kept classes; None if no labels are learned.
        scores: Scores by transfer mode.
        selection: Path of the Selection in the sweep's folder; None without pruning.
        steps: Number of optimiser steps of the pretraining; None in results of earlier versions.
        diagnostics: Numbers of :class:`~tlprune.selection.diagnostics.Diagnostics` for the kept images by name, and
            with ``random_`` before the name for as many random images; None if they were not computed.
        start: Start of the pretraining, as in :class:`Group`.
    """

    target: str
    method: str
    ratio: float
    match_budget: MatchBudget
    seed: int
    units_total: int
    units_kept: int
    images_total: int
    images_kept: int
    surrogate_seconds: float
    selection_seconds: float
    pretraining_seconds: float
    source_accuracy: float | None
    scores: dict[str, Score]
    selection: str | None = None
    diagnostics: dict[str, float] | None = None
    steps: int | None = None
    start: str = AS_CONFIGURED

    @property
    def group(self) -> Group:
        """Group of the cell: all its coordinates except the seed."""
        return Group(self.target, self.method, self.ratio, self.match_budget, self.start)


class _Index:
    """Cells by their group, and by their group over all targets, each ordered by seed."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = [id(cell) for cell in cells]
        self.of: dict[Group, list[Cell]] = {}
        self.over_targets: dict[Group, list[Cell]] = {}
        for cell in sorted(cells, key=lambda cell: cell.seed):
            self.of.setdefault(cell.group, []).append(cell)
            self.over_targets.setdefault(replace(cell.group, target=""), []).append(cell)


@dataclass
class Results:
    """All cells of a sweep.

    Args:
        name: Name of the sweep.
        source: Name, images, classes and digest of the source.
        targets: Split, classes and numbers of images of each target.
        methods: Compared methods, in display order.
        modes: Transfer modes, in display order; the first one decides.
        recipes: Configurations of surrogates, pretraining and transfers, as JSON values.
        provenance: Versions, machine, command and dates.
        cells: Finished cells.
    """

    name: str
    source: dict[str, Any]
    targets: dict[str, dict[str, Any]]
    methods: dict[str, MethodInfo]
    modes: list[str]
    recipes: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    _index: "_Index | None" = field(default=None, init=False, repr=False, compare=False)

    def save(self, folder: Path) -> Path:
        """Writes :data:`RESULTS` to a folder, atomically, and returns the path of the file."""
        content: dict[str, Any] = {"tlprune": "results", "schema": _SCHEMA} | asdict(replace(self))
        del content["_index"]
        content["methods"] = {name: _renamed(info, _IN_FILES) for name, info in content["methods"].items()}
        content["cells"] = [_renamed(cell, _IN_FILES) for cell in content["cells"]]
        write_bytes(folder / RESULTS, (json.dumps(content, indent=1) + "\n").encode())
        return folder / RESULTS

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """Reads a file written by :meth:`save`.

        Raises:
            InputError: If the file is missing, damaged, or has another layout.
        """
        path = folder / RESULTS
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{path}: damaged, not JSON ({error})") from error
        if not isinstance(content, dict) or content.get("tlprune") != "results":
            raise InputError(f"{path}: not the results of a sweep")
        if content.get("schema") != _SCHEMA:
            raise InputError(f"{path}: written by another tlprune (layout {content.get('schema')}, known {_SCHEMA})")
        try:
            cells = [
                Cell(
                    **_renamed(one, _IN_PYTHON) | {"scores": {mode: Score(**of) for mode, of in one["scores"].items()}}
                )
                for one in content["cells"]
            ]
            methods = {name: MethodInfo(**_renamed(info, _IN_PYTHON)) for name, info in content["methods"].items()}
            rest = {name: content[name] for name in ("name", "source", "targets", "modes", "recipes", "provenance")}
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged ({type(error).__name__}: {error})") from error
        return cls(methods=methods, cells=cells, **rest)

    @property
    def margin(self) -> float:
        """Points of accuracy that a winning subset may lose, from the settings of the sweep."""
        return float(self.provenance.get("margin", _MARGIN))

    @property
    def is_partial(self) -> bool:
        """Whether the sweep has not ended, so that differences are those so far."""
        return is_partial(self.provenance)

    @property
    def starts(self) -> list[str]:
        """Starts that have cells, in the order of the sweep."""
        return list(dict.fromkeys([*self.provenance.get("starts", []), *(cell.start for cell in self.cells)]))

    def by_start(self) -> dict[str, "Results"]:
        """Returns the results of each start by itself, as if it were the only one; methods without cells are left out.

        Comparisons between starts are those of :mod:`tlprune.experiments.starts`.
        """
        if self.starts == [AS_CONFIGURED]:
            return {AS_CONFIGURED: self}
        parts = {}
        for start in self.starts:
            cells = [replace(cell, start=AS_CONFIGURED) for cell in self.cells if cell.start == start]
            there = {cell.method for cell in cells}
            methods = {name: info for name, info in self.methods.items() if name != ALONE or name in there}
            provenance = {name: value for name, value in self.provenance.items() if name != "starts"}
            parts[start] = replace(self, cells=cells, methods=methods, provenance=provenance | {"start": start})
        return parts

    @property
    def compared(self) -> list[str]:
        """Methods in display order, without those of ablations."""
        return [name for name, info in self.methods.items() if not info.ablates]

    def prunes(self, method: str) -> bool:
        """Returns whether a method leaves out a part of the source."""
        return method != NONE and self.methods[method].sampling == "once"

    def groups(self, target: str, method: str | None = None, match_budget: MatchBudget | None = None) -> list[Group]:
        """Returns the groups of a target, ordered by method, length and ratio.

        Args:
            target: Name of the target.
            method: Method to select; None for all.
            match_budget: Length to select; None for both.
        """
        return self._chosen((one for one in self._indexed.of if one.target == target), method, match_budget)

    def groups_over_targets(self, method: str | None = None, match_budget: MatchBudget | None = None) -> list[Group]:
        """Returns the groups over all targets, whose target is empty; arguments and order as in :meth:`groups`."""
        return self._chosen(self._indexed.over_targets, method, match_budget)

    def _chosen(self, groups: Iterable[Group], method: str | None, match_budget: MatchBudget | None) -> list[Group]:
        order = list(self.methods)
        chosen = [one for one in groups if method in (None, one.method) and match_budget in (None, one.match_budget)]
        return sorted(chosen, key=lambda one: (order.index(one.method), one.match_budget, one.ratio))

    def of(self, group: Group) -> list[Cell]:
        """Returns the cells of a group, ordered by seed; of a group with an empty target, those of all targets."""
        return (self._indexed.of if group.target else self._indexed.over_targets).get(group, [])[:]

    def accuracies(self, group: Group, mode: str, part: Literal["val", "test"] = "test") -> list[float]:
        """Returns the accuracies of a group in percent, ordered by seed; empty if this mode was not run."""
        return [getattr(cell.scores[mode], part) for cell in self.of(group) if mode in cell.scores]

    def accuracy(self, group: Group, mode: str, part: Literal["val", "test"] = "test") -> Estimate:
        """Computes the mean accuracy of a group in percent, with its 95 % interval."""
        return estimate(self.accuracies(group, mode, part))

    def difference(
        self, group: Group, other: Group, mode: str, part: Literal["val", "test"] = "test"
    ) -> Estimate | None:
        """Computes the accuracy of one group minus another's, in points, paired by shared seeds; None without any."""
        first, second = (
            {cell.seed: getattr(cell.scores[mode], part) for cell in self.of(one) if mode in cell.scores}
            for one in (group, other)
        )
        both = sorted(first.keys() & second.keys())
        if not both:
            return None
        found = paired_difference([first[seed] for seed in both], [second[seed] for seed in both])
        return replace(found, final=not self.is_partial)

    def pooled(self, group: Group, other: Group, mode: str) -> Pooled | None:
        """Averages the test accuracy of one group minus another's, in points, over all targets and seeds.

        Returns:
            None if no target and seed has both.
        """
        first, second = (
            {
                (cell.target, cell.seed): cell.scores[mode].test
                for cell in self.of(replace(one, target=""))
                if mode in cell.scores
            }
            for one in (group, other)
        )
        both: dict[tuple[Hashable, Hashable], float] = {key: first[key] - second[key] for key in first if key in second}
        return replace(pooled(both), final=not self.is_partial) if both else None

    def equally_large(self, group: Group, other: Group) -> bool:
        """Returns whether two groups, of one target or both of all, trained on as many images for as many steps.

        Means over the shared targets and seeds may differ by 1 %. Of two unequal trainings none can be said to be
        better for what it trained on.

        Args:
            group: Group of cells; with an empty target, those of all targets.
            other: Group to compare with.
        """
        first, second = ({(cell.target, cell.seed): cell for cell in self.of(one)} for one in (group, other))
        both = first.keys() & second.keys()
        for name in ("images_kept", "steps"):
            pairs = [(getattr(first[key], name), getattr(second[key], name)) for key in both]
            known = [(a, b) for a, b in pairs if a is not None and b is not None]
            sums = [sum(side) for side in zip(*known, strict=True)]
            if sums and abs(sums[0] - sums[1]) > _TOLERANCE * max(sums):
                return False
        return True

    @property
    def _indexed(self) -> "_Index":
        """Cells by group, found once for as long as the list holds the same cells."""
        if self._index is None or self._index.cells != [id(cell) for cell in self.cells]:
            self._index = _Index(self.cells)
        return self._index

    def seconds(self, group: Group) -> tuple[float, float, float]:
        """Computes median seconds of surrogate (S), selection (L), and pretraining on the kept images."""
        cells = self.of(group)
        return (
            median(cell.surrogate_seconds for cell in cells),
            median(cell.selection_seconds for cell in cells),
            median(cell.pretraining_seconds for cell in cells),
        )

    def saving(self, group: Group, reused: bool = False) -> float | None:
        """Computes the share of no pruning's time that a group saves, net of S and L; None without that time.

        Args:
            group: Group to evaluate.
            reused: Whether an existing surrogate is reused, as for a second target.
        """
        whole = self.of(Group(group.target, NONE))
        if not whole:
            return None
        surrogate, selection, pretraining = self.seconds(group)
        full = median(cell.pretraining_seconds for cell in whole)
        return 1 - ((0 if reused else surrogate) + selection + pretraining) / full

    def seeds(self, groups: Iterable[Group] | None = None) -> int:
        """Returns the largest number of seeds of any of the groups; of all of them with None."""
        return max((len(self.of(group)) for group in (self._indexed.of if groups is None else groups)), default=0)

    def modes_of(self, target: str) -> list[str]:
        """Returns the transfer modes that a target has, in display order."""
        there = {mode for cell in self.cells if cell.target == target for mode in cell.scores}
        return [mode for mode in self.modes if mode in there]


def _renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in fields.items()}
