"""Image sizes that grow during training."""

from dataclasses import dataclass

from tlprune.errors import InputError, require_within

__all__ = ["SizeSchedule"]


@dataclass(frozen=True)
class SizeSchedule:
    """Schedule from small to large images: most steps are cheap, and training ends at full size.

    Args:
        low: Height and width in pixels up to epoch ``begin``.
        high: Height and width in pixels from epoch ``end`` on.
        begin: Epoch, from 0, after which images grow.
        end: Epoch, from 0, from which images have full size.
        multiple: Number of pixels that sizes in between are rounded to a multiple of.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> sizes = SizeSchedule(160, 192, begin=11, end=13)
        >>> [sizes.at(epoch) for epoch in (0, 11, 12, 13, 15)]
        [160, 160, 192, 192, 192]
    """

    low: int
    high: int
    begin: int
    end: int
    multiple: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise InputError(f"`low` must be at least 1 and not above `high`, got {self.low} and {self.high}")
        if not 0 <= self.begin <= self.end:
            raise InputError(f"`begin` must be at least 0 and not after `end`, got {self.begin} and {self.end}")
        require_within("multiple", self.multiple, 1)

    def at(self, epoch: int) -> int:
        """Returns height and width in pixels for an epoch, counted from 0."""
        if epoch >= self.end:
            return self.high
        if epoch <= self.begin:
            return self.low
        share = (epoch - self.begin) / (self.end - self.begin)
        size = round((self.low + share * (self.high - self.low)) / self.multiple) * self.multiple
        return min(max(size, self.low), self.high)
