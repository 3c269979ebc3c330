"""How a model sees images: views that take uint8 pixels to normalised floats.

A view has three steps. Images become one size each by itself; what is random after that works on the whole batch,
which is many times faster on small images; both on bytes. Last come floats, which are four times as large: whoever
loads batches for a GPU has that done there.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from tlprune.data.long_images import middle_of_long
from tlprune.errors import require_within
from tlprune.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

__all__ = [
    "MAX_SIZE",
    "MEAN",
    "STD",
    "Augment",
    "EvalTransform",
    "TrainTransform",
    "Transform",
    "TwoViews",
    "mean_and_std",
    "normalize",
    "random_crop",
    "random_flip_",
    "random_shift",
]

Augment = Literal["none", "shift", "crop", "crop_flip"]
"""``none``; ``shift``: by up to an eighth, as is usual for 32-pixel images; ``crop``: RandomResizedCrop; ``crop_flip``:
that and a horizontal flip, as is usual for ImageNet."""

TwoViews = Literal["simclr", "simclr_small", "moco", "simclr_colour"]
"""Two views of each image, for contrastive learning. ``simclr``: for images of ImageNet's kind; ``simclr_small``: half
the change of colour and no blur, for 32-pixel images; ``moco``: MoCo v2."""

MAX_SIZE = 4096
"""The most pixels in height and width that a model may see."""

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
"""Of ImageNet's RGB channels in [0, 1]."""


class Transform(nn.Module):
    """From images to what a model sees.

    Args:
        image_size: Height and width in pixels of what the model sees, at least 1; its own in ``preprocessing`` is not
            looked at.
        preprocessing: How the model's weights expect images; None as in ImageNet's usual evaluation.

    Attributes:
        preprocessing: Without gaps, and with the size that images are seen at.

    Raises:
        InputError: ``image_size`` is out of range.
    """

    recorded_name = "EvalView"
    """What Selections call it, since before it had its present name."""

    def __init__(self, image_size: int, preprocessing: Preprocessing | None = None) -> None:
        super().__init__()
        require_within("image_size", image_size, 1, MAX_SIZE)
        self.image_size = image_size
        self.preprocessing = replace((preprocessing or Preprocessing()).filled(), image_size=image_size)
        resized = round(image_size / cast(float, self.preprocessing.crop_share))
        sides = [resized, resized] if self.preprocessing.crop_mode == "squash" else resized
        interpolation = InterpolationMode(self.preprocessing.interpolation)
        self.centre = v2.Compose([v2.Resize(sides, interpolation, antialias=True), v2.CenterCrop(image_size)])

    @property
    def crops(self) -> bool:
        """Whether each image is cropped at random, even one of the right size."""
        return False

    @property
    def ends_in_bytes(self) -> bool:
        """Whether all that :meth:`normalize_batch` does is :func:`normalize`."""
        return True

    def at_size(self, image_size: int) -> "Transform":
        """The same transform, for another size in pixels."""
        return type(self)(image_size, self.preprocessing)

    def resize(self, pixels: Tensor) -> Tensor:
        """One image ``[3, H, W]`` uint8 to ``[3, S, S]`` uint8.

        An image of the right size is left as it is; any other is resized so that its centre crop keeps the weights'
        share of the short side: 224/256 in the evaluation of ImageNet. Of a very long image the middle alone is
        resized.
        """
        if pixels.shape[1:] == (self.image_size, self.image_size):
            return pixels
        resized: Tensor = self.centre(middle_of_long(pixels))
        return resized

    def augment_batch(self, batch: Tensor) -> Tensor:
        """What differs from epoch to epoch in a batch ``[B, 3, S, S]`` uint8 of one size; may change it in place."""
        return batch

    def normalize_batch(self, batch: Tensor) -> Tensor:
        """A batch ``[B, 3, S, S]`` uint8, augmented, to normalised float32."""
        return self.normalize(batch)

    def normalize(self, batch: Tensor) -> Tensor:
        """:func:`normalize` as the weights expect it."""
        return normalize(batch, *mean_and_std(self.preprocessing))


