import faiss
import numpy as np
import pytest
import torch
from torch import nn

from tlprune.errors import InputError
from tlprune.selection import kmeans
from tlprune.selection.features import SourceFeatures
from tlprune.selection.kmeans import Clusters, cached_clusters, fit_clusters, suggested_clusters


@pytest.fixture
def blobs(points, tmp_path):
    """Features in five blobs of sixty."""

    def make(blobs=5, each=60, seed=0):
        generator = torch.Generator().manual_seed(seed)
        centres = 20 * torch.randn(blobs, 8, generator=generator)
        values = centres.repeat_interleave(each, 0) + torch.randn(blobs * each, 8, generator=generator)
        features = SourceFeatures(nn.Flatten(), points(values, digest=f"{blobs} {each} {seed}"), tmp_path)
        features.extract()
        return features

    return make


def test_blobs_are_found_and_centroids_are_the_means_of_their_images(blobs):
    features = blobs()
    found = fit_clusters(features, 5, seed=0)
    assert (found.empty, len(found.centroids)) == (0, 5)
    groups = found.unit_of_sample.view(5, 60)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0].tolist())) == 5
    values = features.rows(torch.arange(300))
    for unit in range(5):
        own = values[found.unit_of_sample == unit].mean(0)
        torch.testing.assert_close(found.centroids[unit], own, atol=1e-3, rtol=1e-3)
    assert found.effective_number == pytest.approx(5)


def test_same_seed_gives_the_same_clusters_on_any_number_of_threads(blobs):
    features = blobs()
    results = []
    try:
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            torch.set_num_threads(threads)
            results.append(fit_clusters(features, 17, seed=3))
    finally:
        faiss.omp_set_num_threads(2)
        torch.set_num_threads(2)
    assert torch.equal(results[0].unit_of_sample, results[1].unit_of_sample)
    assert torch.equal(results[0].centroids, results[1].centroids)
    assert not torch.equal(fit_clusters(features, 17, seed=4).unit_of_sample, results[0].unit_of_sample)


def test_every_image_belongs_to_the_nearest_centroid_though_few_are_sampled(blobs, monkeypatch):
    monkeypatch.setattr(kmeans, "POINTS_PER_CENTROID", 2)
    features = blobs()
    found = fit_clusters(features, 5, seed=0)
    values = features.rows(torch.arange(300)).double().numpy()
    gaps = ((values[:, None] - found.centroids.double().numpy()[None]) ** 2).sum(2)
    assert found.unit_of_sample.tolist() == np.argmin(gaps, 1).tolist()


def test_as_many_clusters_as_images(points, tmp_path):
    features = SourceFeatures(nn.Flatten(), points(torch.arange(12.0).view(6, 2)), tmp_path)
    features.extract()
    found = fit_clusters(features, 6, seed=0)
    assert sorted(found.unit_of_sample.tolist()) == list(range(6))


def test_more_clusters_than_images_names_both_numbers(blobs):
    with pytest.raises(InputError, match="`num_clusters` is 301, the source has only 300 images"):
        fit_clusters(blobs(), 301, seed=0)


def test_duplicated_images_leave_clusters_empty_and_that_is_said(points, tmp_path):
    values = torch.tensor([[0.0, 0], [5, 0], [0, 5]]).repeat_interleave(20, 0)
    features = SourceFeatures(nn.Flatten(), points(values), tmp_path)
    features.extract()
    with pytest.warns(UserWarning, match=r"k-means left \d of 8 clusters without images"):
        found = cached_clusters(features, 8, 0, tmp_path)
    assert len(found.centroids) == 8 - found.empty <= 3 + 5
    assert set(found.unit_of_sample.tolist()) == set(range(len(found.centroids)))


def test_collapse_is_said(points, tmp_path):
    generator = torch.Generator().manual_seed(0)
    values = torch.cat([0.01 * torch.randn(500, 2, generator=generator), 100 * torch.randn(7, 2, generator=generator)])
    features = SourceFeatures(nn.Flatten(), points(values), tmp_path)
    features.extract()
    with pytest.warns(UserWarning, match=r"clusters collapse: their sizes are as uneven as if there were 1\.\d of 8"):
        cached_clusters(features, 8, 0, tmp_path)


def test_clusters_are_fitted_once_for_all_targets(blobs, tmp_path, monkeypatch):
    features = blobs()
    first = cached_clusters(features, 5, 0, tmp_path)
    monkeypatch.setattr(kmeans, "fit_clusters", None)
    again = cached_clusters(features, 5, 0, tmp_path)
    assert torch.equal(first.unit_of_sample, again.unit_of_sample)
    assert torch.equal(first.centroids, again.centroids)
    monkeypatch.undo()
    [file] = (tmp_path / "clusters").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="damaged; clustering again"):
        assert torch.equal(cached_clusters(features, 5, 0, tmp_path).centroids, first.centroids)
    cached_clusters(features, 5, 1, tmp_path)
    cached_clusters(features, 4, 0, tmp_path)
    cached_clusters(blobs(seed=1), 5, 0, tmp_path)
    assert len(list((tmp_path / "clusters").glob("*.safetensors"))) == 4


def test_effective_number_by_hand():
    even = Clusters(torch.zeros(4, 1), torch.tensor([0, 1, 2, 3], dtype=torch.int32))
    assert even.effective_number == pytest.approx(4)
    one = Clusters(torch.zeros(4, 1), torch.tensor([2, 2, 2], dtype=torch.int32))
    assert one.effective_number == pytest.approx(1)


def test_suggestion_is_never_more_than_the_images():
    assert [suggested_clusters(images) for images in (1, 2, 10, 1_281_167)] == [1, 1, 3, 1132]


@pytest.mark.parametrize("distinct", [True, False])
def test_iterations_one_by_one_give_the_centroids_of_one_call(distinct):
    values = torch.randn(400, 4, generator=torch.Generator().manual_seed(5))
    if not distinct:  # clusters stay empty, and are split at each iteration
        values[:300] = values[0]
    once = faiss.Kmeans(4, 30, niter=20, seed=7, min_points_per_centroid=1, max_points_per_centroid=256)
    once.cp.init_method = faiss.ClusteringInitMethod_AFK_MC2
    once.train(values.numpy())
    assert np.array_equal(kmeans._fit_centroids(values, 30, 7).numpy(), once.centroids)
