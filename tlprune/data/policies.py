"""Random crop, horizontal flip and a published augmentation policy, as torchvision's training recipes combine them."""

from typing import cast

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from tlprune.data.transforms import Augment, TrainTransform, random_crop
from tlprune.preprocessing import Preprocessing

__all__ = ["POLICIES", "PolicyTransform"]

POLICIES: dict[str, type[v2.Transform]] = {
    "randaugment": v2.RandAugment,
    "trivialaugment": v2.TrivialAugmentWide,
    "autoaugment": v2.AutoAugment,
}
"""Policies by the names that ``augment`` takes: RandAugment (Cubuk et al., 2020) with two operations of magnitude 9;
TrivialAugment (Müller and Hutter, 2021) with its wide ranges; AutoAugment (Cubuk et al., 2019) as learned on ImageNet.
These are torchvision's defaults, which its reference recipes use too; random erasing is not part of them."""

_FLIPPED = 0.5


class PolicyTransform(TrainTransform):
    """RandomResizedCrop, a horizontal flip with probability one half, then a policy. Each image draws for itself.

    Args:
        image_size: Height and width in pixels, at least 1.
        augment: Name of the policy.
        preprocessing: Preprocessing that the weights of the model expect; crops use only its interpolation. A policy
            turns and shears images with it too, or bilinear where it is bicubic, which torchvision has for PIL images
            only.
    """

    def __init__(self, image_size: int, augment: Augment, preprocessing: Preprocessing | None = None) -> None:
        super().__init__(image_size, augment, preprocessing)
        nearest = self.preprocessing.interpolation == "nearest"
        interpolation = InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR
        self.policy = POLICIES[augment](interpolation=interpolation)

    @property
    def crops(self) -> bool:
        """True: every image is cropped."""
        return True

    def resize(self, pixels: Tensor) -> Tensor:
        """Crops, flips and augments an image ``[3, H, W]`` uint8: ``[3, S, S]`` uint8."""
        cropped = random_crop(pixels, self.crop)
        flipped = cropped.flip(2) if torch.rand(()) < _FLIPPED else cropped
        return cast(Tensor, self.policy(flipped))

    def augment_batch(self, batch: Tensor) -> Tensor:
        """Returns the batch unchanged: its images are augmented."""
        return batch
