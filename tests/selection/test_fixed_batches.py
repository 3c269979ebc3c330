"""Batches that are normalised where the network is: the same values, in a quarter of the memory on the way."""

import pytest
import torch

from tlprune.data.datasets import TensorImages
from tlprune.data.own_transform import OwnTransform
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.preprocessing import Preprocessing
from tlprune.selection import fixed_batches as module
from tlprune.selection.fixed_batches import BATCH_SIZE, batches_of, fixed_batches


def floats(pixels):
    return pixels.float() / 100


TRANSFORMS = {
    "usual": EvalTransform(24),
    "of the weights": EvalTransform(16, Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))),
    "floats of its own": OwnTransform(24, floats, "eval_transform"),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_travel_as_bytes_are_those_that_travel_as_floats(name, workers, monkeypatch):
    pixels = torch.randint(0, 256, (BATCH_SIZE + 5, 3, 24, 24), dtype=torch.uint8)
    images = TransformedDataset(TensorImages(pixels, torch.arange(len(pixels)), ["a"]), TRANSFORMS[name])
    device, travelled = torch.device("cpu"), []
    normalized = TransformedDataset.normalized

    def noted(self, batch):
        travelled.append(batch.dtype)
        return normalized(self, batch)

    monkeypatch.setattr(TransformedDataset, "normalized", noted)
    usual = [*fixed_batches(images, batches_of(len(images)), workers, device)]
    assert travelled == []
    monkeypatch.setattr(module, "_normalizes", lambda device: True)
    there = [*fixed_batches(images, batches_of(len(images)), workers, device)]
    assert set(travelled) == {torch.float32 if name == "floats of its own" else torch.uint8}
    for one, other in zip(usual, there, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
        assert other[1].shape[0] == BATCH_SIZE
        assert other[1].dtype == torch.float32
    assert not images.in_bytes
