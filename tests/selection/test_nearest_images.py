"""Single images that target images ask for, by turns."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from tlprune import InputError, NearestImages, Selection
from tlprune.selection.directions import Directions, normalized, spherical_centroids
from tlprune.selection.features import SHARD_SIZE, SourceFeatures
from tlprune.selection.ranking import Budget
from tlprune.selection.rounds import order_in_rounds


def slow_rounds(similarities):
    """Round by round, the most similar pair of an image and an anchor that are both free; ``[A][N]`` of numbers."""
    anchors, images = range(len(similarities)), range(len(similarities[0]))
    free, rows, number = set(images), [], 0
    while free:
        waiting = set(anchors)
        while waiting and free:
            value, image, anchor = min((-similarities[a][i], i, a) for a in waiting for i in free)
            # of equal pairs any order gives the same pairs, as long as equal anchors go by id for one image
            rows.append((number, value, image, anchor))
            free.remove(image)
            waiting.remove(anchor)
        number += 1
    rows.sort(key=lambda row: row[:3])
    return [row[2] for row in rows], {row[2]: (row[0], row[3]) for row in rows}


def cases(case):
    """Directions of images and anchors: few of them, so that duplicates and ties are common."""
    rng = random.Random(case)
    numbers = np.random.default_rng(case)
    width = rng.choice([1, 2, 3, 8])
    images, anchors = rng.choice([1, 2, 7, 30]), rng.choice([1, 2, 5, 9])
    pool = numbers.normal(size=(rng.choice([1, 3, 20]), width))
    rows = lambda count: normalized(torch.from_numpy(pool[numbers.integers(0, len(pool), count)]))  # noqa: E731
    return rows(images), rows(anchors), rng


@pytest.mark.parametrize("case", [*range(40), *(pytest.param(case, marks=pytest.mark.slow) for case in range(40, 200))])
def test_rounds_equal_the_slow_reference(case):
    images, anchors, rng = cases(case)
    similarities = (anchors @ images.T).round(decimals=9).tolist()
    ranking, taken = slow_rounds(similarities)
    step = rng.choice([1, 3, 50])
    blocks = [(range(at, min(at + step, len(images))), images[at : at + step]) for at in range(0, len(images), step)]
    found = order_in_rounds(anchors, blocks, len(images), held=rng.choice([1, 2, 5, None]))
    assert found.round.tolist() == [taken[image][0] for image in range(len(images))]
    values = [similarities[anchor][image] for image, anchor in enumerate(found.anchor.tolist())]
    assert found.similarity.tolist() == values
    if len({value for row in similarities for value in row}) == len(images) * len(anchors):  # no ties at all
        assert found.ranking.tolist() == ranking
        assert found.anchor.tolist() == [taken[image][1] for image in range(len(images))]


@pytest.mark.parametrize("case", range(40))
def test_no_image_and_anchor_would_both_rather_have_each_other(case):
    images, anchors, _ = cases(case)
    found = order_in_rounds(anchors, [(range(len(images)), images)], len(images))
    similarities = (anchors @ images.T).round(decimals=9)
    for number in range(int(found.round.max()) + 1):
        here = (found.round == number).nonzero().squeeze(1).tolist()
        later = (found.round >= number).nonzero().squeeze(1).tolist()
        got = {int(found.anchor[image]): float(found.similarity[image]) for image in here}
        for anchor in range(len(anchors)):
            for image in later:
                value = float(similarities[anchor, image])
                wants = value > got.get(anchor, -2.0)
                wanted = image not in here or value > float(found.similarity[image])
                assert not (wants and wanted)


@pytest.mark.parametrize("case", range(40))
def test_every_anchor_takes_one_image_in_each_whole_round(case):
    images, anchors, _ = cases(case)
    found = order_in_rounds(anchors, [(range(len(images)), images)], len(images))
    sizes = found.round.bincount().tolist()
    assert set(sizes[:-1]) <= {len(anchors)}
    for number in range(len(sizes)):
        by = found.anchor[found.round == number].tolist()
        assert len(set(by)) == len(by)


def many_images(seed, images, anchors, width, grid):
    """Directions that crowd around few centres; on a grid, many of them are equally similar."""
    numbers = np.random.default_rng(seed)
    centres = numbers.normal(size=(12, width))
    rows = lambda count, kinds: centres[numbers.integers(0, kinds, count)] + 0.6 * numbers.normal(size=(count, width))  # noqa: E731
    both = [rows(images, 12), rows(anchors, 3)]
    if grid:
        both = [some.round() + np.eye(1, width) * (some.round() == 0).all(1, keepdims=True) for some in both]
    return [normalized(torch.from_numpy(some)) for some in both]


def plain_rounds(images, anchors):
    """Ranking, rounds and anchors by one sorted list of all pairs in each round."""
    similarities = (anchors @ images.T).round(decimals=9).numpy()
    image, anchor = (of.ravel() for of in np.meshgrid(np.arange(len(images)), np.arange(len(anchors))))
    order = np.lexsort((image, anchor, -similarities.ravel()))
    pairs = np.stack([image, anchor], 1)[order]
    rows, number = [], 0
    while len(pairs):
        used = set()
        for i, a in pairs.tolist():
            if ("image", i) not in used and ("anchor", a) not in used:
                used |= {("image", i), ("anchor", a)}
                rows.append((number, -similarities[a, i], i, a))
                if len(used) == 2 * len(anchors):
                    break
        number += 1
        pairs = pairs[~np.isin(pairs[:, 0], [row[2] for row in rows])]
    rows.sort()
    return [row[2] for row in rows], {row[2]: (row[0], row[3]) for row in rows}


@pytest.mark.parametrize("sparse", [0.0, 0.2, 2.0])
@pytest.mark.parametrize(("held", "step"), [(1, 100), (3, 7), (20, 50), (400, 400)])
def test_short_lists_are_filled_again_and_change_nothing(monkeypatch, sparse, held, step):
    """Products in float64 alone, in float32 where few images are near enough, and in float32 always."""
    monkeypatch.setattr("tlprune.selection.anchor_lists._SPARSE", sparse)
    monkeypatch.setattr("tlprune.selection.anchor_lists._ANCHORS_AT_ONCE", 5)
    images, anchors = many_images(held, 400, 13, 8, grid=False)
    ranking, taken = plain_rounds(images, anchors)
    blocks = [(range(at, min(at + step, 400)), images[at : at + step]) for at in range(0, 400, step)]
    found = order_in_rounds(anchors, blocks, 400, held)
    assert found.ranking.tolist() == ranking
    assert found.round.tolist() == [taken[image][0] for image in range(400)]
    assert found.anchor.tolist() == [taken[image][1] for image in range(400)]
    assert (found.passes > 1) == (held < 400)
    assert 400 <= found.images_read <= 400 * found.passes


@pytest.mark.parametrize("seed", range(6))
def test_equal_similarities_and_more_anchors_than_images(seed):
    """The same order from long and from short lists, from large and from small blocks."""
    size = (300, 20) if seed % 2 else (60, 90)
    images, anchors = many_images(seed, *size, 4, grid=True)
    whole = order_in_rounds(anchors, [(range(len(images)), images)], len(images))
    similarities = (anchors @ images.T).round(decimals=9)
    assert len(similarities.unique()) < similarities.numel() / 5
    for held, step in ((1, 3), (4, 64), (30, 10)):
        blocks = [
            (range(at, min(at + step, len(images))), images[at : at + step]) for at in range(0, len(images), step)
        ]
        found = order_in_rounds(anchors, blocks, len(images), held)
        for name in ("ranking", "round", "anchor", "similarity"):
            assert torch.equal(getattr(found, name), getattr(whole, name))


def test_what_float32_cannot_tell_apart_is_decided_in_float64(monkeypatch):
    """Similarities a billionth apart: products in float32 are wrong by a hundred times as much."""
    monkeypatch.setattr("tlprune.selection.anchor_lists._SPARSE", 2.0)
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(512, 2, generator=generator, dtype=torch.float64))[0]
    rank = torch.randperm(3000, generator=generator)
    cosine = 0.9 - 1e-9 * rank.double()
    images = torch.stack([cosine, (1 - cosine.square()).sqrt()], 1) @ basis.T
    found = order_in_rounds(basis[:, :1].T.contiguous(), [(range(3000), images)], 3000, held=100)
    assert found.ranking.tolist() == rank.argsort().tolist()
    assert torch.equal(found.similarity, cosine.round(decimals=9))


def test_directions_of_some_images_are_those_of_all(points, tmp_path):
    source = points(torch.randn(SHARD_SIZE + 600, 5, generator=torch.Generator().manual_seed(0)) + 2)
    features = SourceFeatures(nn.Flatten(), source, tmp_path)
    features.extract()
    for center in ("source", "none"):
        directions = Directions(features, center)
        every = torch.cat([rows for _, rows in directions])
        mean = source.points.half().double().mean(0) if center == "source" else 0
        torch.testing.assert_close(every, normalized(source.points.half().double() - mean), rtol=0, atol=1e-6)
        wanted = torch.arange(len(source)) % 3 > 0
        found = [(ids, rows.clone()) for ids, rows in directions.among(wanted)]
        assert torch.equal(torch.cat([ids for ids, _ in found]), wanted.nonzero().squeeze(1))
        assert torch.equal(torch.cat([rows for _, rows in found]), every[wanted])


def test_lists_of_a_source_on_disk_give_the_same_order(points, tmp_path):
    """Several shards, and lists that end: only images that are left are read again."""
    images, anchors = many_images(3, SHARD_SIZE + 600, 30, 8, grid=False)
    features = SourceFeatures(nn.Flatten(), points(images.float()), tmp_path)
    features.extract()
    directions = Directions(features, "none")
    found = order_in_rounds(anchors, directions, len(features), held=400)
    whole = order_in_rounds(anchors, list(directions), len(features), held=len(features))
    for name in ("ranking", "anchor", "distance"):
        assert torch.equal(getattr(found, name), getattr(whole, name))
    assert whole.passes == 1 < found.passes
    assert found.images_read < 0.8 * found.passes * len(features)


def planted(seed):
    """Ten kinds of images in a source of 2,000, of which two, a twentieth, are the target's."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, 16, generator=generator)
    kinds = torch.cat([torch.full((950,), 8), torch.full((950,), 9), torch.arange(2).repeat_interleave(50)])
    kinds = kinds[torch.randperm(2000, generator=generator)]
    source = centres[kinds] + 0.3 * torch.randn(2000, 16, generator=generator)
    target = centres[torch.arange(2).repeat_interleave(20)] + 0.3 * torch.randn(40, 16, generator=generator)
    return source, kinds, target


