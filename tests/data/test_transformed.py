"""How batches lie in memory: pixel by pixel, with the same values from every number of loading processes."""

import pytest
import torch

from tlprune.data.datasets import FolderImages, TensorImages
from tlprune.data.loaders import batches
from tlprune.data.scanning import scan_class_folder
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform, TrainTransform


@pytest.fixture
def images(class_folder) -> FolderImages:
    return scan_class_folder(class_folder("photos", {"cat": 3, "dog": 3}, size=40))


@pytest.mark.parametrize(
    "view", [TrainTransform(24, "crop_flip"), EvalTransform(24), EvalTransform(40)], ids=["crop", "centre", "as it is"]
)
def test_a_loading_process_gives_the_same_batches_in_the_same_layout(images, view):
    seen = TransformedDataset(images, view).as_bytes()
    here, there = ([*batches(seen, 3, shuffle=True, num_workers=workers)] for workers in (0, 1))
    assert len(here) == len(there) == 2
    for (pixels, labels), (loaded, loaded_labels) in zip(here, there, strict=True):
        assert torch.equal(pixels, loaded)
        assert torch.equal(labels, loaded_labels)
        for batch in (pixels, loaded):
            assert batch.dtype == torch.uint8
            assert batch.is_contiguous(memory_format=torch.channels_last)


def test_floats_lie_plane_by_plane(images):
    """As everybody else's loaders give them; their values are those of one image at a time."""
    seen = TransformedDataset(images, EvalTransform(24))
    pixels, _ = next(iter(batches(seen, 6, shuffle=False, num_workers=0)))
    assert pixels.is_contiguous()
    assert torch.equal(pixels, torch.stack([seen[index][0] for index in range(6)]))


def test_images_held_on_a_device_give_the_same_batches():
    pixels = torch.randint(0, 256, (6, 3, 24, 24), dtype=torch.uint8)
    seen = TransformedDataset(TensorImages(pixels, torch.arange(6), "abcdef"), TrainTransform(24, "shift"))
    held = seen.held_on(torch.device("cpu"), most_bytes=pixels.nbytes)
    assert held.on_device is not None
    assert seen.on_device is None
    here, there = ([*batches(images, 3, shuffle=True, num_workers=0, seed=1)] for images in (seen, held))
    for (one, labels), (other, other_labels) in zip(here, there, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(labels, other_labels)


@pytest.mark.parametrize(
    ("view", "most"),
    [
        (TrainTransform(24, "shift"), 6 * 3 * 24 * 24 - 1),  # they are too large
        (TrainTransform(24, "crop_flip"), 10**9),  # each image is cropped by itself
        (EvalTransform(16), 10**9),  # they are resized first
    ],
)
def test_images_that_a_device_cannot_hold_as_they_are_stay(view, most):
    pixels = torch.zeros(6, 3, 24, 24, dtype=torch.uint8)
    seen = TransformedDataset(TensorImages(pixels, torch.arange(6), "abcdef"), view)
    assert seen.held_on(torch.device("cpu"), most).on_device is None


def test_another_transform_takes_images_from_where_they_were():
    pixels = torch.zeros(6, 3, 24, 24, dtype=torch.uint8)
    seen = TransformedDataset(TensorImages(pixels, torch.arange(6), "abcdef"), EvalTransform(24))
    held = seen.held_on(torch.device("cpu"), 10**9)
    assert held.with_transform(EvalTransform(16)).on_device is None
    assert held.at_size(16)[0][0].shape == (3, 16, 16)
