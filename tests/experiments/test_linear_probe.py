from dataclasses import replace

import pytest
import torch

from tlprune.data.shots import few_of_each_class
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.experiments.linear_probe import PENALTIES, LinearProbe
from tlprune.experiments.neighbours import Neighbours
from tlprune.experiments.sweep_transfers import transfer_of
from tlprune.models.weights import load_backbone
from tlprune.selection.features import extract_features


def slow_accuracy(weights, target):
    """Gradient descent in float64 until nothing moves, for each penalty; validation images choose."""
    backbone, view = load_backbone(weights).eval(), EvalTransform(target.image_size)
    parts = (target.train, target.val, target.test)
    seen = [extract_features(backbone, TransformedDataset(part, view)).double() for part in parts]
    mean, deviation = seen[0].mean(0), seen[0].std(0, correction=0)
    seen = [(one - mean) / deviation.where(deviation > 0, torch.ones(())) for one in seen]
    best = (-1.0, 0.0)
    for penalty in PENALTIES[:6]:  # those with a penalty to speak of converge
        weight = torch.zeros(seen[0].shape[1], len(target.classes), dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(len(target.classes), dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

        def loss(solver=solver, weight=weight, bias=bias, penalty=penalty):
            solver.zero_grad()
            cost = torch.nn.functional.cross_entropy(seen[0] @ weight + bias, target.train.labels, reduction="sum")
            total = penalty * cost + weight.square().sum() / 2
            total.backward()
            return total

        solver.step(loss)
        with torch.no_grad():
            val, test = (
                float((features @ weight + bias).argmax(1).eq(part.labels).double().mean())
                for features, part in zip(seen[1:], parts[1:], strict=True)
            )
        best = max(best, (val, test), key=lambda one: one[0])
    return best


def test_it_scores_as_gradient_descent_does_where_that_has_converged(target, surrogate_file, monkeypatch):
    weights = surrogate_file(6)
    monkeypatch.setattr("tlprune.experiments.linear_probe.PENALTIES", PENALTIES[:6])
    score = LinearProbe().score(weights, target)
    val, test = slow_accuracy(weights, target)
    assert (score.val, score.test) == pytest.approx((100 * val, 100 * test), abs=100 / len(target.test))
    assert score.val > 100 / len(target.classes)


@pytest.mark.parametrize("transfer", [LinearProbe(shots=2), Neighbours(3, shots=2)], ids=lambda one: one.key)
def test_shots_are_that_many_labels_of_each_class(transfer, target, surrogate_file):
    weights = surrogate_file(6)
    few = few_of_each_class(target.train.labels, 2, 5)
    by_hand = replace(target, train=target.train.subset(few))
    whole = replace(transfer, shots=None)
    found, wanted = transfer.score(weights, target, 5), whole.score(weights, by_hand)
    assert (found.val, found.test) == (wanted.val, wanted.test)


def test_a_config_names_the_classifier_by_its_options():
    assert transfer_of("probe", {"solver": "lbfgs", "shots": 5}) == LinearProbe(shots=5)
    assert transfer_of("knn", {"num_neighbours": 5, "shots": 3}) == Neighbours(5, shots=3)
    assert transfer_of("probe", {"solver": "lbfgs", "shots": "all"}) == LinearProbe()
    assert LinearProbe().as_json == {"solver": "lbfgs", "tolerance": 1e-6}
    assert LinearProbe(shots=5).as_json == {"solver": "lbfgs", "tolerance": 1e-6, "shots": 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "adam"}, "`solver` must be 'lbfgs', got 'adam'"),
        ({"solver": "lbfgs", "shots": 0}, "transfer 'probe': `shots` must be at least 1, got 0"),
        ({"solver": "lbfgs", "shots": 2.5}, "transfer 'probe': `shots` must be a whole number or 'all', got 2.5"),
        ({"solver": "lbfgs", "shots": "al"}, "transfer 'probe': `shots` must be a whole number or 'all', got 'al'"),
        ({"solver": "lbfgs", "shot": 5}, "transfer 'probe' has no option 'shot': did you mean 'shots'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        transfer_of("probe", options)
