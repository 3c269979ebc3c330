"""Images of 16 bits a channel, which Pillow leaves, clips or shrinks, each kind in its own way: made 8 bits alike."""

from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlprune.errors import InputError

__all__ = ["DarkImageWarning", "SixteenBits"]

_DARK = 16
"""What a channel of 8 bits stays below where 16 bits hold numbers of 12."""
_PHOTOMETRIC, _WHITE_IS_ZERO, _BITS = 262, 0, 258

_warned: set[Path] = set()
"""Folders of which a warning was given: one image of a set says it for all."""


class DarkImageWarning(UserWarning):
    """An image of 16 bits uses a small part of its range. As an error it is no sign of a damaged file."""


class SixteenBits:
    """How one image of 16 bits a channel becomes 8 bits.

    Of PNG and TIFF the high byte is taken, as Pillow does where they have colours; of PGM the nearest of 256 levels, as
    it does of PPM. Numbers of 12 bits that a TIFF says to be so fill the range.

    Args:
        image: Opened, not yet read.
        name: What messages call it.

    Raises:
        InputError: Its pixels are numbers without a known range: of 32 bits, or signed.
    """

    def __init__(self, image: Image.Image, name: str) -> None:
        tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
        self.name = name
        self.rounds = image.format == "PPM"
        self.is_grey = image.mode.startswith("I")
        self.is_negative = self.is_grey and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        self.shift = 4 if self.is_grey and tags.get(_BITS) == (12,) else 8
        self.is_wide = image.mode.startswith("I;16") or _is_wide(image)
        self.is_black = self.is_grey  # until a value above 0 is seen; Pillow gives colours with 8 bits
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PPM", "PNG")):
            what = "pixels of 16 bits with a sign" if self.is_wide else "pixels of 32 bits"
            raise InputError(f"{name}: {what} have no known range; convert them to 8 bits, or to 16 without a sign")

    def scaled(self, image: Image.Image) -> Image.Image:
        """An image, or a strip of it, with 8 bits a channel; one that has them is left as it is."""
        if not self.is_grey:
            return image
        values = np.asarray(image).astype(np.int32)
        self.is_black = self.is_black and not values.any()
        levels: NDArray[np.uint8] = (np.rint(values / 257) if self.rounds else values >> self.shift).astype(np.uint8)
        return Image.fromarray(255 - levels if self.is_negative else levels)

    def warn_if_dark(self, brightest: int) -> None:
        """Says, once for each folder, that an image of 16 bits uses a small part of its range.

        Args:
            brightest: Its highest value after scaling, in [0, 255]. Where it is 0, an image in colour may be all black
                as well: of its 16 bits Pillow shows 8.
        """
        folder = Path(self.name).parent
        if self.is_wide and self.shift == 8 and brightest < _DARK and not self.is_black and folder not in _warned:
            _warned.add(folder)
            used = f"its 16 bits hold values below {256 * (brightest + 1):,} of 65,536"
            message = f"{self.name}: {used}, so it is nearly black; scale such images to the whole range"
            warn(message, DarkImageWarning, stacklevel=2)


def _is_wide(image: Image.Image) -> bool:
    """Whether channels have 16 bits in the file, by what Pillow's reader is told."""
    for tile in getattr(image, "tile", [])[:1]:
        for argument in tile.args if isinstance(tile.args, tuple) else (tile.args,):
            if ";16" in str(argument) or (image.format == "PPM" and isinstance(argument, int) and argument > 255):
                return True
    return False
