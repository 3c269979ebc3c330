"""From votes to kept units: a total order, a budget, and the samples of the kept units."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple, Protocol
from warnings import warn

import torch
from torch import Tensor

from tlprune.errors import InputError

__all__ = [
    "ArgumentBudget",
    "Budget",
    "Kept",
    "Ranked",
    "coverage",
    "kept",
    "kept_samples",
    "rank_units",
    "require_training_images",
    "warn_beyond_votes",
]


def rank_units(votes: Tensor, scores: Tensor) -> Tensor:
    """Ranks all units, best first: by votes, then by score, then by unit id.

    A small target leaves most units without votes, so ranking by votes alone would break many ties arbitrarily.

    Args:
        votes: Tensor ``[U]``; higher is better.
        scores: Tensor ``[U]``; higher is better.

    Returns:
        Int64 tensor ``[U]``, a permutation of the units.

    Example:
        >>> rank_units(torch.tensor([0.0, 3.0, 0.0, 0.0]), torch.tensor([0.1, 0.9, 0.7, 0.1])).tolist()
        [1, 2, 0, 3]
    """
    by_score = scores.sort(descending=True, stable=True).indices
    by_votes = votes[by_score].sort(descending=True, stable=True).indices
    return by_score[by_votes]


def coverage(votes: Tensor, ranking: Tensor) -> Tensor:
    """Computes the share of votes of the best ``k`` units, for every ``k``.

    Args:
        votes: Tensor ``[U]`` of votes.
        ranking: Int64 tensor ``[U]``, best unit first.

    Returns:
        Float64 tensor ``[U]``; entry ``k - 1`` belongs to the best ``k`` units. All zeros without votes.
    """
    total = votes.double().sum()
    return votes[ranking].double().cumsum(0) / total.clamp(min=torch.finfo(torch.float64).tiny)


_OPTIONS = {
    "ratio": "prune_ratio",
    "units": "keep_units",
    "images": "keep_images",
    "coverage": "vote_coverage",
    "exactly": "keep_exactly",
}
"""Command line option of each field of a budget."""


@dataclass(frozen=True)
class Budget:
    """Amount of the source to keep. Exactly one field must be given.

    Args:
        ratio: Prune ratio p in [0, 1), the share of units to remove. Rounded down to whole units; at least one unit is
            kept.
        units: Number of units to keep, at least 1.
        images: Maximum number of images to keep; the best units within this limit are kept.
        coverage: Share of votes in (0, 1] to keep; the fewest best units that reach it are kept.
        exactly: Number of images to keep. The last unit is cut at random where it has more images than are left.

    Raises:
        InputError: If no field or several fields are given, or a value is out of range.

    Example:
        >>> sizes, covered = torch.tensor([5, 5, 5, 5]), torch.tensor([0.6, 0.9, 1.0, 1.0])
        >>> Budget(ratio=0.7).units_kept(sizes, covered)
        2
        >>> Budget(images=12).units_kept(sizes, covered)
        2
        >>> Budget(coverage=0.95).units_kept(sizes, covered)
        3
    """

    ratio: float | None = None
    units: int | None = None
    images: int | None = None
    coverage: float | None = None
    exactly: int | None = None

    def __post_init__(self) -> None:
        given = self._by_name
        named = {name: value for name, value in given.items() if value is not None}
        if len(named) != 1:
            got = " and ".join(f"`{name}`" for name in named) or "none"
            raise InputError(f"give exactly one of {', '.join(f'`{name}`' for name in given)}; got {got}")
        counts = {self.name(argument) for argument in ("units", "images", "exactly")}
        for name, value in named.items():
            whole = name in counts
            if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
                raise InputError(f"`{name}` must be a {'whole ' if whole else ''}number, got {value!r}")
            if whole and int(value) < 1:
                raise InputError(f"`{name}` must be at least 1, got {value}")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise InputError(f"`{self.name('ratio')}` must be in [0, 1), got {self.ratio}")
        if self.coverage is not None and not 0 < self.coverage <= 1:
            raise InputError(f"`{self.name('coverage')}` must be in (0, 1], got {self.coverage}")

    def __str__(self) -> str:
        """Returns the budget as the user gave it, such as "`keep_units` 5"."""
        return next(f"`{name}` {value}" for name, value in self._by_name.items() if value is not None)

    def name(self, argument: str) -> str:
        """Returns the name of a field in error messages: that of its command line option."""
        return _OPTIONS[argument]

    @property
    def _by_name(self) -> dict[str, float | None]:
        return {self.name(argument): getattr(self, argument) for argument in _OPTIONS}

    def units_kept(self, sizes_in_order: Tensor, covered: Tensor) -> int:
        """Returns the number of best units that this budget keeps.

        Args:
            sizes_in_order: Int64 tensor ``[U]``, number of images of each unit, best unit first.
            covered: Float64 tensor ``[U]``; entry ``k - 1`` is the share of votes of the best ``k`` units. All zeros
                without votes.

        Returns:
            Number of units, in [1, U].

        Raises:
            InputError: If the budget exceeds the number of units or of images, allows fewer images than the best unit
                has, or is a share of votes and there are no votes.
        """
        total = len(sizes_in_order)
        if self.ratio is not None:
            # The small term absorbs rounding errors such as 0.29 * 100 = 28.999999999999996
            return total - min(math.floor(self.ratio * total + 1e-9), total - 1)
        if self.units is not None:
            if self.units > total:
                raise InputError(f"`{self.name('units')}` is {self.units}, the source has {total} units")
            return self.units
        if self.coverage is not None:
            if not covered[-1] > 0:
                needs = f"`{self.name('coverage')}` needs votes, and this order was made without any"
                raise InputError(f"{needs}; use `{self.name('ratio')}`")
            return min(int((covered < self.coverage - 1e-9).sum()) + 1, total)
        if self.exactly is not None:
            if self.exactly > (have := int(sizes_in_order.sum())):
                raise InputError(f"`{self.name('exactly')}` is {self.exactly}, the source has {have} images")
            return int((sizes_in_order.cumsum(0) < self.exactly).sum()) + 1
        images = min(int(self.images or 0), int(sizes_in_order.sum()))
        within = int((sizes_in_order.cumsum(0) <= images).sum())
        if within == 0:
            best = f"the best unit alone has {int(sizes_in_order[0])} images"
            raise InputError(f"`{self.name('images')}` is {self.images}, {best}")
        return within


class ArgumentBudget(Budget):
    """A budget that was given as arguments of a Python function; errors name these.

    Example:
        >>> Budget(ratio=0.7).name("units"), ArgumentBudget(ratio=0.7).name("units")
        ('keep_units', 'units')
    """

    def name(self, argument: str) -> str:
        """Returns the name of the field."""
        return argument


class Ranked(Protocol):
    """Protocol of a total order of units.

    Attributes:
        ranking: Int64 tensor ``[U]``, best unit first.
        unit_sizes: Int64 tensor ``[U]``, number of samples of each unit.
        unit_of_sample: Integer tensor ``[N]``, the unit of each sample; empty where only class names are known.
        covered: Float64 tensor ``[U]``; entry ``k - 1`` is the share of votes of the best ``k`` units.
    """

    @property
    def ranking(self) -> Tensor: ...  # noqa: D102

    @property
    def unit_sizes(self) -> Tensor: ...  # noqa: D102

    @property
    def unit_of_sample(self) -> Tensor: ...  # noqa: D102

    @property
    def covered(self) -> Tensor: ...  # noqa: D102


class Kept(NamedTuple):
    """Units and samples kept by a budget.

    Args:
        units: Int64 tensor ``[k]``, best unit first.
        samples: Int64 tensor ``[n]`` of the samples of these units, ascending (dataset order). An exact number of
            images leaves some of the last unit's out.
    """

    units: Tensor
    samples: Tensor


def kept(order: Ranked, budget: Budget) -> Kept:
    """Returns the best units within a budget, and their samples.

    All code that turns a budget into kept indices goes through this function.

    Args:
        order: Selection, or any other object that ranks units.
        budget: Amount to keep.

    Raises:
        InputError: See :meth:`Budget.units_kept`; or a budget of images where only class names are known.

    Example:
        >>> from types import SimpleNamespace
        >>> order = SimpleNamespace(ranking=torch.tensor([2, 1, 0]), unit_of_sample=torch.tensor([0, 1, 2, 1]))
        >>> order.unit_sizes, order.covered = torch.tensor([1, 2, 1]), torch.ones(3)
        >>> kept(order, Budget(units=2)).samples.tolist()
        [1, 2, 3]
    """
    if len(order.unit_of_sample) == 0 and (budget.images, budget.exactly) != (None, None):
        other = "give `{}`, `{}` or `{}`".format(*map(budget.name, ("units", "ratio", "coverage")))
        raise InputError(f"{budget} needs the number of images of each class, and only class names are known; {other}")
    units = order.ranking[: budget.units_kept(order.unit_sizes[order.ranking], order.covered)]
    samples = kept_samples(order.unit_of_sample, units, len(order.ranking))
    over = 0 if budget.exactly is None else len(samples) - budget.exactly
    return Kept(units, _without(samples, order.unit_of_sample[samples] == units[-1], over) if over else samples)


def _without(samples: Tensor, of_last_unit: Tensor, count: int) -> Tensor:
    """Removes ``count`` samples of the last unit. They are drawn by a fixed seed, so every caller removes the same."""
    last = of_last_unit.nonzero().squeeze(1)
    drawn = torch.randperm(len(last), generator=torch.Generator().manual_seed(0))[:count]
    return samples[torch.ones(len(samples), dtype=torch.bool).index_fill_(0, last[drawn], False)]


def kept_samples(unit_of_sample: Tensor, kept_units: Tensor, num_units: int) -> Tensor:
    """Returns the samples of the kept units, in dataset order.

    Args:
        unit_of_sample: Integer tensor ``[N]``, the unit of each source sample.
        kept_units: Int64 tensor ``[k]`` of units.
        num_units: Number of units, ``U``.

    Returns:
        Int64 tensor of sample indices, ascending.
    """
    is_kept = torch.zeros(num_units, dtype=torch.bool).index_fill_(0, kept_units, True)
    return is_kept[unit_of_sample.long()].nonzero().squeeze(1)


def require_training_images(budget: Budget | None, units: int, images: int, training: int) -> None:
    """Rejects a kept set without training images, because training on it would silently take no step.

    Args:
        budget: Amount kept; None for the whole source.
        units: Number of kept units.
        images: Number of images in these units.
        training: Number of these images that are not held out.

    Raises:
        InputError: If ``training`` is 0.
    """
    if training == 0:
        kept = "of the whole source" if budget is None else f"within {budget}: units kept: {units}"
        raise InputError(f"no image is left to train on {kept}, their images: {images}, of these held out: {images}")


def warn_beyond_votes(votes: Tensor, kept_units: int) -> None:
    """Warns if more units are kept than have votes.

    Args:
        votes: Tensor ``[U]``, the votes of each unit.
        kept_units: Number of kept units.
    """
    voted = int((votes > 0).sum())
    if 0 < voted < kept_units < len(votes):
        warn(
            f"{kept_units} units are kept, but only {voted} have votes; the rest are ordered by score alone",
            stacklevel=3,
        )
