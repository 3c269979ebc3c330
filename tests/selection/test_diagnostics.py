"""Four numbers about kept images, each beside a slow reference."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tlprune.errors import InputError
from tlprune.selection.diagnostics import Diagnosis, diagnose_kept, measure, random_images
from tlprune.selection.features import SHARD_SIZE, SourceFeatures
from tlprune.selection.kmeans import Clusters


def slow_numbers(source, target, kept, centroids):
    """Image by image, over float64 lists; the similarity of two images at the source's mean is 1."""
    mean = np.float64(np.float32(source.mean(0)))

    def alike(a, b):
        a, b = a - mean, b - mean
        lengths = [np.sqrt((one**2).sum()) for one in (a, b)]
        if min(lengths) < 1e-12:
            return float(max(lengths) < 1e-12)
        return float(sum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1]))

    def cluster(row):
        return min(range(len(centroids)), key=lambda unit: (((row - centroids[unit]) ** 2).sum(), unit))

    near = [max(alike(one, source[image]) for image in kept) for one in target]
    matrix = np.array([[alike(source[a], source[b]) for b in kept] for a in kept])
    p, q = np.zeros(len(centroids)), np.ones(len(centroids))
    for row in target:
        p[cluster(row)] += 1 / len(target)
    for image in kept:
        q[cluster(source[image])] += 1
    q /= q.sum()
    eigenvalues = np.linalg.eigvalsh(matrix / len(kept))
    copied = [any(matrix[a][b] >= 0.99 for b in range(len(kept)) if b != a) for a in range(len(kept))]
    return {
        "similarity": sum(near) / len(near),
        "divergence": sum(p[unit] * math.log(p[unit] / q[unit]) for unit in range(len(p)) if p[unit] > 0),
        "spread": math.exp(-sum(value * math.log(value) for value in eigenvalues if value > 1e-14)),
        "duplicates": sum(copied) / len(copied),
    }


def cases(case):
    """Few different images, so that duplicates, ties and images at the mean are common."""
    rng = np.random.default_rng(case)
    width, pool = int(rng.choice([1, 2, 5])), int(rng.choice([1, 2, 4, 30]))
    total, voters = int(rng.choice([1, 2, 9, 40])), int(rng.choice([1, 2, 7]))
    points = rng.integers(-4, 5, (pool, width)) / rng.choice([1, 8])
    if case % 3 == 0:  # small differences, near the bound of what counts as a duplicate
        points = points + rng.normal(size=points.shape) / 16
    points = points.astype(np.float16).astype(np.float64)
    source, target = points[rng.integers(0, pool, total)], points[rng.integers(0, pool, voters)]
    kept = [np.sort(rng.permutation(total)[: int(rng.integers(1, total + 1))]) for _ in range(3)]
    centroids = np.unique(points[rng.integers(0, pool, 4)], axis=0)
    return source, target, kept, centroids


def features_of(points, rows, folder):
    found = SourceFeatures(nn.Flatten(), points(torch.as_tensor(rows).float()), folder)
    found.extract()
    return found


@pytest.mark.parametrize("case", [*range(40), *(pytest.param(case, marks=pytest.mark.slow) for case in range(40, 200))])
def test_numbers_equal_the_slow_reference(case, points, tmp_path):
    source, target, kept, centroids = cases(case)
    units = ((source[:, None] - centroids) ** 2).sum(2).argmin(1)
    clusters = Clusters(torch.from_numpy(centroids).float(), torch.from_numpy(units).int())
    wanted = torch.from_numpy(target).float()
    found = measure(features_of(points, source, tmp_path), clusters, wanted, [torch.from_numpy(one) for one in kept])
    for one, images in zip(found, kept, strict=True):
        expected = slow_numbers(source, target, images.tolist(), centroids)
        assert one.as_json() == pytest.approx(expected, abs=1e-6)


