"""Converts images with 16 bits per channel to 8 bits. Pillow leaves, clips or scales them, depending on the format."""

from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlprune.errors import InputError

__all__ = ["DarkImageWarning", "SixteenBits"]

_DARK = 16
"""Limit of 8-bit values below which a 16-bit image is dark: images with 12-bit values stay below it."""
_PHOTOMETRIC, _WHITE_IS_ZERO, _BITS = 262, 0, 258

_warned: set[Path] = set()
"""Folders that were warned about: one warning per folder is enough."""


class DarkImageWarning(UserWarning):
    """Warning that a 16-bit image uses only a small part of its range. Raised as an error, it is not a damaged file."""


class SixteenBits:
    """Conversion of one image with 16 bits per channel to 8 bits.

    PNG and TIFF images keep the high byte, as Pillow does for colour images. PGM images are rounded to the nearest of
    256 levels, as Pillow does for PPM. TIFF images that declare 12 bits are scaled to the full range.

    Args:
        image: Image that is opened but not yet read.
        name: Name of the image in messages.

    Raises:
        InputError: The pixels have no known range: they have 32 bits or a sign.
    """

    def __init__(self, image: Image.Image, name: str) -> None:
        tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
        self.name = name
        self.rounds = image.format == "PPM"
        self.is_grey = image.mode.startswith("I")
        self.is_negative = self.is_grey and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        self.shift = 4 if self.is_grey and tags.get(_BITS) == (12,) else 8
        self.is_wide = image.mode.startswith("I;16") or _is_wide(image)
        self.is_black = self.is_grey  # until a value above 0 is found; Pillow reads colour images with 8 bits
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PPM", "PNG")):
            what = "pixels of 16 bits with a sign" if self.is_wide else "pixels of 32 bits"
            raise InputError(f"{name}: {what} have no known range; convert them to 8 bits, or to 16 without a sign")

    def scaled(self, image: Image.Image) -> Image.Image:
        """Converts the image, or a strip of it, to 8 bits per channel; returns 8-bit images unchanged."""
        if not self.is_grey:
            return image
        values = np.asarray(image).astype(np.int32)
        self.is_black = self.is_black and not values.any()
        levels: NDArray[np.uint8] = (np.rint(values / 257) if self.rounds else values >> self.shift).astype(np.uint8)
        return Image.fromarray(255 - levels if self.is_negative else levels)

    def warn_if_dark(self, brightest: int) -> None:
        """Warns once per folder that a 16-bit image uses only a small part of its range.

        Args:
            brightest: Highest value after scaling, in [0, 255]. A colour image with 0 may be all black, because Pillow
                reads only 8 of its 16 bits.
        """
        folder = Path(self.name).parent
        if self.is_wide and self.shift == 8 and brightest < _DARK and not self.is_black and folder not in _warned:
            _warned.add(folder)
            used = f"its 16 bits hold values below {256 * (brightest + 1):,} of 65,536"
            message = f"{self.name}: {used}, so it is nearly black; scale such images to the whole range"
            warn(message, DarkImageWarning, stacklevel=2)


def _is_wide(image: Image.Image) -> bool:
    """Returns whether channels have 16 bits in the file, by the mode that the reader of Pillow uses."""
    for tile in getattr(image, "tile", [])[:1]:
        for argument in tile.args if isinstance(tile.args, tuple) else (tile.args,):
            if ";16" in str(argument) or (image.format == "PPM" and isinstance(argument, int) and argument > 255):
                return True
    return False
