import math
from itertools import pairwise

import pytest
import torch

from tlprune.errors import InputError
from tlprune.modules.optim import TriangularLR, WarmupCosineLR


def curve(make, steps, per_epoch):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(optimizer)
    scheduler.plan(steps, per_epoch)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates, optimizer.param_groups[0]["lr"]


def test_cosine_against_its_closed_form():
    rates, end = curve(WarmupCosineLR, 40, 10)
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 40)) for step in range(40)])
    assert end == pytest.approx(0)


def test_warmup_rises_to_the_peak_and_never_again():
    rates, end = curve(lambda optimizer: WarmupCosineLR(optimizer, warmup_epochs=2, final=0.1), 60, 5)
    assert rates[:10] == pytest.approx([0.5 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert end == pytest.approx(0.05)


def test_triangle_against_its_closed_form():
    rates, end = curve(lambda optimizer: TriangularLR(optimizer, peak_epoch=2, start=0.1), 80, 10)
    expected = [0.5 * (0.1 + 0.9 * step / 20) for step in range(20)]
    expected += [0.5 * (80 - step) / 60 for step in range(20, 80)]
    assert rates == pytest.approx(expected)
    assert end == pytest.approx(0)


@pytest.mark.parametrize(
    "make", [lambda o: WarmupCosineLR(o, warmup_epochs=5), lambda o: TriangularLR(o, peak_epoch=5)]
)
def test_run_shorter_than_the_rise_ends_near_the_peak_without_error(make):
    rates, end = curve(make, 3, 10)
    assert all(0 < rate <= 0.5 for rate in rates)
    assert 0 <= end <= 0.5


def test_resume_with_a_longer_plan_follows_it():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupCosineLR(optimizer)
    scheduler.plan(10, 5)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    again = WarmupCosineLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0))
    again.plan(20, 5)
    again.load_state_dict(scheduler.state_dict())
    assert again.last_epoch == 5
    assert again.get_lr() == pytest.approx([0.5 * (1 + math.cos(math.pi * 5 / 20))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: WarmupCosineLR(o, warmup_epochs=-1), "`warmup_epochs` must be at least 0, got -1"),
        (lambda o: WarmupCosineLR(o, final=2), r"`final` must be in \[0, 1\], got 2"),
        (lambda o: TriangularLR(o, peak_epoch=-1), "`peak_epoch` must be at least 0, got -1"),
        (lambda o: TriangularLR(o, start=-1), r"`start` must be in \[0, 1\], got -1"),
    ],
)
def test_out_of_range(make, message):
    with pytest.raises(InputError, match=message):
        make(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0))
