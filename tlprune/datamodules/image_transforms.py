"""The transforms of a source in training and in validation."""

from dataclasses import replace
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
        image_size: Height and width in pixels of training images, from 1 to 4096; None leaves it to the weights.
        eval_size: Likewise of images that vote or validate; None is ``image_size``.
        usual: Both, where neither the user nor the weights say.
        augment: What varies from epoch to epoch.

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
        """The size of images that vote: as given, else that of images that validate."""
        return replace(self.eval_size, given=self.eval_size.given if given is None else given)

    def train(self, preprocessing: Preprocessing) -> Transform:
        """The transform of training images, for weights with this preprocessing."""
        recipe, size = RECIPES.get(self.augment), self.train_size.expected(preprocessing)
        if recipe is None:
            return TrainTransform(size, cast(Augment, self.augment), preprocessing)
        return ContrastView(size, recipe, preprocessing)

    def eval(self, preprocessing: Preprocessing) -> EvalTransform:
        """The transform of images that validate, for weights with this preprocessing."""
        return EvalTransform(self.eval_size.expected(preprocessing), preprocessing)
