import pytest
import torch
from skimage import data

from tlprune.data.built_in_targets import digits, photos


@pytest.mark.parametrize(("make", "classes", "sizes"), [(digits, 10, (200, 400, 1197)), (photos, 14, (350, 420, 840))])
def test_three_parts_of_known_sizes(make, classes, sizes):
    parts = make()
    assert tuple(len(part) for part in parts) == sizes
    for part in parts:
        assert len(part.classes) == classes
        assert part.pixels.shape[1:] == (3, 32, 32)
        assert part.pixels.dtype == torch.uint8
        assert set(part.labels.tolist()) == set(range(classes))


@pytest.mark.parametrize("make", [digits, photos])
def test_seed_decides_the_split(make):
    assert [part.fingerprint() for part in make(1)] == [part.fingerprint() for part in make(1)]
    assert make(1)[0].fingerprint() != make(2)[0].fingerprint()


def test_every_digit_is_in_one_part():
    rows = torch.cat([part.pixels.flatten(1) for part in digits()])
    assert len(rows) == 1797
    assert len(rows.unique(dim=0)) == 1797


def test_training_digits_are_balanced():
    counts = digits()[0].labels.bincount()
    assert counts.max() - counts.min() <= 2


def test_photo_patches_of_different_parts_share_no_pixel(monkeypatch):
    """Photographs are replaced by their column numbers: a patch then says where it comes from."""
    import numpy as np

    columns = np.tile(np.arange(200, dtype=np.uint8), (160, 1))
    for name in photos()[0].classes:
        monkeypatch.setattr(data, name, lambda: columns, raising=False)
    train, val, test = ((part.pixels.min(), part.pixels.max()) for part in photos())
    assert train[1] < 70 <= val[0]
    assert val[1] < 100 <= test[0]
