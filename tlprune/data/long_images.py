"""Crops very long images to their middle before they are resized."""

from torch import Tensor

__all__ = ["LONGEST_RATIO", "middle_of_long"]

LONGEST_RATIO = 20
"""Ratio of long to short side above which an image is cropped first. The evaluation transform and random crops of the
usual areas and ratios show only the middle of such an image."""


def middle_of_long(pixels: Tensor) -> Tensor:
    """Returns the middle, twice as long as wide, of an image with a ratio of sides above :data:`LONGEST_RATIO`.

    Resizing the short side of an image of 30,000 x 1 pixels to 256 pixels would need 5.9 GB.

    Args:
        pixels: Image, ``[3, H, W]`` uint8.

    Returns:
        ``[3, h, w]`` uint8, a view of ``pixels``; ``pixels`` if the ratio is not above the limit.
    """
    short, long = sorted(pixels.shape[1:])
    if long <= LONGEST_RATIO * short:
        return pixels
    length = 2 * short + long % 2  # same parity as the whole, so that the crop is centred exactly
    return pixels.narrow(1 if pixels.shape[1] == long else 2, (long - length) // 2, length)
