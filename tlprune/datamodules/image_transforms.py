"""The transforms of images in training and in validation."""

from collections.abc import Iterable
from typing import cast, get_args

from tlprune.data.datasets import ImageSet
from tlprune.data.image_size import ImageSize
from tlprune.data.own_transform import ImageTransform, OwnTransform, require_callable
from tlprune.data.policies import POLICIES, PolicyTransform
from tlprune.data.transforms import MAX_SIZE, Augment, EvalTransform, TrainTransform, Transform, TwoViews
from tlprune.data.two_views import RECIPES, ContrastView
from tlprune.errors import InputError, did_you_mean, require_within
from tlprune.preprocessing import Preprocessing

__all__ = ["ONE_VIEW", "SourceTransforms", "augmented", "check_transforms"]

ONE_VIEW: tuple[str, ...] = get_args(Augment)
"""Names of augmentations that give one view of each image."""


class SourceTransforms:
    """The transforms of a source in training and in validation.

    Args:
        image_size: Height and width in pixels of training images, from 1 to 4096; None for the size of the weights.
        eval_size: Height and width in pixels of voting and validation images, from 1 to 4096; None for ``image_size``.
        usual: Default of both if neither the user nor the weights define a size.
        augment: Augmentation of training images.
        transform: Callable in place of ``augment``; None for ``augment``.
        eval_transform: Callable for validation images; None for the usual evaluation. Voting images never see it.

    Raises:
        InputError: A size is out of range.
    """

    def __init__(
        self,
        image_size: int | None,
        eval_size: int | None,
        usual: int,
        augment: Augment | TwoViews,
        transform: ImageTransform | None = None,
        eval_transform: ImageTransform | None = None,
    ) -> None:
        for name, size in (("image_size", image_size), ("eval_size", eval_size)):
            if size is not None:
                require_within(name, size, 1, MAX_SIZE)
        self.train_size = ImageSize(image_size, usual)
        self.eval_size = ImageSize(image_size if eval_size is None else eval_size, usual)
        self.augment = augment
        self.transform, self.eval_transform = transform, eval_transform

    def voting_size(self, given: int | None) -> ImageSize:
        """Returns the size of voting images: ``given``, else that of the surrogate, else that of validation images."""
        return ImageSize(given, self.eval_size.given or self.eval_size.usual)

    def train(self, preprocessing: Preprocessing) -> Transform:
        """Returns the transform of training images for weights with this preprocessing."""
        size = self.train_size.expected(preprocessing)
        if self.transform is not None:
            return OwnTransform(size, self.transform, "transform", "image_size", preprocessing)
        return augmented(size, self.augment, preprocessing)

    def eval(self, preprocessing: Preprocessing) -> Transform:
        """Returns the transform of validation images for weights with this preprocessing."""
        if self.eval_transform is None:
            return self.usual_eval(preprocessing)
        size = self.eval_size.expected(preprocessing)
        return OwnTransform(size, self.eval_transform, "eval_transform", "eval_size", preprocessing)

    def usual_eval(self, preprocessing: Preprocessing) -> EvalTransform:
        """Returns the evaluation transform that weights with this preprocessing expect, whatever the user gives."""
        return EvalTransform(self.eval_size.expected(preprocessing), preprocessing)

    def check(self, images: ImageSet, preprocessing: Preprocessing) -> None:
        """Tries the user's transforms on a few images. A size that the weights may say is not checked yet.

        Raises:
            InputError: A transform fails, or gives something else than images.
        """
        for make, size in ((self.train, self.train_size), (self.eval, self.eval_size)):
            transform = make(preprocessing)
            if isinstance(transform, OwnTransform):
                transform.check(images, size_is_known=size.given is not None)


def augmented(image_size: int, augment: Augment | TwoViews, preprocessing: Preprocessing) -> Transform:
    """Returns the transform of training images by the name of its augmentation.

    Args:
        image_size: Height and width in pixels.
        augment: Name of the augmentation.
        preprocessing: Preprocessing that the weights expect.
    """
    if augment in RECIPES:
        return ContrastView(image_size, RECIPES[augment], preprocessing)
    kind = PolicyTransform if augment in POLICIES else TrainTransform
    return kind(image_size, cast(Augment, augment), preprocessing)


def check_transforms(
    augment: str | None, allowed: Iterable[str], transform: object = None, eval_transform: object = None
) -> None:
    """Checks how a user wants images transformed.

    Args:
        augment: Name of an augmentation, or None where none is asked for.
        allowed: Names that there are.
        transform: Callable for training images, or None.
        eval_transform: Callable for validation images, or None.

    Raises:
        InputError: There is no augmentation of that name, it is given beside a transform, or a transform is not
            callable.
    """
    if augment is not None and augment not in allowed:
        raise InputError(f"`augment` has no {augment!r}: {did_you_mean(str(augment), allowed)}")
    require_callable("transform", transform)
    require_callable("eval_transform", eval_transform)
    if transform is not None and augment is not None:
        raise InputError(f"give `transform` in place of `augment`, not both: got {augment!r} too")
