"""Means over seeds, with what can be said of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "estimate", "paired_difference"]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Args:
        mean: Of the values.
        half_width: Half the interval's width; NaN for a single value.
        count: How many values.
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
    """Mean and 95 % interval of independent values, by Student's t.

    Args:
        values: At least one.

    Returns:
        The estimate; with a single value there is no interval.

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
    """``first - second``, run by run: what both have in common cancels.

    Args:
        first: Values, in the order of the seeds.
        second: Values of the same seeds.
    """
    return estimate([a - b for a, b in zip(first, second, strict=True)])
