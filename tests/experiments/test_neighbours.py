from dataclasses import replace

import pytest
import torch

from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.experiments.neighbours import Neighbours
from tlprune.models.weights import load_backbone


def slow_accuracy(weights, target, part, neighbours):
    """Each image by itself: cosine similarities, the nearest by sorting, votes added up by class."""
    backbone, view = load_backbone(weights).eval(), EvalTransform(target.image_size)

    def features(images):
        with torch.no_grad():
            seen = TransformedDataset(images, view)
            return torch.stack([backbone(seen[index][0][None])[0].half().float() for index in range(len(seen))])

    bank, queries, right = features(target.train), features(part), 0
    for query, label in zip(queries, part.labels.tolist(), strict=True):
        similarity = torch.cosine_similarity(bank, query[None])
        nearest = similarity.argsort(descending=True)[: neighbours.num_neighbours]
        votes = torch.zeros(len(target.classes), dtype=torch.float64)
        for index in nearest.tolist():
            votes[target.train.labels[index]] += torch.exp(similarity[index].double() / neighbours.temperature)
        right += int(votes.argmax()) == label
    return 100 * right / len(part)


@pytest.mark.parametrize("neighbours", [Neighbours(3), Neighbours(1, 1.0), Neighbours()], ids=str)
def test_it_scores_as_the_slow_way_does(neighbours, target, surrogate_file):
    weights = surrogate_file(6)
    score = neighbours.score(weights, target)
    assert score.val == pytest.approx(slow_accuracy(weights, target, target.val, neighbours))
    assert score.test == pytest.approx(slow_accuracy(weights, target, target.test, neighbours))
    assert score.seconds > 0


def test_it_is_the_same_each_time(target, surrogate_file):
    weights = surrogate_file(6)
    assert Neighbours().score(weights, target) == Neighbours().score(weights, target)


def test_a_target_without_test_images_is_refused(target, surrogate_file):
    with pytest.raises(InputError, match="colours: no test images"):
        Neighbours().score(surrogate_file(6), replace(target, test=None))


def test_options_are_read_and_left_out_ones_have_defaults():
    assert Neighbours.read("knn", {}) == Neighbours(20, 0.1)
    assert Neighbours.read("knn", {"num_neighbours": 5, "temperature": 1}) == Neighbours(5, 1)
    assert Neighbours(5).as_json == {"num_neighbours": 5, "temperature": 0.1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 3}, "transfer 'knn' has no option 'neighbours': did you mean 'num_neighbours'"),
        ({"num_neighbours": 2.5}, "`num_neighbours` must be a number"),
        ({"num_neighbours": True}, "`num_neighbours` must be a number"),
        ({"temperature": "low"}, "`temperature` must be a number"),
        ({"num_neighbours": 0}, "`num_neighbours` must be at least 1, got 0"),
        ({"temperature": 0}, "`temperature` must be above 0, got 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Neighbours.read("knn", options)