class EvalTransform(Transform):
    """The transform for voting, validation and test: no randomness."""


class TrainTransform(Transform):
    """The transform for training.

    Args:
        image_size: Height and width in pixels, at least 1.
        augment: What varies from epoch to epoch.
        preprocessing: How the model's weights expect images; random crops follow the interpolation alone.
    """

    recorded_name = "TrainView"

    def __init__(self, image_size: int, augment: Augment, preprocessing: Preprocessing | None = None) -> None:
        super().__init__(image_size, preprocessing)
        self.augment = augment
        interpolation = InterpolationMode(self.preprocessing.interpolation)
        self.crop = v2.RandomResizedCrop(image_size, interpolation=interpolation, antialias=True)

    @property
    def crops(self) -> bool:
        """Whether ``augment`` is one of the crops."""
        return self.augment in ("crop", "crop_flip")

    def at_size(self, image_size: int) -> Transform:
        """The same transform, for another size in pixels."""
        return type(self)(image_size, self.augment, self.preprocessing)

    def resize(self, pixels: Tensor) -> Tensor:
        """As the evaluation transform, but a random crop where ``augment`` says so."""
        return random_crop(pixels, self.crop) if self.crops else super().resize(pixels)

    def augment_batch(self, batch: Tensor) -> Tensor:
        """Shifts or flips each image by itself."""
        if self.augment == "shift":
            return random_shift(batch, self.image_size // 8)
        return random_flip_(batch) if self.augment == "crop_flip" else batch


def mean_and_std(preprocessing: Preprocessing) -> tuple[Sequence[float], Sequence[float]]:
    """What weights expect images to be normalised by, ImageNet's where that is not known."""
    known = preprocessing.filled()
    return known.mean or MEAN, known.std or STD


def normalize(batch: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """As models see images: less the mean, over the standard deviation.

    Args:
        batch: ``[B, 3, H, W]`` uint8, or float in [0, 255], on any device.
        mean: Of the channels, in [0, 1].
        std: Of the channels, in (0, 1].

    Returns:
        The same shape, float32.
    """
    if batch.device.type == "cpu":  # plane by plane, a processor does the same to long runs of values
        batch = batch.contiguous()
    centre, spread = (torch.tensor([*of]).to(batch.device).view(3, 1, 1) * 255 for of in (mean, std))
    return torch.sub(batch, centre).div_(spread)


def random_crop(pixels: Tensor, crop: v2.RandomResizedCrop) -> Tensor:
    """What ``crop`` makes of one image ``[3, H, W]`` uint8, without asking first what kind of thing it is given.

    The part that is kept is laid out pixel by pixel before it is resized, which torch does faster so; so is the result.
    """
    part = functional.crop_image(pixels, **crop.make_params([pixels]))
    part = part[None].contiguous(memory_format=torch.channels_last)
    resized: Tensor = functional.resize_image(part, list(crop.size), crop.interpolation, antialias=True)
    return resized[0]


def random_shift(batch: Tensor, reach: int) -> Tensor:
    """Shifts each image by up to ``reach`` pixels each way, edges repeated.

    Args:
        batch: ``[B, C, H, W]``.
        reach: Pixels, at least 0.

    Returns:
        The same shape and dtype.
    """
    count, channels, height, width = batch.shape
    moves = torch.randint(-reach, reach + 1, (count, 2))
    rows = (moves[:, :1] + torch.arange(height)).clamp_(0, height - 1)
    columns = (moves[:, 1:] + torch.arange(width)).clamp_(0, width - 1)
    places = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
    return batch.flatten(2).gather(2, places).view_as(batch)


def random_flip_(batch: Tensor) -> Tensor:
    """Mirrors each image left to right with probability one half, in place; ``[B, C, H, W]``."""
    for index in (torch.rand(len(batch)) < 0.5).nonzero().squeeze(1).tolist():
        # one after the other: an image fits the processor's cache, a batch does not
        batch[index] = batch[index].flip(2)
    return batch
