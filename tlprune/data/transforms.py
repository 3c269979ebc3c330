"""How a model sees images: views that take uint8 pixels to normalised floats.

A view has two halves. Images become one size each by itself; what is random or arithmetic after that works on the
whole batch, which is many times faster on small images.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from tlprune.errors import require_within

__all__ = [
    "MAX_SIZE",
    "MEAN",
    "STD",
    "Augment",
    "EvalView",
    "TrainView",
    "TwoViews",
    "View",
    "random_flip",
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

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's RGB channels in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's RGB channels in [0, 1]."""


class View(nn.Module):
    """Takes images to what a model sees.

    Args:
        image_size: Height and width in pixels of what the model sees, at least 1.

    Raises:
        InputError: ``image_size`` is out of range.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        require_within("image_size", image_size, 1, MAX_SIZE)
        self.image_size = image_size
        self.centre = v2.Compose([v2.Resize(round(image_size * 256 / 224), antialias=True), v2.CenterCrop(image_size)])

    @property
    def crops(self) -> bool:
        """Whether each image is cropped at random, even one of the right size."""
        return False

    def at_size(self, image_size: int) -> "View":
        """The same view of another size in pixels."""
        return type(self)(image_size)

    def resize(self, pixels: Tensor) -> Tensor:
        """One image ``[3, H, W]`` uint8 to ``[3, S, S]`` uint8.

        An image of the right size is left as it is; any other is resized so that its centre crop keeps 224/256 of the
        short side, the evaluation view of ImageNet.
        """
        if pixels.shape[1:] == (self.image_size, self.image_size):
            return pixels
        resized: Tensor = self.centre(pixels)
        return resized

    def finish(self, batch: Tensor) -> Tensor:
        """A batch ``[B, 3, S, S]`` uint8 to normalised float32."""
        mean, std = torch.tensor(MEAN).view(3, 1, 1) * 255, torch.tensor(STD).view(3, 1, 1) * 255
        return batch.float().sub_(mean).div_(std)


class EvalView(View):
    """The view for voting, validation and test: no randomness."""


class TrainView(View):
    """The view for training.

    Args:
        image_size: Height and width in pixels, at least 1.
        augment: What varies from epoch to epoch.
    """

    def __init__(self, image_size: int, augment: Augment) -> None:
        super().__init__(image_size)
        self.augment = augment
        self.crop = v2.RandomResizedCrop(image_size, antialias=True)

    @property
    def crops(self) -> bool:
        """Whether ``augment`` is one of the crops."""
        return self.augment in ("crop", "crop_flip")

    def at_size(self, image_size: int) -> View:
        """The same view of another size in pixels."""
        return type(self)(image_size, self.augment)

    def resize(self, pixels: Tensor) -> Tensor:
        """As the evaluation view, but a random crop where ``augment`` says so."""
        if self.crops:
            cropped: Tensor = self.crop(pixels)
            return cropped
        return super().resize(pixels)

    def finish(self, batch: Tensor) -> Tensor:
        """Shifts or flips each image by itself, then as the evaluation view."""
        if self.augment == "shift":
            batch = random_shift(batch, self.image_size // 8)
        if self.augment == "crop_flip":
            batch = random_flip(batch)
        return super().finish(batch)


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


def random_flip(batch: Tensor) -> Tensor:
    """Mirrors each image left to right with probability one half; ``[B, C, H, W]``, same shape and dtype."""
    chosen = torch.rand(len(batch)) < 0.5
    return torch.where(chosen[:, None, None, None], batch.flip(3), batch)
