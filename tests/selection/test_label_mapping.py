import pytest
import torch

from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.selection.baselines import RandomSelector, ReverseSelector
from tlprune.selection.label_mapping import LabelMapping


class Nearest(torch.nn.Module):
    """A surrogate that knows the mean of each source class: on plain colours it makes no mistake."""

    def __init__(self, source):
        super().__init__()
        images = torch.stack([source[i][0] for i in range(len(source))]).mean((2, 3))
        means = [images[source.labels == label].mean(0) for label in range(len(source.classes))]
        self.means = torch.nn.Parameter(torch.stack(means))

    def forward(self, images):
        return -torch.cdist(images.mean((2, 3)), self.means)


@pytest.fixture
def planted(coloured):
    """A source of twelve colours, of which the target has the first four."""
    source = TransformedDataset(coloured(12, 6), EvalTransform(32))
    return source, TransformedDataset(coloured(4, 5, seed=3), EvalTransform(32)), Nearest(source)


def test_every_relevant_class_is_above_every_irrelevant_one(planted):
    source, target, surrogate = planted
    selection = LabelMapping().select(source, target, surrogate)
    assert set(selection.ranking[:4].tolist()) == {0, 1, 2, 3}
    assert selection.votes[:4].tolist() == [5, 5, 5, 5]
    assert selection.votes.sum() == len(target)
    assert selection.assignments.tolist() == source.labels.new_tensor([0, 1, 2, 3]).repeat_interleave(5).tolist()
    assert selection.keep(units=4).tolist() == list(range(24))


def test_random_does_not_find_them_and_reverse_drops_them(planted):
    source, target, surrogate = planted
    found = [set(RandomSelector(seed).select(source).ranking[:4].tolist()) == {0, 1, 2, 3} for seed in range(20)]
    assert sum(found) <= 1
    backward = ReverseSelector(LabelMapping()).select(source, target, surrogate)
    assert set(backward.ranking[-4:].tolist()) == {0, 1, 2, 3}
    assert backward.method == "reverse"


def test_same_settings_give_the_same_selection(planted):
    source, target, surrogate = planted
    first, second = (LabelMapping().select(source, target, surrogate) for _ in range(2))
    assert first.digest == second.digest
    assert first.config == LabelMapping().config(source, [target], surrogate)


def test_settings_tell_sources_targets_and_surrogates_apart(planted, coloured):
    source, target, surrogate = planted
    same = LabelMapping().config(source, [target], surrogate)
    other_target = TransformedDataset(coloured(4, 5, seed=4), EvalTransform(32))
    assert (
        LabelMapping().config(TransformedDataset(coloured(12, 6, seed=9), EvalTransform(32)), [target], surrogate)
        != same
    )
    assert LabelMapping().config(source, [other_target], surrogate) != same
    assert LabelMapping().config(TransformedDataset(source.images, EvalTransform(40)), [target], surrogate) != same
    with torch.no_grad():
        surrogate.means[0] += 1
    assert LabelMapping().config(source, [target], surrogate) != same
    assert LabelMapping(num_workers=2).config(source, [target], surrogate)["options"] == same["options"]


def test_random_is_seeded_and_needs_nobody(planted):
    source, _, _ = planted
    assert torch.equal(RandomSelector(3).select(source).ranking, RandomSelector(3).select(source).ranking)
    assert not torch.equal(RandomSelector(3).select(source).ranking, RandomSelector(4).select(source).ranking)


def test_what_is_missing_is_named(planted):
    source, target, surrogate = planted
    with pytest.raises(InputError, match="LabelMapping needs a target"):
        LabelMapping().select(source, None, surrogate)
    with pytest.raises(InputError, match="LabelMapping needs a surrogate"):
        LabelMapping().select(source, target, None)