@pytest.mark.parametrize("anchors", [None, 2, 10])
@pytest.mark.parametrize("center", ["none", "source"])
def test_what_is_relevant_in_a_planted_source_comes_first(points, tmp_path, anchors, center):
    for seed in range(3):
        source, kinds, target = planted(seed)
        selector = NearestImages(num_anchors=anchors, center=center)
        found = selector.select(points(source), points(target), nn.Flatten(), cache=tmp_path / str(seed))
        first = kinds[found.kept(Budget(images=100)).samples]
        assert (first < 2).float().mean() > (0.85 if anchors == 10 else 0.95)
        if anchors != 10:  # k-means may give one kind more centroids than the other
            assert 40 <= (first == 0).sum() <= 60  # both kinds have the same share


def test_who_asked_for_an_image_is_known(points, tmp_path):
    source = torch.eye(6)
    target = torch.eye(6)[[3, 1]]
    found = NearestImages(center="none").select(points(source), points(target), nn.Flatten(), cache=tmp_path)
    assert found.ranking[:2].tolist() == [1, 3]
    assert found.assignments.tolist() == [3, 1]
    assert found.explain(3).voters.tolist() == [0]
    assert found.explain(1).voters.tolist() == [1]
    assert found.votes.tolist() == [0, 1, 0, 1, 0, 0]
    assert sorted(found.asked_by[[0, 2, 4, 5]].tolist()) == [0, 0, 1, 1]
    found.save(tmp_path / "s.safetensors")
    again = Selection.load(tmp_path / "s.safetensors")
    assert again.digest == found.digest
    assert torch.equal(again.asked_by, found.asked_by)


