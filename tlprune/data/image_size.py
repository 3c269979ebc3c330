"""The size that images are seen at: the user decides, then the weights, then the set."""

from dataclasses import dataclass
from warnings import warn

from tlprune.preprocessing import Preprocessing

__all__ = ["ImageSize"]

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
