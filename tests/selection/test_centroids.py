import numpy as np
import pytest
import torch
from torch import nn

from tlprune.errors import InputError
from tlprune.selection.centroids import class_means, nearest, summed_distances
from tlprune.selection.features import SourceFeatures


def slow_nearest(points, centroids):
    """Differences in float64, one point at a time; the first of equal ones."""
    return [int(((centroids - point) ** 2).sum(1).argmin()) for point in points]


@pytest.mark.parametrize("case", range(200))
def test_nearest_equals_differences_in_float64(case):
    rng = np.random.default_rng(case)
    count, clusters, width = rng.choice([1, 7, 130]), rng.choice([1, 2, 9, 40]), rng.choice([1, 3, 64])
    points = rng.normal(size=(count, width)).astype(np.float32)
    centroids = rng.normal(size=(clusters, width)).astype(np.float32)
    if case % 4 == 1:  # whole numbers: many points are equally near to several centroids
        points, centroids = np.round(points * 2), np.round(centroids * 2)
    if case % 4 == 2:  # far from the origin, where a float32 product would lose the differences
        points, centroids = points + np.float32(3000), centroids + np.float32(3000)
    if case % 4 == 3:  # the same centroid twice, and points that lie on centroids
        centroids = np.concatenate([centroids, centroids])
        points = np.concatenate([points, centroids])
    expected = slow_nearest(points.astype(np.float64), centroids.astype(np.float64))
    assert nearest(torch.from_numpy(points), torch.from_numpy(centroids)).tolist() == expected


def test_summed_distances_equal_numpy():
    rng = np.random.default_rng(0)
    points, centroids = rng.normal(size=(5000, 7)), rng.normal(size=(11, 7))
    points, centroids = points.astype(np.float32), centroids.astype(np.float32)
    weights = rng.random(5000)
    found = summed_distances(torch.from_numpy(points), torch.from_numpy(centroids), torch.from_numpy(weights))
    apart = np.linalg.norm(points[:, None].astype(np.float64) - centroids[None].astype(np.float64), axis=2)
    np.testing.assert_allclose(found.numpy(), (apart * weights[:, None]).sum(0), rtol=1e-6)


def test_sums_do_not_depend_on_the_order_of_points():
    points = torch.randn(9000, 33, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(9000, dtype=torch.float64)
    assert torch.equal(*(summed_distances(some, points[:20], ones) for some in (points, points.flip(0))))


def test_class_means_equal_numpy(points, tmp_path):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.integers(-8, 9, (500, 4)).astype(np.float32))  # exact in float16
    labels = torch.from_numpy(rng.integers(0, 6, 500))
    features = SourceFeatures(nn.Flatten(), points(values, labels), tmp_path)
    features.extract()
    expected = np.stack([values.numpy()[labels.numpy() == label].mean(0) for label in range(6)])
    np.testing.assert_allclose(class_means(features, labels, 6).numpy(), expected, rtol=1e-6)
    with pytest.raises(InputError, match="class 6 of the source has no images"):
        class_means(features, labels, 7)