def test_kept_images_of_several_shards_are_all_seen(points, tmp_path):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(SHARD_SIZE + 50, 8, generator=generator)
    rows[SHARD_SIZE + 7] = rows[3]  # a duplicate in another shard
    source, target = points(rows), points(rows[[SHARD_SIZE + 20]] + 0.001)
    kept = [torch.tensor([3, 50, SHARD_SIZE + 7, SHARD_SIZE + 20]), torch.tensor([3, 50, 60, 70])]
    near, far = diagnose_kept(source, target, nn.Flatten(), kept, tmp_path)
    assert near.kept.similarity > 0.999 > far.kept.similarity
    assert (near.kept.duplicates, far.kept.duplicates) == (0.5, 0.0)
    assert near.random == far.random
    assert near.images == far.images == 4


def test_duplicates_of_many_kept_images_are_estimated_on_a_sample(points, tmp_path, monkeypatch):
    """A third of the kept images are copies of another one that is kept too, most of which lie outside the sample."""
    monkeypatch.setattr("tlprune.selection.diagnostics.SAMPLED", 300)
    rows = torch.randn(3000, 16, generator=torch.Generator().manual_seed(1))
    rows[2500:] = rows[:500]
    [found] = diagnose_kept(points(rows), points(rows[:5]), nn.Flatten(), [torch.arange(3000)], tmp_path)
    assert 0.33 - 0.1 < found.kept.duplicates < 0.33 + 0.1


def test_planted_kept_sets_are_told_apart(points, tmp_path):
    """Ten kinds of images, two of which are the target's."""
    generator = torch.Generator().manual_seed(2)
    centres = torch.randn(10, 16, generator=generator)
    kinds = torch.arange(10).repeat_interleave(60)
    rows = centres[kinds] + 0.2 * torch.randn(600, 16, generator=generator)
    target = centres[torch.arange(2).repeat_interleave(20)] + 0.2 * torch.randn(40, 16, generator=generator)
    rows[540:] = rows[480:540]  # of the last kind none is left: each image of the one before is there twice
    groups = {"right": [0, 1], "one": [0], "wrong": [6, 7], "once": [8], "copies": [8, 9]}
    kept = [torch.isin(kinds, torch.tensor(of)).nonzero().squeeze(1) for of in groups.values()]
    kept[3] = torch.arange(480, 540)
    found = diagnose_kept(points(rows), points(target), nn.Flatten(), kept, tmp_path)
    right, one, wrong, once, copies = (numbers.kept for numbers in found)
    assert right.similarity > one.similarity > wrong.similarity
    assert right.divergence < one.divergence < wrong.divergence
    assert found[0].random.spread > right.spread > one.spread
    assert (copies.duplicates, once.duplicates) == (1.0, 0.0)
    assert copies.spread == pytest.approx(once.spread)  # copies add no variety


def test_random_images_are_drawn_without_replacement():
    found = random_images(5, 8)
    assert found.tolist() == sorted(set(found.tolist()))
    assert len(found) == 5
    assert random_images(8, 8).tolist() == list(range(8))
    assert not torch.equal(random_images(5, 100), random_images(5, 100, seed=1))


def test_one_image_and_one_target_image(points, tmp_path):
    [found] = diagnose_kept(
        points(torch.ones(1, 3)), points(torch.ones(1, 3)), nn.Flatten(), [torch.arange(1)], tmp_path
    )
    assert isinstance(found, Diagnosis)
    assert found.kept == found.random
    assert found.kept.as_json() == {"similarity": 1.0, "divergence": 0.0, "spread": 1.0, "duplicates": 0.0}


def test_what_cannot_be_diagnosed_is_refused(points, tmp_path):
    source = torch.eye(4)
    features = features_of(points, source, tmp_path)
    clusters = Clusters(source[:1], torch.zeros(4, dtype=torch.int32))
    everything = [torch.arange(4)]
    with pytest.raises(InputError, match="features of the target are 3 wide, those of the source 4"):
        measure(features, clusters, torch.eye(3), everything)
    with pytest.raises(InputError, match="no image is kept"):
        measure(features, clusters, source, [*everything, torch.empty(0, dtype=torch.int64)])
    with pytest.raises(InputError, match="the target has no training images"):
        measure(features, clusters, torch.empty(0, 4), everything)
