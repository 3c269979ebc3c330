"""How batches lie in memory: pixel by pixel, and shared with the process that trains."""

import pytest
import torch

from tlprune.data.datasets import FolderImages
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
def test_a_loading_process_gives_the_same_batches_in_shared_memory(images, view):
    seen = TransformedDataset(images, view).as_bytes()
    here, there = ([*batches(seen, 3, shuffle=True, num_workers=workers)] for workers in (0, 1))
    assert len(here) == len(there) == 2
    for (pixels, labels), (loaded, loaded_labels) in zip(here, there, strict=True):
        assert torch.equal(pixels, loaded)
        assert torch.equal(labels, loaded_labels)
        assert not pixels.is_shared()
        assert loaded.is_shared()
        for batch in (pixels, loaded):
            assert batch.dtype == torch.uint8
            assert batch.is_contiguous(memory_format=torch.channels_last)


def test_floats_lie_plane_by_plane(images):
    """As everybody else's loaders give them; their values are those of one image at a time."""
    seen = TransformedDataset(images, EvalTransform(24))
    pixels, _ = next(iter(batches(seen, 6, shuffle=False, num_workers=0)))
    assert pixels.is_contiguous()
    assert torch.equal(pixels, torch.stack([seen[index][0] for index in range(6)]))
