"""Two views of each image for contrastive learning.

Crops, flips, colour jitter, greyscale and blur follow SimCLR (Chen et al., 2020, appendix A), MoCo v2 (Chen et al.,
2020) and VICReg (Bardes et al., 2022, appendix C.1). Each image has its own random parameters, but a whole batch is
transformed at once, which is many times faster for 32-pixel images. The colour jitter of an image is one matrix:
saturation and hue scale and rotate the chroma plane of YIQ.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from tlprune.data.transforms import Transform
from tlprune.data.transforms import random_crop as one_crop
from tlprune.preprocessing import Preprocessing

__all__ = ["RECIPES", "ContrastRecipe", "ContrastView", "jitter_matrices", "random_blur", "random_crop"]


@dataclass(frozen=True)
class ContrastRecipe:
    """Strength of the augmentation between two views of an image.

    Args:
        min_area: Smallest share of the image area that a crop shows.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        saturation: Largest relative change of saturation.
        hue: Largest rotation of hue, as a share of the colour circle.
        blur: Probability of a Gaussian blur with a standard deviation from 0.1 to 2 pixels.
        solarize: Probability that values above the middle are inverted.
    """

    min_area: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    blur: float
    solarize: float = 0.0


RECIPES: dict[str, ContrastRecipe] = {
    "simclr": ContrastRecipe(0.08, 0.8, 0.8, 0.8, 0.2, blur=0.5),
    "simclr_small": ContrastRecipe(0.08, 0.4, 0.4, 0.4, 0.1, blur=0.0),
    "simclr_colour": ContrastRecipe(0.08, 0.8, 0.8, 0.8, 0.5, blur=0.0),
    "moco": ContrastRecipe(0.2, 0.4, 0.4, 0.4, 0.1, blur=0.5),
    "vicreg": ContrastRecipe(0.08, 0.4, 0.4, 0.2, 0.1, blur=0.5, solarize=0.1),
}
"""Recipes by the names that ``augment`` takes. ``simclr_small`` is the recipe of SimCLR for CIFAR-10; ``simclr_colour``
rotates hue by any angle, so that a surrogate of small images cannot recognise an image by colour alone."""

_JITTERED, _GREY, _FLIPPED = 0.8, 0.2, 0.5
_LUMA = torch.tensor([0.299, 0.587, 0.114])
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


class ContrastView(Transform):
    """Transform to two views of each image: a batch is a list of two ``[B, 3, S, S]``.

    Args:
        image_size: Height and width in pixels, at least 1.
        recipe: Strength of the augmentation.
        preprocessing: Preprocessing that the weights of the model expect; crops use only its interpolation.
    """

    def __init__(self, image_size: int, recipe: ContrastRecipe, preprocessing: Preprocessing | None = None) -> None:
        super().__init__(image_size, preprocessing)
        self.recipe = recipe
        interpolation = InterpolationMode(self.preprocessing.interpolation)
        scale = (recipe.min_area, 1.0)
        self.crop = v2.RandomResizedCrop(image_size, scale, interpolation=interpolation, antialias=True)

    @property
    def ends_in_bytes(self) -> bool:
        """False: colour jitter works on floats."""
        return False

    def at_size(self, image_size: int) -> Transform:
        """Returns the same transform for another size in pixels."""
        return type(self)(image_size, self.recipe, self.preprocessing)

    def resize(self, pixels: Tensor) -> Tensor:
        """Takes two random crops of an image ``[3, H, W]`` uint8: ``[2, 3, S, S]`` uint8."""
        return torch.stack([one_crop(pixels, self.crop), one_crop(pixels, self.crop)])

    def normalize_batch(self, batch: Tensor) -> list[Tensor]:  # type: ignore[override]  # two batches instead of one
        """Converts images ``[B, 3, S, S]`` uint8, or crops of :meth:`resize`, to two normalised float32 batches."""
        views = []
        for number in range(2):
            if batch.ndim == 5:
                view = batch[:, number].float().div_(255)
            else:
                view = random_crop(batch.float().div_(255), self.recipe.min_area)
            flipped = torch.rand(len(view)) < _FLIPPED
            view = torch.where(flipped[:, None, None, None], view.flip(3), view)
            if self.recipe.blur:
                view = random_blur(view, self.recipe.blur)
            views.append(self.normalize(_recoloured(view, self.recipe).mul_(255)))
        return views


def random_crop(images: Tensor, min_area: float) -> Tensor:
    """Crops a random part of each image and resizes it to the full size: RandomResizedCrop for a batch.

    Args:
        images: Images, ``[B, C, H, W]`` float.
        min_area: Smallest share of the area, in (0, 1]; the aspect ratio is from 3/4 to 4/3.

    Returns:
        Crops of the same shape.
    """
    count = len(images)
    area = torch.empty(count).uniform_(min_area, 1)
    ratio = torch.empty(count).uniform_(math.log(3 / 4), math.log(4 / 3)).exp_()
    width, height = (area * ratio).sqrt_().clamp_(max=1), (area / ratio).sqrt_().clamp_(max=1)
    across, down = ((torch.rand(count) * 2 - 1) * (1 - side) for side in (width, height))
    none = torch.zeros(count)
    where = torch.stack([torch.stack([width, none, across], 1), torch.stack([none, height, down], 1)], 1)
    grid = F.affine_grid(where, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jitter_matrices(saturation: Tensor, hue: Tensor, brightness: Tensor) -> Tensor:
    """Computes the colour jitter of each image as a matrix on RGB.

    Args:
        saturation: Factor of saturation, ``[B]``; 0 is grey, 1 changes nothing.
        hue: Rotation of hue in turns of the colour circle, ``[B]``, in [-0.5, 0.5].
        brightness: Factor of brightness, ``[B]``; 1 changes nothing.

    Returns:
        Matrices, ``[B, 3, 3]``.

    Example:
        >>> one = torch.ones(1)
        >>> torch.allclose(jitter_matrices(one, 0 * one, one)[0], torch.eye(3), atol=1e-4)
        True
    """
    angle = 2 * math.pi * hue
    cosine, sine = saturation * angle.cos(), saturation * angle.sin()
    chroma = torch.zeros(len(hue), 3, 3)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1], chroma[:, 1, 2] = cosine, -sine
    chroma[:, 2, 1], chroma[:, 2, 2] = sine, cosine
    changed: Tensor = brightness[:, None, None] * (torch.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ)
    return changed


def _recoloured(images: Tensor, recipe: ContrastRecipe) -> Tensor:
    """Jitters colours of images ``[B, 3, H, W]`` in [0, 1] with probability 0.8, converts to grey with 0.2.

    Some are solarized, if the recipe says so.
    """
    count = len(images)

    def factor(reach: float) -> Tensor:
        return 1 + reach * (torch.rand(count) * 2 - 1)

    jittered = torch.rand(count) < _JITTERED
    ones = torch.ones(count)
    brightness, contrast, saturation = (
        torch.where(jittered, factor(reach), ones) for reach in (recipe.brightness, recipe.contrast, recipe.saturation)
    )
    hue = torch.where(jittered, recipe.hue * (torch.rand(count) * 2 - 1), ones * 0)
    saturation = torch.where(torch.rand(count) < _GREY, ones * 0, saturation)
    pixels = images.flatten(2)
    mixed = torch.bmm(jitter_matrices(saturation, hue, brightness), pixels)
    middle = (_LUMA @ mixed).mean(1)[:, None, None]
    coloured = middle.lerp(mixed, contrast[:, None, None]).clamp_(0, 1).view_as(images)
    return _solarized(coloured, recipe.solarize) if recipe.solarize else coloured


def _solarized(images: Tensor, probability: float) -> Tensor:
    """Inverts values from 128 of 255 on, in random images ``[B, 3, H, W]`` in [0, 1]."""
    chosen = (torch.rand(len(images)) < probability)[:, None, None, None]
    return torch.where(chosen & (images >= 128 / 255), 1 - images, images)


def random_blur(images: Tensor, probability: float) -> Tensor:
    """Applies Gaussian blur to random images, each with a random standard deviation from 0.1 to 2 pixels.

    Args:
        images: Images, ``[B, C, H, W]`` float.
        probability: Probability that an image is blurred.
    """
    count, channels, height, width = images.shape
    radius = min(6, (min(height, width) - 1) // 2)
    sigma = torch.empty(count).uniform_(0.1, 2.0)
    sigma[torch.rand(count) >= probability] = 1e-3
    offsets = torch.arange(-radius, radius + 1)
    weights = (-0.5 * (offsets / sigma[:, None]) ** 2).exp()
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    flat = images.reshape(1, count * channels, height, width)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="reflect")
    flat = F.conv2d(flat, weights[:, :, :, None], groups=count * channels)
    return F.conv2d(flat, weights[:, :, None, :], groups=count * channels).view_as(images)
