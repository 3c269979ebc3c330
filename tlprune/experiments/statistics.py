"""Means over seeds with confidence intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "estimate", "paired_difference"]


@dataclass(frozen=True)
class Estimate:
    """Mean with its 95 % interval.

    Args:
        mean: Mean of the values.
        half_width: Half the width of the interval; NaN for a single value.
        count: Number of values.
    """

    mean: float
    half_width: float
    count: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Computes the mean and 95 % interval of independent values, by Student's t.

    Args:
        values: Values, at least one.

    Returns:
        Estimate; a single value has no interval.

    Example:
        >>> found = estimate([90.0, 92.0, 91.0])
        >>> round(found.mean, 2), round(found.half_width, 2)
        (91.0, 2.48)
    """
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, math.nan, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Estimate(mean, float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count), count)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimates ``first - second`` run by run, so that effects shared by both runs cancel.

    Args:
        first: Values, ordered by seed.
        second: Values of the same seeds.
    """
    return estimate([a - b for a, b in zip(first, second, strict=True)])
