"""At which size, and through which views, images are seen: the user decides, then the weights, then the set."""

from dataclasses import dataclass
from typing import cast
from warnings import warn

from tlprune.data.transforms import MAX_SIZE, Augment, EvalTransform, TrainTransform, Transform, TwoViews
from tlprune.data.two_views import RECIPES, ContrastView
from tlprune.errors import require_within
from tlprune.preprocessing import Preprocessing

__all__ = ["ImageSize", "SourceViews"]

_FAR = 2
"""How many times larger or smaller than the weights' own a size is worth a warning."""


@dataclass(frozen=True)
class ImageSize:
    """Height and width in pixels that images are seen at.

    Args:
        given: By the user, from 1 to 4096; None leaves it to the weights.
        usual: Where neither the user nor the weights say.
    """

    given: int | None
    usual: int

    def expected(self, preprocessing: Preprocessing) -> int:
        """The size for weights.

        Args:
            preprocessing: How the weights expect images.
        """
        return self.given or preprocessing.image_size or self.usual

    def warn_if_far(self, preprocessing: Preprocessing, whose: str) -> None:
        """Says so where the user has images seen at a size that weights were not made for.

        Args:
            preprocessing: How the weights expect images.
            whose: What the message calls the weights.
        """
        own = preprocessing.image_size
        if self.given is not None and own is not None and not own / _FAR < self.given < own * _FAR:
            warn(f"{whose} expects images of {own} pixels, and is given {self.given} (`image_size`)", stacklevel=2)


class SourceViews:
    """How a source is seen in training and in validation.

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

    def train(self, preprocessing: Preprocessing) -> Transform:
        """The view of training images, for weights that expect them so."""
        recipe, size = RECIPES.get(self.augment), self.train_size.expected(preprocessing)
        if recipe is None:
            return TrainTransform(size, cast(Augment, self.augment), preprocessing)
        return ContrastView(size, recipe, preprocessing)

    def eval(self, preprocessing: Preprocessing) -> EvalTransform:
        """The view of images that validate, for weights that expect them so."""
        return EvalTransform(self.eval_size.expected(preprocessing), preprocessing)
