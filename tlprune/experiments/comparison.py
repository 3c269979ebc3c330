"""Runs of several methods, ratios and seeds, and what may be concluded from them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from tlprune.experiments.methods import METHOD_LABELS
from tlprune.experiments.results import Score
from tlprune.experiments.statistics import Estimate, estimate, paired_difference
from tlprune.experiments.trial import Neighbours, Pretraining, Transfer

__all__ = ["Arm", "Comparison", "Difference", "Method", "Run"]

Method = Literal["none", "label_mapping", "feature_mapping", "random", "reverse"]
Mode = Literal["probe", "finetune"]


@dataclass(frozen=True)
class Arm:
    """One way to pretrain.

    Args:
        method: How classes are chosen.
        ratio: Prune ratio p: share of classes removed.
        equal: Whether it trains for as many epochs as no pruning does, or for as many steps.
    """

    method: Method
    ratio: float
    equal: Literal["epochs", "steps"] = "epochs"

    @property
    def key(self) -> str:
        """A name for files."""
        return f"{self.method}-{self.ratio:g}-{self.equal}"

    @property
    def label(self) -> str:
        """A name for people."""
        if self.method == "none":
            return METHOD_LABELS["none"]
        steps = ", equal steps" if self.equal == "steps" else ""
        return f"{METHOD_LABELS[self.method]}, {self.ratio:.0%} pruned{steps}"

    @property
    def votes(self) -> bool:
        """Whether it needs a surrogate and a vote, and so has to pay for them."""
        return self.method in ("label_mapping", "feature_mapping", "reverse")


@dataclass
class Run:
    """One arm with one seed.

    Args:
        arm: What was run.
        seed: Decides everything that chance decides.
        units_kept: Source classes.
        images_kept: Source training images.
        pretraining_seconds: Time to pretrain.
        source_accuracy: On held-out source images of the kept classes, in percent; None where no labels are learned.
        scores: By mode of transfer.
        surrogate_seconds: Time to train the surrogate; 0 where none is needed.
        selection_seconds: Time to vote and rank; 0 where nobody votes.
    """

    arm: Arm
    seed: int
    units_kept: int
    images_kept: int
    pretraining_seconds: float
    source_accuracy: float | None
    scores: dict[str, Score]
    surrogate_seconds: float = 0.0
    selection_seconds: float = 0.0

    @property
    def total_seconds(self) -> float:
        """Surrogate, selection and pretraining together."""
        return self.surrogate_seconds + self.selection_seconds + self.pretraining_seconds


@dataclass(frozen=True)
class Difference:
    """How one arm differs from another.

    Args:
        arm: What is looked at.
        other: What it is held against.
        mode: Of transfer.
        points: Test accuracy of ``arm`` minus that of ``other``, in percentage points, paired by seed.
    """

    arm: Arm
    other: Arm
    mode: str
    points: Estimate

    @property
    def verdict(self) -> Literal["better", "worse", "unclear"]:
        """Whether the 95 % interval lies to one side of zero; one seed alone is never clear."""
        if self.points.low > 0:
            return "better"
        return "worse" if self.points.high < 0 else "unclear"


@dataclass
class Comparison:
    """All runs of a comparison.

    Args:
        target: Name of the downstream set.
        split: Where its split comes from.
        source: How source models were trained.
        surrogate: How surrogates were trained.
        transfers: How source models were fitted to the target, or judged on it.
        runs: Each arm with each seed.
        seconds: Time that the whole took.
        reused: Runs of an earlier command, which are not in that time.
    """

    target: str
    split: str
    source: Pretraining
    surrogate: Pretraining
    transfers: Sequence[Transfer | Neighbours]
    runs: list[Run] = field(default_factory=list)
    seconds: float = 0.0
    reused: int = 0

    @property
    def method(self) -> Method:
        """Whose claim is tried: Label Mapping or Feature Mapping."""
        return "feature_mapping" if any(arm.method == "feature_mapping" for arm in self.arms) else "label_mapping"

    @property
    def label(self) -> str:
        """The method's name for people."""
        return METHOD_LABELS[self.method]

    @property
    def units(self) -> str:
        """What is pruned, in the plural."""
        return "clusters" if self.method == "feature_mapping" else "classes"

    @property
    def arms(self) -> list[Arm]:
        """Arms in the order in which they were first run."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    @property
    def modes(self) -> list[str]:
        """Modes of transfer."""
        return [recipe.mode for recipe in self.transfers]

    @property
    def ratios(self) -> list[float]:
        """Prune ratios, ascending, without 0."""
        return sorted({arm.ratio for arm in self.arms if arm.method != "none"})

    def of(self, arm: Arm) -> list[Run]:
        """Runs of an arm, in the order of their seeds."""
        return sorted((run for run in self.runs if run.arm == arm), key=lambda run: run.seed)

    def accuracies(self, arm: Arm, mode: str, part: Literal["val", "test"] = "test") -> list[float]:
        """Accuracies of an arm in percent, in the order of the seeds."""
        return [getattr(run.scores[mode], part) for run in self.of(arm)]

    def accuracy(self, arm: Arm, mode: str) -> Estimate:
        """Mean test accuracy of an arm in percent, with its 95 % interval."""
        return estimate(self.accuracies(arm, mode))

    def seconds_of(self, arm: Arm) -> tuple[float, float, float]:
        """Median seconds of surrogate, selection and pretraining."""
        runs = self.of(arm)
        return (
            median(run.surrogate_seconds for run in runs),
            median(run.selection_seconds for run in runs),
            median(run.pretraining_seconds for run in runs),
        )

    def saving(self, arm: Arm, reused: bool = False) -> float:
        """Share of the time of no pruning that an arm saves, selection paid; below 0 it costs more.

        Args:
            arm: What was run.
            reused: Whether the surrogate is there already, as for a second target, or has to be paid too.
        """
        surrogate, selection, pretraining = self.seconds_of(arm)
        paid = selection + pretraining + (0 if reused else surrogate)
        return 1 - paid / self.seconds_of(Arm("none", 0.0))[2]

    def winning_ratio(self, mode: str) -> float | None:
        """The largest ratio at which it is not below no pruning, by mean *validation* accuracy at equal epochs.

        Returns:
            The ratio; None if there is none.
        """
        bar = estimate(self.accuracies(Arm("none", 0.0), mode, "val")).mean
        arms = [arm for arm in self.arms if arm.method == self.method and arm.equal == "epochs"]
        winners = [arm.ratio for arm in arms if estimate(self.accuracies(arm, mode, "val")).mean >= bar]
        return max(winners, default=None)

    @property
    def shown_arm(self) -> Arm:
        """The arm that pictures show: the method at the winning ratio by probe, else at the middle ratio."""
        ratio = self.winning_ratio(self.modes[0])
        return Arm(self.method, self.ratios[len(self.ratios) // 2] if ratio is None else ratio)

    def differences(self) -> list[Difference]:
        """How it differs from random and from no pruning, for each ratio, length and mode, paired by seed."""
        return [
            Difference(arm, other, mode, paired_difference(self.accuracies(arm, mode), self.accuracies(other, mode)))
            for mode in self.modes
            for arm in self.arms
            if arm.method == self.method
            for other in (Arm("random", arm.ratio, arm.equal), Arm("none", 0.0))
            if other in self.arms
        ]

    def against_random(self) -> str:
        """What may be concluded about the method and random pruning, in a sentence."""
        found = [difference.verdict for difference in self.differences() if difference.other.method == "random"]
        better, worse = found.count("better"), found.count("worse")
        if not better and not worse:
            return f"{self.label} does not clearly beat random pruning in any of {len(found)} comparisons here."
        return (
            f"Of {len(found)} comparisons, {self.label} clearly beats random pruning in {better}, "
            f"is clearly worse in {worse}."
        )

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; docs/demo.md documents the fields."""
        rows = []
        for arm in self.arms:
            surrogate, selection, pretraining = self.seconds_of(arm)
            first = self.of(arm)[0]
            row = {
                **asdict(arm),
                "units_kept": first.units_kept,
                "images_kept": first.images_kept,
                "surrogate_seconds": surrogate,
                "selection_seconds": selection,
                "pretraining_seconds": pretraining,
                "saving": self.saving(arm),
                "saving_surrogate_reused": self.saving(arm, reused=True),
            }
            for mode in self.modes:
                found = self.accuracy(arm, mode)
                row[mode] = {"test_accuracy": found.mean, "interval_95": _interval(found), "seeds": found.count}
                row[mode]["val_accuracy"] = estimate(self.accuracies(arm, mode, "val")).mean
            rows.append(row)
        return {
            "target": self.target,
            "method": self.method,
            "split": self.split,
            "seconds": self.seconds,
            "reused": self.reused,
            "winning_ratio": {mode: self.winning_ratio(mode) for mode in self.modes},
            "against_random": self.against_random(),
            "differences": [
                {
                    "ratio": one.arm.ratio,
                    "equal": one.arm.equal,
                    "mode": one.mode,
                    "against": one.other.method,
                    "points": one.points.mean,
                    "interval_95": _interval(one.points),
                    "verdict": one.verdict,
                }
                for one in self.differences()
            ],
            "arms": rows,
            "runs": [asdict(run) for run in self.runs],
            "recipes": {
                "surrogate": asdict(self.surrogate),
                "source": asdict(self.source),
                **{recipe.mode: asdict(recipe) for recipe in self.transfers},
            },
        }


def _interval(found: Estimate) -> list[float] | None:
    return None if found.count == 1 else [found.low, found.high]
