"""Images that are much longer than wide: only their middle is ever seen, so only that is resized."""

from torch import Tensor

__all__ = ["LONGEST_RATIO", "middle_of_long"]

LONGEST_RATIO = 20
"""Long side over short side above which an image is cropped first: no evaluation view, and no random crop of the usual
areas and ratios, shows more of such an image than its middle."""


def middle_of_long(pixels: Tensor) -> Tensor:
    """The middle of an image whose sides differ by more than :data:`LONGEST_RATIO`, twice as long as wide.

    A resize of the short side to 256 pixels would make 5.9 GB of 30,000 x 1 pixels.

    Args:
        pixels: ``[3, H, W]`` uint8.

    Returns:
        ``[3, h, w]`` uint8, a view of ``pixels``; itself where it is not so long.
    """
    short, long = sorted(pixels.shape[1:])
    if long <= LONGEST_RATIO * short:
        return pixels
    length = 2 * short + long % 2  # as odd or even as the whole, so that the middle stays where it is
    return pixels.narrow(1 if pixels.shape[1] == long else 2, (long - length) // 2, length)
