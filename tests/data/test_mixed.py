"""Batches that hold a share of other images."""

from collections import Counter

import pytest
import torch

from tlprune.data.datasets import TensorImages
from tlprune.data.loaders import batches
from tlprune.data.mixed import MixedDataset, MixedSampler, included_in_batch
from tlprune.data.size_schedule import SizeSchedule
from tlprune.data.transformed import TransformedDataset
from tlprune.data.two_views import RECIPES, ContrastView
from tlprune.errors import InputError


def numbered(count, first=0, size=8):
    """Images of one grey each, which says their number; their labels are 5."""
    pixels = (torch.arange(count) + first).to(torch.uint8)[:, None, None, None].expand(-1, 3, size, size)
    return TensorImages(pixels.contiguous(), torch.full((count,), 5), [str(label) for label in range(6)])


def mixed(count, *others, share=0.25, size=8):
    transform = ContrastView(8, RECIPES["simclr_small"])
    sets = [numbered(count, size=size), *(numbered(other, 100 * (place + 1)) for place, other in enumerate(others))]
    images, *included = (TransformedDataset(one, transform) for one in sets)
    return MixedDataset(images, included, share)


def epoch(count, others, batch_size, share, rank=0, world=1, number=0, seed=1, skip=0):
    sampler = MixedSampler(mixed(count, others, share=share), batch_size, seed)
    sampler.share(rank, world)
    sampler.set_epoch(number)
    sampler.skip = skip
    found = list(sampler)
    if not skip:
        assert len(found) == len(sampler)
    return [code - number * (count + others) for code in found]


def in_batches(found, batch_size):
    return [found[start : start + batch_size] for start in range(0, len(found), batch_size)]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("count", "others", "share"), [(60, 7, 0.25), (61, 40, 0.5), (35, 1, 0.1), (24, 100, 0.8)])
def test_an_epoch_is_one_pass_over_the_images_with_others_by_turns(count, others, share, world):
    size = 10
    included = round(share * size)
    seen = [epoch(count, others, size, share, rank, world, number=2) for rank in range(world)]
    steps = count // world // (size - included)
    for found in seen:
        assert [len(one) for one in in_batches(found, size)] == [size] * steps
        for one in in_batches(found, size):
            assert sum(index >= count for index in one) == included
    images = [index for found in seen for index in found if index < count]
    assert len(set(images)) == len(images) == steps * (size - included) * world
    times = Counter(index for found in seen for index in found if index >= count)
    assert sum(times.values()) == steps * included * world
    every = [times[index] for index in range(count, count + others)]
    assert max(every) - min(every) <= 1


def test_every_pass_over_the_others_has_an_order_of_its_own():
    found = [index - 40 for index in epoch(40, 6, 4, 0.5) if index >= 40]
    passes = in_batches(found, 6)[:-1]
    assert all(sorted(one) == list(range(6)) for one in passes)
    assert len(set(map(tuple, passes))) > 1


def test_order_follows_from_seed_and_epoch_alone_and_goes_on_anywhere():
    whole = epoch(40, 6, 8, 0.25, number=3)
    torch.manual_seed(5)
    assert epoch(40, 6, 8, 0.25, number=3) == whole
    assert epoch(40, 6, 8, 0.25, number=4) != whole != epoch(40, 6, 8, 0.25, number=3, seed=2)
    assert epoch(40, 6, 8, 0.25, number=3, skip=16) == whole[16:]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (3, 1), (5, 2)])
def test_too_few_images_for_a_batch_make_one_with_others_in_proportion(count, expected):
    found = epoch(count, 9, 8, 0.25)
    assert sum(index >= count for index in found) == expected
    assert sorted(index for index in found if index < count) == list(range(count))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_loader_gives_two_views_of_both_and_no_label_of_the_others(workers):
    loader = batches(mixed(24, 3, 4), 8, shuffle=True, num_workers=workers, seed=1)
    assert len(loader) == 4
    for views, labels in loader:
        assert [view.shape for view in views] == [(8, 3, 8, 8)] * 2
        assert labels.tolist() == [5] * 6 + [-1] * 2
    assert loader.layout.included == 2
    assert loader.layout.images == 24


def test_others_are_augmented_as_the_images_are():
    """An epoch of one set in two halves sees what the transform makes of each: the same crops, colours and size."""
    dataset = mixed(3, 3, size=16)
    for index, part in ((0, 0), (3, 1)):
        torch.manual_seed(2)
        views, _ = dataset.__getitems__([index])
        torch.manual_seed(2)
        alone, _ = dataset.parts[part].__getitems__([0])
        assert all(torch.equal(one, other) for one, other in zip(views, alone, strict=True))
        assert views[0].shape == (1, 3, 8, 8)
    assert not torch.equal(*dataset.__getitems__([4])[0])


def test_images_that_grow_grow_in_both_sets():
    loader = batches(mixed(12, 4), 8, shuffle=True, num_workers=0, sizes=SizeSchedule(4, 8, 0, 2))
    sizes = [{view.shape[-1] for views, _ in loader for view in views} for _ in range(3)]
    assert sizes[0] == {4}
    assert sizes[2] == {8}


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0.0, r"`include_target` must be in \(0, 1\), got 0.0"),
        (1.0, r"must be in \(0, 1\), got 1.0"),
        (float("nan"), "got nan"),
        (0.01, "is 0.01, which is 0 of the 16 images in a batch"),
        (0.99, "is 0.99, which is 16 of the 16 images in a batch"),
    ],
)
def test_shares_that_leave_nothing_of_one_set_are_refused(share, message):
    with pytest.raises(InputError, match=message):
        included_in_batch(share, 16)
