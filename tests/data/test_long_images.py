"""An image of extreme shape costs no more than others, in any view."""

import resource

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tlprune import PrunedSourceDataModule
from tlprune.data.datasets import TensorImages
from tlprune.data.long_images import middle_of_long
from tlprune.data.packed import PackedImages, shrunk
from tlprune.data.scanning import scan_class_folder
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform, TrainTransform
from tlprune.data.two_views import RECIPES, ContrastView
from tlprune.experiments.page.units import thumbnail

SHAPES = [(1, 30000), (30000, 1), (2, 45001), (89000, 3), (300, 9001)]
VIEWS = [EvalTransform(224), TrainTransform(224, "none"), TrainTransform(224, "crop_flip"), TrainTransform(224, "crop")]
VIEWS += [ContrastView(224, RECIPES["simclr"]), ContrastView(224, RECIPES["moco"])]


def image(height, width):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_every_view_takes_little_memory(view, shape):
    pixels = image(*shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resized = view.resize(pixels)
    assert resized.shape[-3:] == (3, 224, 224)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("shape", [(30, 30 * 21), (64 * 30, 64), (51, 2000), (2001, 51), (260, 5221), (20, 4000)])
@pytest.mark.parametrize("size", [32, 224])
def test_the_middle_is_that_of_the_whole(shape, size):
    """Smooth pictures, since a crop before the resize may lie half a pixel aside."""
    rough = image(1 + shape[0] // 10, 1 + shape[1] // 10)
    pixels = v2.functional.resize(rough, list(shape), antialias=True)
    whole = v2.Compose([v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)])(pixels)
    difference = (EvalTransform(size).resize(pixels).float() - whole.float()).abs()
    assert middle_of_long(pixels).numel() < pixels.numel()
    assert difference.mean() < 6


@pytest.mark.parametrize("shape", [(30, 600), (600, 30), (50, 40), (300, 260), (1, 20), (7, 100)])
def test_other_images_are_resized_as_a_whole(shape):
    pixels = image(*shape)
    assert middle_of_long(pixels) is pixels
    whole = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])(pixels)
    assert torch.equal(EvalTransform(224).resize(pixels), whole)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_middle_is_in_the_middle(shape):
    numbers = torch.arange(shape[0] * shape[1]).view(1, *shape)
    middle = middle_of_long(numbers)
    assert middle.sum() / middle.numel() == pytest.approx(float(numbers.double().mean()), rel=1e-4)


@pytest.fixture
def source(tmp_path):
    """Images of extreme shapes, one longer than a JPEG can be."""
    for number, (height, width) in enumerate([*SHAPES, (1, 100_000), (40, 40), (50, 60), (60, 50)]):
        folder = tmp_path / "src" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = image(height, width).permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number}.png")
    return tmp_path / "src"


@pytest.mark.parametrize("packing", ["raw256", "jpeg256"])
def test_packed(source, tmp_path, packing):
    images = scan_class_folder(source)
    packed = PackedImages(images, tmp_path / "packed", packing)
    packed.make(packed.missing)
    for index in range(len(images)):
        assert packed[index][0].numel() < 2_000_000
        assert TransformedDataset(packed, EvalTransform(224))[index][0].shape == (3, 224, 224)
        if packing == "raw256":
            assert torch.equal(packed[index][0], shrunk(images[index][0]))


@pytest.mark.parametrize("options", [{}, {"on_bad_image": "skip"}, {"image_cache": "jpeg256"}, {"augment": "simclr"}])
def test_a_source_with_such_images_loads(source, options):
    data = PrunedSourceDataModule(str(source), val_share=0.3, batch_size=4, **options)
    data.setup()
    count = sum(len(labels) for loader in (data.train_dataloader(), data.val_dataloader()) for _, labels in loader)
    assert count >= 4
    assert data.skipped == ()


def test_in_memory():
    pixels = torch.stack([image(1, 30000), image(1, 30000)])
    data = PrunedSourceDataModule(
        TensorImages(pixels, torch.tensor([0, 1]), ["a", "b"]), in_memory=True, val_share=0, image_size=224
    )
    data.setup()
    assert next(iter(data.train_dataloader()))[0].shape == (2, 3, 224, 224)


@pytest.mark.parametrize("shape", SHAPES)
def test_thumbnails(shape):
    assert thumbnail(image(*shape)).startswith("data:image/")
