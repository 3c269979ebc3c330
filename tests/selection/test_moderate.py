import numpy as np
import pytest
import torch
from torch import nn

from tlprune.errors import InputError
from tlprune.selection.moderate import Moderate, interleaved_by_class


def slow_moderate(values, labels):
    """How far each image's distance to its class mean is from the class's median distance."""
    cost = np.zeros(len(values))
    for label in set(labels):
        own = np.flatnonzero(labels == label)
        apart = np.linalg.norm(values[own] - values[own].mean(0), axis=1)
        cost[own] = np.abs(apart - np.median(apart))
    return cost


@pytest.mark.parametrize("case", range(30))
def test_equals_numpy_and_takes_the_same_share_of_each_class(case, points, tmp_path):
    rng = np.random.default_rng(case)
    labels = np.sort(np.concatenate([np.arange(3), rng.integers(0, 3, 60)]))
    values = torch.from_numpy(rng.normal(size=(63, 4))).half().double()
    source = points(values.float(), torch.from_numpy(labels), ("a", "b", "c"))
    found = Moderate().select(source, surrogate=nn.Flatten(), cache=tmp_path)
    cost = slow_moderate(values.numpy(), labels)
    np.testing.assert_allclose(-found.scores.numpy(), cost, atol=1e-5)
    kept = found.keep(images=30)
    for label in range(3):
        own = np.flatnonzero(labels == label)
        chosen = [index for index in kept.tolist() if labels[index] == label]
        assert abs(len(chosen) - len(own) * 30 / 63) <= 1
        # what is kept of a class is what is nearest to its median, whatever is typical or odd goes
        assert max(cost[chosen], default=0) <= np.sort(cost[own])[len(chosen) - 1] + 1e-5


def test_classes_by_their_distance_to_the_centre_of_all(points, tmp_path):
    values = torch.tensor([[0.0], [1.0], [3.0], [20.0], [-40.0]])
    source = points(values, torch.arange(5), tuple("abcde"))
    found = Moderate("class").select(source, surrogate=nn.Flatten(), cache=tmp_path)
    apart = (values - values.mean()).abs().squeeze(1)  # 3.2, 4.2, 6.2, 23.2, 36.8: the median is 6.2
    assert apart.median() == pytest.approx(6.2)
    assert found.ranking.tolist() == [2, 1, 0, 3, 4]
    assert found.unit_names == tuple("abcde")


def test_interleaving_by_hand():
    cost = torch.tensor([5.0, 1.0, 2.0, 9.0, 0.5])
    assert interleaved_by_class(cost, torch.tensor([0, 0, 1, 1, 0])).tolist() == [4, 2, 1, 3, 0]


def test_a_source_without_labels_is_refused(points, tmp_path):
    with pytest.raises(InputError, match="Moderate needs a labelled source"):
        Moderate().select(points(torch.zeros(3, 1)), surrogate=nn.Flatten(), cache=tmp_path)
