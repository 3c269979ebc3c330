import pytest

from tlprune.errors import InputError
from tlprune.models.cost import training_seconds_per_image


def test_a_wider_network_costs_more():
    # sixteen times the arithmetic; the least of three, because a busy machine stretches any one
    narrow, wide = (
        min(training_seconds_per_image(f"resnet8_w{width}", 32, 64, 10) for _ in range(3)) for width in (8, 32)
    )
    assert 0 < narrow < wide


def test_unknown_networks_are_refused():
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        training_seconds_per_image("resnet81", 32, 8, 10)
