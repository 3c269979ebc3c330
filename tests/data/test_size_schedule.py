import numpy as np
import pytest

from tlprune.data.size_schedule import SizeSchedule
from tlprune.errors import InputError


@pytest.mark.parametrize(
    ("low", "high", "begin", "end"), [(160, 192, 11, 13), (96, 224, 2, 14), (128, 128, 0, 0), (96, 160, 5, 5)]
)
def test_against_linear_interpolation(low, high, begin, end):
    sizes = SizeSchedule(low, high, begin, end)
    for epoch in range(20):
        between = np.interp(epoch, [begin, end], [low, high]) if begin < end else (low if epoch < end else high)
        assert sizes.at(epoch) == int(np.round(between / 32)) * 32
    assert [sizes.at(epoch) for epoch in range(begin)] == [low] * begin
    assert sizes.at(end) == high


def test_sizes_that_are_no_multiple_stay_within_their_bounds():
    sizes = SizeSchedule(100, 110, 0, 10, multiple=32)
    assert {sizes.at(epoch) for epoch in range(12)} == {100, 110}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((192, 160, 1, 2), "`low` must be at least 1 and not above `high`, got 192 and 160"),
        ((0, 160, 1, 2), "`low` must be at least 1"),
        ((160, 192, 3, 2), "`begin` must be at least 0 and not after `end`, got 3 and 2"),
        ((160, 192, 1, 2, 0), "`multiple` must be at least 1, got 0"),
    ],
)
def test_out_of_range(arguments, message):
    with pytest.raises(InputError, match=message):
        SizeSchedule(*arguments)