def test_centroids_stand_for_the_images_nearest_to_them():
    rows = normalized(torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0], [0.1, 1.0]]).double())
    centroids, group = spherical_centroids(rows, 2, 0)
    assert group.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    expected = normalized(torch.stack([rows[group == one].mean(0) for one in range(2)]))
    torch.testing.assert_close(centroids, expected)


def test_more_anchors_than_images_are_refused_with_both_numbers(points, tmp_path):
    with pytest.raises(InputError, match="`num_anchors` is 5, the target has only 3 training images"):
        NearestImages(num_anchors=5).select(
            points(torch.eye(4)), points(torch.eye(4)[:3]), nn.Flatten(), cache=tmp_path
        )
    with pytest.raises(InputError, match="`num_anchors`"):
        NearestImages(num_anchors=0)


def test_a_budget_is_suggested_where_similarity_falls(points, tmp_path):
    """Thirty good matches for each anchor, then none."""
    generator = torch.Generator().manual_seed(0)
    good = torch.eye(8)[torch.arange(2).repeat_interleave(30)] + 0.01 * torch.randn(60, 8, generator=generator)
    other = torch.eye(8)[5] + 0.01 * torch.randn(200, 8, generator=generator)
    found = NearestImages(center="none").select(
        points(torch.cat([good, other])), points(torch.eye(8)[:2]), nn.Flatten(), cache=tmp_path
    )
    assert found.metadata["suggested_images"] == 60


def test_two_targets_know_which_of_them_asked_for_an_image(points, tmp_path):
    source = points(torch.eye(6))
    targets = [points(torch.eye(6)[[3, 1]]), points(torch.eye(6)[[5]])]
    found = NearestImages(center="none").select(source, targets, nn.Flatten(), cache=tmp_path)
    assert found.assignments.tolist() == [3, 1, 5]
    assert found.asked_by[[3, 1, 5]].tolist() == [0, 1, 2]
    assert set(found.keep(images=3).tolist()) == {1, 3, 5}
    assert found.explain(5).voters.tolist() == [2]
    assert float(found.scores.max()) <= 1.0
