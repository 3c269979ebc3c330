import pytest
import torch

from tlprune.data.splits import stratified_holdout
from tlprune.errors import InputError


@pytest.mark.parametrize("count", [0, 1, 7, 30, 56])
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


def reference(labels, count):
    """Held out of each class, by largest remainder alone."""
    sizes = [labels.count(label) for label in range(max(labels) + 1)]
    shares = [size * count / len(labels) for size in sizes]
    take = [int(share) for share in shares]
    order = sorted(range(len(sizes)), key=lambda label: (take[label] - shares[label], label))
    for label in order[: count - sum(take)]:
        take[label] += 1
    return take


@pytest.mark.parametrize(("sizes", "count"), [([30, 20, 10], 6), ([5, 5, 5], 3), ([2, 2, 50], 5), ([7, 1, 40], 4)])
def test_shares_are_those_of_the_largest_remainder_where_each_class_keeps_a_sample(sizes, count):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    _, held = stratified_holdout(torch.tensor(labels), count, seed=3)
    assert torch.tensor(labels)[held].bincount(minlength=len(sizes)).tolist() == reference(labels, count)


@pytest.mark.parametrize(
    ("sizes", "count", "held_out"),
    [
        ([1] * 2 + [10] * 18, 18, [0, 0] + [1] * 18),
        ([1] * 10 + [2] * 5, 4, [0] * 10 + [1, 1, 1, 1, 0]),
        ([1] * 10 + [3], 2, [0] * 10 + [2]),
        ([2, 2, 2], 3, [1, 1, 1]),
        ([1, 5, 0, 4], 5, [0, 3, 0, 2]),
        ([3, 3], 4, [2, 2]),
        ([3, 9, 2], 11, [2, 8, 1]),
    ],
)
def test_every_class_keeps_a_sample_and_the_count_is_exact(sizes, count, held_out):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    for seed in range(3):
        stay, held = stratified_holdout(labels, count, seed)
        assert labels[held].bincount(minlength=len(sizes)).tolist() == held_out
        assert sorted([*stay.tolist(), *held.tolist()]) == list(range(len(labels)))
        assert torch.equal(stratified_holdout(labels, count, seed)[1], held)


@pytest.mark.parametrize(("sizes", "count", "most"), [([1] * 20, 2, 0), ([2, 1, 1], 3, 1), ([4], 4, 3), ([3, 3], 6, 4)])
def test_fewer_are_held_out_with_a_warning_where_each_class_is_down_to_one(sizes, count, most):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    with pytest.warns(UserWarning, match=f"{most} samples are held out, not {count}: each of {len(sizes)} classes"):
        stay, held = stratified_holdout(labels, count, 0)
    assert len(held) == most
    assert (labels[stay].bincount() >= 1).all()


def test_no_samples():
    assert [len(part) for part in stratified_holdout(torch.zeros(0, dtype=torch.int64), 0, 0)] == [0, 0]
