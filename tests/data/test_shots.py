import numpy as np
import pytest
import torch

from tlprune.data.shots import few_of_each_class, read_shots
from tlprune.errors import InputError


def slow_draw(labels, shots, seed):
    """Images one by one in an order that the seed draws; each is taken unless its class has enough."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).numpy()
    count = np.zeros(max(labels, default=0) + 1, dtype=int)
    taken = []
    for index in order:
        if count[labels[index]] < shots:
            count[labels[index]] += 1
            taken.append(int(index))
    return sorted(taken)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shots", [1, 3, 50])
def test_it_draws_as_a_loop_over_images_does(shots, seed):
    labels = np.random.default_rng(seed).integers(0, 7, 60)
    labels[labels == 3] = 2  # a class without images
    assert few_of_each_class(torch.tensor(labels), shots, seed).tolist() == slow_draw(labels, shots, seed)


def test_a_class_with_fewer_images_gives_all_of_them():
    labels = torch.tensor([0, 1, 1, 0, 2, 1, 0, 2, 0, 1])
    assert labels[few_of_each_class(labels, 3, 0)].bincount().tolist() == [3, 3, 2]
    assert few_of_each_class(labels, 9, 0).tolist() == list(range(10))
    assert few_of_each_class(labels[:0], 9, 0).tolist() == []


def test_more_shots_add_images_and_the_seed_draws_others():
    labels = torch.arange(40) % 4
    few, more = few_of_each_class(labels, 2, 0), few_of_each_class(labels, 5, 0)
    assert set(few.tolist()) < set(more.tolist())
    assert few_of_each_class(labels, 2, 1).tolist() != few.tolist()


def test_shots_are_a_number_or_all():
    assert (read_shots(1), read_shots(20), read_shots("all")) == (1, 20, None)


@pytest.mark.parametrize("shots", [0, -1])
def test_too_few_are_refused(shots):
    with pytest.raises(InputError, match=f"`shots` must be at least 1, got {shots}"):
        read_shots(shots)


@pytest.mark.parametrize("shots", ["al", "All", "5", 2.0, True, None, [5]])
def test_what_is_neither_is_refused(shots):
    with pytest.raises(InputError, match=r"`shots` must be a whole number or 'all', got "):
        read_shots(shots)
