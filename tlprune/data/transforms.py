"""Transforms from uint8 pixels to normalised floats.

A transform has three steps. The first resizes each image, the second augments the whole batch, which is many times
faster on small images; both work on bytes. The last step converts to normalised floats, which take four times the
memory, so for a GPU it runs there.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from tlprune.data.long_images import middle_of_long
from tlprune.errors import require_within
from tlprune.preprocessing import EVAL_VIEW, IMAGENET_MEAN, IMAGENET_STD, Preprocessing

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

Augment = Literal["none", "shift", "crop", "crop_flip", "randaugment", "trivialaugment", "autoaugment"]
"""Augmentations: ``none``; ``shift`` by up to an eighth, common for 32-pixel images; ``crop``, RandomResizedCrop;
``crop_flip``, RandomResizedCrop and horizontal flip, common for ImageNet; ``randaugment``, ``trivialaugment`` and
``autoaugment``, the same and then that policy (:mod:`tlprune.data.policies`)."""

TwoViews = Literal["simclr", "simclr_small", "moco", "vicreg", "simclr_colour"]
"""Augmentations with two views per image for contrastive learning: ``simclr`` for images like ImageNet;
``simclr_small``, with half the colour change and no blur, for 32-pixel images; ``moco``, MoCo v2; ``vicreg``."""

MAX_SIZE = 4096
"""Largest height and width of model input in pixels."""

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
"""Mean and standard deviation of the RGB channels of ImageNet in [0, 1]."""


class Transform(nn.Module):
    """Base class of transforms from images to model input.

    Args:
        image_size: Height and width in pixels of the model input, at least 1; the size in ``preprocessing`` is ignored.
        preprocessing: Preprocessing that the weights of the model expect; None for the usual ImageNet evaluation.

    Attributes:
        preprocessing: Preprocessing with all values filled in, and with ``image_size``.

    Raises:
        InputError: ``image_size`` is out of range.
    """

    recorded_name = EVAL_VIEW
    """Name of the transform in Selections."""

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
        """Whether :meth:`resize` changes images that have the right size already, as random crops do."""
        return False

    @property
    def runs_on_device(self) -> bool:
        """Whether images of the right size can be augmented on any device, with the same result."""
        return False

    @property
    def ends_in_bytes(self) -> bool:
        """Whether :meth:`normalize_batch` does nothing but :func:`normalize` to bytes, and nothing to floats."""
        return True

    def at_size(self, image_size: int) -> "Transform":
        """Returns the same transform for another size in pixels."""
        return type(self)(image_size, self.preprocessing)

    def drawing(self) -> AbstractContextManager[None]:
        """Returns a context in which a batch is resized and augmented."""
        return nullcontext()

    def resize(self, pixels: Tensor) -> Tensor:
        """Resizes an image ``[3, H, W]`` uint8 to ``[3, S, S]`` uint8.

        An image of the right size is returned unchanged. Any other image is resized so that the centre crop shows the
        share of the short side that the weights expect, 224/256 in the evaluation of ImageNet. Very long images are
        first cropped to their middle.
        """
        if pixels.shape[1:] == (self.image_size, self.image_size):
            return pixels
        resized: Tensor = self.centre(middle_of_long(pixels))
        return resized

    def augment_batch(self, batch: Tensor) -> Tensor:
        """Applies random augmentation to a batch ``[B, 3, S, S]`` uint8, possibly in place."""
        return batch

    def normalize_batch(self, batch: Tensor) -> Tensor:
        """Converts an augmented batch ``[B, 3, S, S]`` uint8 to normalised float32."""
        return self.normalize(batch)

    def normalize(self, batch: Tensor) -> Tensor:
        """Applies :func:`normalize` with the mean and deviation that the weights expect."""
        return normalize(batch, *mean_and_std(self.preprocessing))


class EvalTransform(Transform):
    """The deterministic transform for voting, validation and test."""

    @property
    def runs_on_device(self) -> bool:
        """True: images of the right size are left as they are."""
        return True


class TrainTransform(Transform):
    """The transform for training.

    Args:
        image_size: Height and width in pixels, at least 1.
        augment: Augmentation of training images.
        preprocessing: Preprocessing that the weights of the model expect; random crops use only its interpolation.
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

    @property
    def runs_on_device(self) -> bool:
        """Whether ``augment`` works on whole batches: ``none`` and ``shift``."""
        return self.augment in ("none", "shift")

    def at_size(self, image_size: int) -> Transform:
        """Returns the same transform for another size in pixels."""
        return type(self)(image_size, self.augment, self.preprocessing)

    def resize(self, pixels: Tensor) -> Tensor:
        """Resizes like the evaluation transform, or takes a random crop if ``augment`` is a crop."""
        return random_crop(pixels, self.crop) if self.crops else super().resize(pixels)

    def augment_batch(self, batch: Tensor) -> Tensor:
        """Shifts or flips each image independently."""
        if self.augment == "shift":
            return random_shift(batch, self.image_size // 8)
        return random_flip_(batch) if self.augment == "crop_flip" else batch


def mean_and_std(preprocessing: Preprocessing) -> tuple[Sequence[float], Sequence[float]]:
    """Returns mean and standard deviation that weights expect; those of ImageNet if not known."""
    known = preprocessing.filled()
    return known.mean or MEAN, known.std or STD


def normalize(batch: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Normalises images: subtracts the mean and divides by the standard deviation.

    Args:
        batch: Images, ``[B, 3, H, W]`` uint8, or float in [0, 255], on any device.
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel, in (0, 1].

    Returns:
        Normalised images of the same shape, float32.
    """
    if batch.device.type == "cpu":  # channel by channel, a CPU applies the same operation to long contiguous runs
        batch = batch.contiguous()
    centre, spread = (_by_channel(tuple(of), batch.device) for of in (mean, std))
    return torch.sub(batch, centre).div_(spread)


@lru_cache(maxsize=64)
def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Returns values in [0, 1] as bytes, ``[3, 1, 1]`` float32; sent to a GPU once, since each copy waits for it."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values).to(device).view(3, 1, 1) * 255


def random_crop(pixels: Tensor, crop: v2.RandomResizedCrop) -> Tensor:
    """Applies ``crop`` to an image ``[3, H, W]`` uint8 without the type dispatch of torchvision.

    The cropped part is copied to channels-last layout before it is resized, which is faster in torch; the result has
    the same layout.
    """
    part = functional.crop_image(pixels, **crop.make_params([pixels]))
    part = part[None].contiguous(memory_format=torch.channels_last)
    resized: Tensor = functional.resize_image(part, list(crop.size), crop.interpolation, antialias=True)
    return resized[0]


def random_shift(batch: Tensor, reach: int) -> Tensor:
    """Shifts each image by up to ``reach`` pixels in each direction, with edges repeated.

    Args:
        batch: Images, ``[B, C, H, W]``, on any device; the shifts are drawn on the CPU, so they are the same on all.
        reach: Largest shift in pixels, at least 0.

    Returns:
        Shifted images of the same shape and dtype.
    """
    count, channels, height, width = batch.shape
    moves = torch.randint(-reach, reach + 1, (count, 2)).to(batch.device, non_blocking=True)
    rows = (moves[:, :1] + torch.arange(height, device=batch.device)).clamp_(0, height - 1)
    columns = (moves[:, 1:] + torch.arange(width, device=batch.device)).clamp_(0, width - 1)
    places = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
    return batch.flatten(2).gather(2, places).view_as(batch)


def random_flip_(batch: Tensor) -> Tensor:
    """Flips each image of ``[B, C, H, W]`` horizontally with probability one half, in place."""
    for index in (torch.rand(len(batch)) < 0.5).nonzero().squeeze(1).tolist():
        # one image at a time: an image fits into the CPU cache, a batch does not
        batch[index] = batch[index].flip(2)
    return batch
