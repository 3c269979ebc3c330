import colorsys
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from tlprune.data.datasets import TensorImages
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform, TwoViews
from tlprune.data.two_views import RECIPES, ContrastRecipe, ContrastView, jitter_matrices, random_blur, random_crop

PLAIN = ContrastRecipe(min_area=1.0, brightness=0, contrast=0, saturation=0, hue=0, blur=0)


def pictures(count, size=32):
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0))
    return TensorImages(pixels.to(torch.uint8), torch.arange(count) % 2, ["even", "odd"])


def test_every_recipe_has_a_name_that_yaml_takes():
    assert set(get_args(TwoViews)) == set(RECIPES)


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("size", [32, 48])
def test_batches_hold_two_different_views_of_each_image(name, size):
    seen = TransformedDataset(pictures(6, size), ContrastView(32, RECIPES[name]))
    (first, second), labels = seen.__getitems__([0, 3, 5])
    assert first.shape == second.shape == (3, 3, 32, 32)
    assert first.dtype == torch.float32
    assert labels.tolist() == [0, 1, 1]
    assert not torch.equal(first, second)
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_brightness_and_saturation_are_torchvisions():
    images = torch.rand(5, 3, 8, 8) * 0.6
    ones, zeros = torch.ones(5), torch.zeros(5)
    for factor in (0.0, 0.5, 1.3):
        changed = torch.einsum("bij,bjhw->bihw", jitter_matrices(ones * factor, zeros, ones), images).clamp(0, 1)
        torch.testing.assert_close(changed, reference.adjust_saturation(images, factor), atol=2e-3, rtol=0)
        changed = torch.einsum("bij,bjhw->bihw", jitter_matrices(ones, zeros, ones * factor), images).clamp(0, 1)
        torch.testing.assert_close(changed, reference.adjust_brightness(images, factor), atol=1e-3, rtol=0)


def test_hue_turns_the_colour_and_keeps_the_luma():
    red = torch.tensor([0.6, 0.3, 0.3])
    hues = []
    for turn in (-0.2, -0.1, 0.0, 0.1, 0.2):
        matrix = jitter_matrices(torch.ones(1), torch.tensor([turn]), torch.ones(1))[0]
        colour = matrix @ red
        luma = torch.tensor([0.299, 0.587, 0.114])
        assert float(luma @ colour) == pytest.approx(float(luma @ red), abs=1e-4)
        hues.append((colorsys.rgb_to_hsv(*colour.tolist())[0] + 0.5) % 1)
    assert hues == sorted(hues, reverse=hues[0] > hues[-1])
    assert abs(hues[0] - hues[-1]) == pytest.approx(0.4, abs=0.12)


def test_a_crop_shows_a_part_and_the_whole_is_the_image():
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).contiguous()
    torch.manual_seed(0)
    torch.testing.assert_close(
        random_crop(ramp.expand(50, 1, 32, 32), 1.0).mean((1, 2, 3)), torch.full((50,), 0.5), atol=0.1, rtol=0
    )
    spans = [float(one.amax() - one.amin()) for one in random_crop(ramp.expand(200, 1, 32, 32), 0.08)]
    assert 0.2 < min(spans) < 0.45
    assert max(spans) > 0.9


def test_blur_is_torchvisions_for_the_same_width(monkeypatch):
    images = torch.rand(4, 3, 24, 24)
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.fill_(1.5))
    expected = reference.gaussian_blur(images, [13, 13], [1.5, 1.5])
    torch.testing.assert_close(random_blur(images, 1.0), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(random_blur(images, 0.0), images, atol=1e-6, rtol=0)


def test_half_of_the_views_are_mirrored_and_a_fifth_is_grey(monkeypatch):
    monkeypatch.setattr("tlprune.data.two_views.random_crop", lambda images, area: images)
    images = pictures(400).pixels
    expected = EvalTransform(32).normalize_batch(images)
    torch.manual_seed(0)
    first, _ = ContrastView(32, PLAIN).normalize_batch(images)
    same, mirrored = ((first - other).abs().amax((1, 2, 3)) < 0.02 for other in (expected, expected.flip(3)))
    deviation, mean = torch.tensor([0.229, 0.224, 0.225]), torch.tensor([0.485, 0.456, 0.406])
    colours = first * deviation.view(3, 1, 1) + mean.view(3, 1, 1)
    grey = (colours - colours.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 0.01
    assert (same | mirrored | grey).all()
    assert 50 < int(grey.sum()) < 110
    assert 120 < int(same.sum()) < 200
    assert 120 < int(mirrored.sum()) < 200


def test_a_tenth_of_vicregs_views_is_solarized_as_pil_does_it(monkeypatch):
    monkeypatch.setattr("tlprune.data.two_views.random_crop", lambda images, area: images)
    images = pictures(400).pixels
    inverted = torch.where(images >= 128, 255 - images, images)
    plain, solarized = (EvalTransform(32).normalize_batch(either) for either in (images, inverted))
    torch.manual_seed(0)
    recipe = replace(PLAIN, solarize=RECIPES["vicreg"].solarize)
    first, _ = ContrastView(32, recipe).normalize_batch(images)
    counts = []
    for expected in (plain, solarized):
        near = [((first - view).abs().amax((1, 2, 3)) < 0.02) for view in (expected, expected.flip(3))]
        counts.append(int((near[0] | near[1]).sum()))
    assert 260 < counts[0] < 320  # 0.9 of the four fifths that are not grey
    assert 18 < counts[1] < 50
