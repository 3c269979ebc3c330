"""Training images of the target that are part of each batch, without labels."""

from collections.abc import Callable, Sequence

from tlprune.data.datasets import ImageSet
from tlprune.data.mixed import MixedDataset, included_in_batch
from tlprune.data.opening import Target, training_images
from tlprune.data.transformed import TransformedDataset
from tlprune.data.two_views import RECIPES
from tlprune.errors import InputError

__all__ = ["IncludedTarget"]


class IncludedTarget:
    """A share of each training batch that training images of the targets make up, without their labels.

    Args:
        share: Share of each batch, in (0, 1).
        targets: Whose training images are included.
        augment: Augmentation of training images.
        batch_size: Batch size of one process.

    Raises:
        InputError: The share is out of range, there is no target, or the augmentation has not two views.
    """

    def __init__(self, share: float, targets: Sequence[Target], augment: str, batch_size: int) -> None:
        included_in_batch(share, batch_size)
        if augment not in RECIPES:
            what = f"`include_target` needs an `augment` of two views ({', '.join(RECIPES)}), got {augment!r}"
            raise InputError(f"{what}: labels of a target are no labels of the source")
        if not targets:
            raise InputError("`include_target` needs `target`: whose training images shall be included?")
        self.share = share
        self.targets = targets
        self._images: list[ImageSet] = []

    def opened(self, seed: int) -> list[ImageSet]:
        """Opens the training images of each target; validation and test images are never included.

        Args:
            seed: Seed of the split of targets that have no split of their own.

        Raises:
            InputError: A target cannot be opened, or there are no training images.
        """
        images = [images for _, images in training_images(self.targets, seed)]
        if not any(map(len, images)):
            raise InputError("`include_target`: the target has no training images")
        return images

    def load(self, seed: int, at_hand: Callable[[ImageSet], ImageSet], in_memory: bool) -> None:
        """Opens the images for training.

        Args:
            seed: As for :meth:`opened`.
            at_hand: Function that decodes or packs a set as the user wants it for the source.
            in_memory: Whether it decodes to memory: a target whose images have several sizes is then read from files.

        Raises:
            InputError: An image cannot be read.
        """
        for images in filter(len, self.opened(seed)):
            try:
                self._images.append(at_hand(images))
            except InputError:
                if not in_memory:
                    raise
                self._images.append(images)

    def beside(self, images: TransformedDataset) -> MixedDataset:
        """Returns training images with the included ones beside them, under the same transform."""
        return MixedDataset(images, [TransformedDataset(one, images.transform) for one in self._images], self.share)
