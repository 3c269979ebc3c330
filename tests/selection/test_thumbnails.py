import os

import numpy as np
import pytest
import torch

from tlprune.data.datasets import TensorImages
from tlprune.data.scanning import scan_class_folder
from tlprune.selection import thumbnails
from tlprune.selection.thumbnails import SIDE, SourceThumbnails, read_thumbnails, shrink


def slowly(image):
    """A thumbnail of one image ``[3, H, W]`` by the definition of a triangle filter, as wide as two pixels of it."""
    grey = np.tensordot([0.299, 0.587, 0.114], image.astype(float), 1)
    for axis in (0, 1):
        size = grey.shape[axis]
        scale = max(size / SIDE, 1)
        weights = np.zeros((SIDE, size))
        for row in range(SIDE):
            centre = (row + 0.5) * size / SIDE
            weights[row] = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centre) / scale)
        grey = np.moveaxis(np.tensordot(weights / weights.sum(1, keepdims=True), grey, (1, axis)), 0, axis)
    return grey


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (64, 48), (16, 16), (9, 100), (8, 8)])
def test_a_thumbnail_is_what_its_definition_says(size):
    images = np.random.default_rng(0).integers(0, 256, (3, 3, *size), dtype=np.uint8)
    found = shrink(torch.from_numpy(images))
    for image, thumbnail in zip(images, found, strict=True):
        np.testing.assert_allclose(thumbnail.numpy(), slowly(image), atol=0.51)


class Mixed:
    """Images of several sizes, which counts how often one is decoded."""

    def __init__(self, images):
        self.images, self.decoded = images, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.decoded += 1
        return self.images[index], 0

    def fingerprint(self):
        return "mixed"


@pytest.fixture
def mixed(monkeypatch):
    monkeypatch.setattr(thumbnails, "SHARD_SIZE", 64)
    generator = torch.Generator().manual_seed(0)
    sizes = [(20, 30), (32, 32), (16, 40)]
    return Mixed([torch.randint(0, 256, (3, *sizes[n % 3]), generator=generator).byte() for n in range(150)])


def together(source):
    blocks = list(source)
    assert [index for images, _ in blocks for index in images] == list(range(len(source)))
    return torch.cat([block for _, block in blocks])


def test_images_of_any_size_are_made_once_and_resumed_where_they_stopped(mixed, tmp_path):
    whole = torch.stack([shrink(image[None])[0].flatten() for image in mixed.images])
    assert torch.equal(read_thumbnails(mixed), whole)
    mixed.decoded = 0
    first = SourceThumbnails(mixed, tmp_path, "1")
    first.make()
    assert torch.equal(together(first), whole)
    assert mixed.decoded == 150
    again = SourceThumbnails(mixed, tmp_path, "1")
    again.make()
    assert torch.equal(together(again), whole)
    assert mixed.decoded == 150
    (again.folder / "000001.safetensors").unlink()
    again.make()
    assert mixed.decoded == 150 + 64
    assert torch.equal(together(again), whole)
    assert SourceThumbnails(mixed, tmp_path, "2").missing == [0, 1, 2]  # the images were rewritten


def test_a_damaged_file_is_made_again(mixed, tmp_path):
    source = SourceThumbnails(mixed, tmp_path, "1")
    source.make()
    whole = together(source)
    path = source.folder / "000002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"000002.safetensors: damaged; computing these thumbnails again"):
        assert torch.equal(together(source), whole)
    assert torch.equal(together(source), whole)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_black(class_folder, num_workers):
    root = class_folder("src", {"ant": 3})
    (root / "ant" / "001.png").write_bytes(b"no image")
    found = read_thumbnails(scan_class_folder(root), num_workers)
    assert [bool(row.any()) for row in found] == [True, False, True]


def test_no_images_have_no_thumbnails(tmp_path):
    none = TensorImages(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), ())
    assert read_thumbnails(none).shape == (0, SIDE**2)
    source = SourceThumbnails(none, tmp_path, "1")
    source.make()
    assert list(source) == []
    assert os.listdir(tmp_path) == []
