import pytest
import torch
from torchvision.transforms import v2

from tlprune.data.datasets import TensorImages
from tlprune.data.loaders import batches
from tlprune.data.policies import PolicyTransform
from tlprune.data.transformed import TransformedDataset
from tlprune.preprocessing import Preprocessing

RECIPES = {
    "randaugment": v2.RandAugment(num_ops=2, magnitude=9, interpolation=v2.InterpolationMode.BILINEAR),
    "trivialaugment": v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
    "autoaugment": v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, v2.InterpolationMode.BILINEAR),
}
"""As torchvision's reference recipes build them (references/classification/presets.py)."""


def images(count=12, height=40, width=36):
    pixels = torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()
    return TensorImages(pixels, torch.arange(count), [str(label) for label in range(count)])


@pytest.mark.parametrize("name", RECIPES)
def test_each_image_is_cropped_flipped_and_then_changed_by_the_policy(name):
    steps = [v2.RandomResizedCrop(32, antialias=True), v2.RandomHorizontalFlip(0.5), RECIPES[name]]
    transform = PolicyTransform(32, name)
    for seed, (pixels, _) in enumerate(images()[index] for index in range(12)):
        torch.manual_seed(seed)
        seen = transform.resize(pixels)
        torch.manual_seed(seed)
        assert torch.equal(seen, v2.Compose(steps)(pixels))


@pytest.mark.parametrize("name", RECIPES)
def test_images_of_the_right_size_change_too_and_each_epoch_anew(name):
    loader = batches(TransformedDataset(images(height=32, width=32), PolicyTransform(32, name)), 12, True, 0, seed=3)
    first, second = ((pixels[labels.argsort()]) for pixels, labels in (next(iter(loader)) for _ in range(2)))
    assert first.shape == (12, 3, 32, 32)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_every_interpolation_of_weights_is_taken(interpolation):
    transform = PolicyTransform(16, "autoaugment", Preprocessing(interpolation=interpolation))
    torch.manual_seed(0)
    seen = torch.stack([transform.resize(images()[index][0]) for index in range(12)])
    assert seen.shape == (12, 3, 16, 16)
    assert seen.dtype == torch.uint8
