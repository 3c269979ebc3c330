import numpy as np
import pytest
import torch
from torch import nn

from tlprune.selection.features import SourceFeatures
from tlprune.selection.leaks import copy_distance, find_leaks, pixel_difference


@pytest.mark.parametrize("case", range(20))
def test_nearest_kept_image_equals_brute_force(case, points, tmp_path, monkeypatch):
    monkeypatch.setattr("tlprune.selection.features.SHARD_SIZE", 64)
    rng = np.random.default_rng(case)
    source = torch.from_numpy(rng.integers(-4, 5, (150, 3)).astype(np.float32))
    test = torch.from_numpy(rng.integers(-4, 5, (40, 3)).astype(np.float32))
    kept = np.flatnonzero(rng.random(150) < 0.3)
    features = SourceFeatures(nn.Flatten(), points(source), tmp_path)
    features.extract()
    found = find_leaks(test, features, torch.from_numpy(kept), threshold=1.0)
    apart = np.linalg.norm(test.numpy()[:, None] - source.numpy()[None, kept], axis=2)
    np.testing.assert_allclose(found.distance.numpy(), apart.min(1), rtol=1e-6)
    assert set(found.source.tolist()) <= set(kept.tolist())
    near = torch.linalg.norm((test - source[found.source]).double(), dim=1)
    np.testing.assert_allclose(near.numpy(), apart.min(1), rtol=1e-6)
    expected = [index for index in np.argsort(apart.min(1), kind="stable").tolist() if apart.min(1)[index] <= 1.0]
    assert found.suspects.tolist() == expected


def test_a_copy_is_a_little_way_off():
    class Pictures:
        def __init__(self):
            self.pixels = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))

        def __len__(self):
            return 6

        def __getitem__(self, index):
            return self.pixels[index], 0

        def name(self, index):
            return f"picture {index}"

    pictures = Pictures()
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    between = torch.pdist(network(pictures.pixels)).min()
    assert 0 < copy_distance(network, pictures) < between
    pictures.pixels = torch.ones(6, 3, 16, 16)
    assert copy_distance(network, pictures) == pytest.approx(0, abs=1e-3)


def test_pixels_tell_pictures_apart_that_a_network_may_not():
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 64, 48), generator=generator).to(torch.uint8)
    noisy = (picture.int() + torch.randint(-9, 10, picture.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    assert pixel_difference(picture, picture) == 0
    assert pixel_difference(picture, noisy) < 0.02
    assert pixel_difference(picture, picture.flip(2)) > 0.1
