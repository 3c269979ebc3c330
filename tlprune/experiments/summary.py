"""What results say of one method on one target: whether it beats random pruning, and at what cost."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tlprune.experiments.claims import Claim, Winning, winning
from tlprune.experiments.page.findings import CONTROLS, Verdict, shown_group, units_of, verdict
from tlprune.experiments.results import NONE, Cell, Group, Results
from tlprune.experiments.statistics import Estimate
from tlprune.experiments.wording import percent

__all__ = ["HEADINGS", "LEGEND", "Difference", "Summary"]

HEADINGS = ("method", "pruned", "images", "S", "L", "P", "saved")
"""Columns of :meth:`Summary.rows` before those of the modes of transfer."""

LEGEND = "S, L, P: median seconds of surrogate, selection, pretraining; S and L count."


@dataclass(frozen=True)
class Difference:
    """Test accuracy of the method minus that of something else, paired by seed.

    Args:
        group: The method at a ratio and length.
        against: Name of the other method.
        mode: Of transfer.
        points: In percentage points.
        equal: Whether both trained on as many images for as many steps; True against no pruning.
    """

    group: Group
    against: str
    mode: str
    points: Estimate
    equal: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether the 95 % interval lies to one side of zero, and not for more images or steps."""
        return verdict(self.points, self.equal)


