import pytest
import torch

from tlprune.data.splits import stratified_holdout
from tlprune.errors import InputError


@pytest.mark.parametrize("count", [0, 1, 7, 30, 60])
def test_exact_count_in_proportion(count):
    labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)[
        torch.randperm(60, generator=torch.Generator().manual_seed(0))
    ]
    stay, held = stratified_holdout(labels, count, seed=0)
    assert len(held) == count
    assert sorted([*stay.tolist(), *held.tolist()]) == list(range(60))
    for label, size in enumerate((30, 20, 10)):
        assert abs(int((labels[held] == label).sum()) - count * size / 60) < 1


def test_seed_decides():
    labels = torch.arange(5).repeat(20)
    assert torch.equal(stratified_holdout(labels, 10, 1)[1], stratified_holdout(labels, 10, 1)[1])
    assert not torch.equal(stratified_holdout(labels, 10, 1)[1], stratified_holdout(labels, 10, 2)[1])


@pytest.mark.parametrize("count", [-1, 4])
def test_out_of_range(count):
    with pytest.raises(InputError, match=f"cannot hold out {count} of 3 samples"):
        stratified_holdout(torch.zeros(3, dtype=torch.int64), count, 0)
