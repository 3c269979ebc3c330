"""The transforms of a source in training and in validation."""

from typing import cast

from tlprune.data.image_size import ImageSize
from tlprune.data.transforms import MAX_SIZE, Augment, EvalTransform, TrainTransform, Transform, TwoViews
from tlprune.data.two_views import RECIPES, ContrastView
from tlprune.errors import require_within
from tlprune.preprocessing import Preprocessing

__all__ = ["SourceTransforms"]


class SourceTransforms:
    """The transforms of a source in training and in validation.

    Args:
        image_size: Height and width in pixels of training images, from 1 to 4096; None for the size of the weights.
        eval_size: Height and width in pixels of voting and validation images, from 1 to 4096; None for ``image_size``.
        usual: Default of both if neither the user nor the weights define a size.
        augment: Augmentation of training images.

    Raises:
        InputError: A size is out of range.
    """

    def __init__(self, image_size: int | None, eval_size: int | None, usual: int, augment: Augment | TwoViews) -> None:
        for name, size in (("image_size", image_size), ("eval_size", eval_size)):
            if size is not None:
                require_within(name, size, 1, MAX_SIZE)
        self.train_size = ImageSize(image_size, usual)
        self.eval_size = ImageSize(image_size if eval_size is None else eval_size, usual)
        self.augment = augment

    def voting_size(self, given: int | None) -> ImageSize:
        """Returns the size of voting images: ``given``, else that of the surrogate, else that of validation images."""
        return ImageSize(given, self.eval_size.given or self.eval_size.usual)

    def train(self, preprocessing: Preprocessing) -> Transform:
        """Returns the transform of training images for weights with this preprocessing."""
        recipe, size = RECIPES.get(self.augment), self.train_size.expected(preprocessing)
        if recipe is None:
            return TrainTransform(size, cast(Augment, self.augment), preprocessing)
        return ContrastView(size, recipe, preprocessing)

    def eval(self, preprocessing: Preprocessing) -> EvalTransform:
        """Returns the transform of validation images for weights with this preprocessing."""
        return EvalTransform(self.eval_size.expected(preprocessing), preprocessing)