@dataclass(frozen=True)
class Summary:
    """The comparison of one method with its controls.

    Args:
        results: Cells of one target, of one method and of its controls.
    """

    results: Results

    @property
    def target(self) -> str:
        """Name of the target."""
        return next(iter(self.results.targets))

    @property
    def method(self) -> str:
        """Name of the method whose claim is tested."""
        return next(name for name in self.results.compared if name not in CONTROLS)

    @property
    def label(self) -> str:
        """Name of the method for people."""
        return self.results.methods[self.method].label

    def units(self, count: int = 2) -> str:
        """What the method prunes: classes or clusters."""
        return units_of(self.results, self.method, count)

    @property
    def groups(self) -> list[Group]:
        """No pruning, then by ratio the method and its controls, then those of equal steps."""
        by_method = self.results.groups(self.target)
        return sorted(by_method, key=lambda group: (group.match_budget == "steps", group.ratio))

    @property
    def whole(self) -> Group:
        """No pruning."""
        return Group(self.target, NONE)

    @property
    def shown(self) -> Group:
        """What pictures show: the method at its winning ratio by the first mode, else at the middle ratio."""
        group = shown_group(self.results, self.target)
        if group is None:
            raise RuntimeError("no cell has a Selection")
        return group

    def saving(self, group: Group, reused: bool = False) -> float:
        """The share of the time of no pruning that a group saves; 0 for no pruning itself."""
        return self.results.saving(group, reused) or 0.0

    def winning(self, mode: str) -> Winning:
        """The winning subset of the method at equal epochs, with the claim of each ratio."""
        return winning(self.results, self.target, self.method, mode)

    def differences(self) -> Iterator[Difference]:
        """How the method differs from random and from no pruning, for each mode, length and ratio."""
        for mode in self.results.modes:
            for group in self.groups:
                if group.method == self.method:
                    random = Group(self.target, "random", group.ratio, group.match_budget)
                    for other in (random, self.whole):
                        if (points := self.results.difference(group, other, mode)) is not None:
                            equal = other.method == NONE or self.results.equally_large(group, other)
                            yield Difference(group, other.method, mode, points, equal)

    def against_random(self) -> str:
        """What may be concluded about the method and random pruning, in a sentence."""
        verdicts = [difference.verdict for difference in self.differences() if difference.against == "random"]
        better, worse = verdicts.count("better"), verdicts.count("worse")
        if not better and not worse:
            return f"{self.label} does not clearly beat random pruning in any of {len(verdicts)} comparisons here."
        return (
            f"Of {len(verdicts)} comparisons, {self.label} clearly beats random pruning in {better}, "
            f"is clearly worse in {worse}."
        )

    def rows(self, sign: str = " ± ") -> list[list[str]]:
        """Cells of a table, a row for each group: :data:`HEADINGS`, then accuracies; ``=`` marks equal steps."""
        rows = []
        for group in self.groups:
            method = self.results.methods[group.method]
            label = method.label + (" =" if group.match_budget == "steps" else "")
            surrogate, selection, pretraining = map(_seconds, self.results.seconds(group))
            paid = [surrogate, selection] if group.method != NONE and method.uses_surrogate else ["-", "-"]
            saved = "-" if group.method == NONE else f"{self.saving(group):.0%}"
            images = f"{self.results.of(group)[0].images_kept:,}"
            row = [label, f"{group.ratio:.0%}", images, *paid, pretraining, saved]
            rows.append(row + [percent(self.results.accuracy(group, mode), sign) for mode in self.results.modes])
        return rows

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; docs/report.md documents the fields."""
        recipes, provenance = self.results.recipes, self.results.provenance
        return {
            "target": self.target,
            "method": self.method,
            "split": self.results.targets[self.target]["split"],
            "seconds": provenance.get("seconds"),
            "reused": provenance.get("reused", 0),
            "winning_ratio": {mode: self.winning(mode).ratio for mode in self.results.modes},
            "margin": self.results.margin,
            "claims": {mode: [_claim(one) for one in self.winning(mode).claims] for mode in self.results.modes},
            "against_random": self.against_random(),
            "differences": [
                {
                    "ratio": one.group.ratio,
                    "equal": one.group.match_budget,
                    "mode": one.mode,
                    "against": one.against,
                    "points": one.points.mean,
                    "interval_95": _interval(one.points),
                    "verdict": one.verdict,
                }
                for one in self.differences()
            ],
            "arms": [self._arm(group) for group in self.groups],
            "runs": [_run(cell) for group in self.groups for cell in self.results.of(group)],
            "recipes": {
                "surrogate": recipes["surrogate"],
                "source": recipes["pretrain"],
                **recipes["transfers"],
            },
        }

    def _arm(self, group: Group) -> dict[str, Any]:
        surrogate, selection, pretraining = self.results.seconds(group)
        first = self.results.of(group)[0]
        arm = {
            **_group(group),
            "units_kept": first.units_kept,
            "images_kept": first.images_kept,
            "steps": first.steps,
            "surrogate_seconds": surrogate,
            "selection_seconds": selection,
            "pretraining_seconds": pretraining,
            "saving": self.saving(group),
            "saving_surrogate_reused": self.saving(group, reused=True),
        }
        for mode in self.results.modes:
            found = self.results.accuracy(group, mode)
            arm[mode] = {"test_accuracy": found.mean, "interval_95": _interval(found), "seeds": found.count}
            arm[mode]["val_accuracy"] = self.results.accuracy(group, mode, "val").mean
        return arm


def _group(group: Group) -> dict[str, Any]:
    return {"method": group.method, "ratio": group.ratio, "equal": group.match_budget}


def _run(cell: Cell) -> dict[str, Any]:
    names = ("seed", "units_kept", "images_kept", "surrogate_seconds", "selection_seconds", "pretraining_seconds")
    scores = {mode: asdict(score) for mode, score in cell.scores.items()}
    run = {"arm": _group(cell.group), **{name: getattr(cell, name) for name in names}}
    return run | {"source_accuracy": cell.source_accuracy, "scores": scores}


def _claim(claim: Claim) -> dict[str, Any]:
    known = asdict(claim)
    del known["targets"]  # the summary has one
    ends = [known.pop("low"), known.pop("high")]
    return known | {"interval_95": None if math.isnan(ends[0]) else ends}


def _interval(found: Estimate) -> list[float] | None:
    return None if found.count == 1 else [found.low, found.high]


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"
