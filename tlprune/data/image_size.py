"""Chooses the image size: the user's choice, else that of the weights, else the usual size of the set."""

from dataclasses import dataclass
from warnings import warn

from tlprune.preprocessing import Preprocessing

__all__ = ["ImageSize"]

_FAR = 2
"""Factor by which an image size may differ from the size of the weights without a warning."""


@dataclass(frozen=True)
class ImageSize:
    """Height and width in pixels of the images that a model receives.

    Args:
        given: Size chosen by the user, from 1 to 4096; None uses the size of the weights.
        usual: Size if neither the user nor the weights define one.
    """

    given: int | None
    usual: int

    def expected(self, preprocessing: Preprocessing) -> int:
        """Returns the size for given weights.

        Args:
            preprocessing: Preprocessing that the weights expect.
        """
        return self.given or preprocessing.image_size or self.usual

    def warn_if_far(self, preprocessing: Preprocessing, whose: str) -> None:
        """Warns if the size chosen by the user differs much from the size of the weights.

        Args:
            preprocessing: Preprocessing that the weights expect.
            whose: Name of the weights in the warning.
        """
        own = preprocessing.image_size
        if self.given is not None and own is not None and not own / _FAR < self.given < own * _FAR:
            warn(f"{whose} expects images of {own} pixels, and is given {self.given} (`image_size`)", stacklevel=2)
