"""The one place where bytes become pixels."""

from io import BytesIO
from pathlib import Path
from stat import S_ISREG

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tlprune.errors import InputError

__all__ = ["EXTENSIONS", "MAX_PIXELS", "decode_bytes", "decode_image"]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""File endings taken for images, in lower case: those of torchvision's ImageFolder."""

MAX_PIXELS = 89_478_485
"""Height times width above which an image is refused: Pillow's own bound, where it only warns."""

_STRIP = 2**22
"""Pixels that are converted at a time."""


def decode_image(path: Path) -> Tensor:
    """Reads one image as RGB.

    Args:
        path: The file.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: The file is missing, unreadable, no regular file, truncated, no image, larger than
            :data:`MAX_PIXELS`, or has pixels of 32 bits.
    """
    return _decode(path, str(path))


def decode_bytes(content: bytes, name: str) -> Tensor:
    """Reads one image that is in memory as RGB.

    Args:
        content: What a file of it would hold.
        name: What messages call it.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: As :func:`decode_image`.
    """
    return _decode(BytesIO(content), name)


def _decode(file: Path | BytesIO, name: str) -> Tensor:
    try:
        if isinstance(file, Path) and not S_ISREG(file.stat().st_mode):  # to open a named pipe would wait for a writer
            raise InputError(f"{name}: not a regular file")
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{name}: {image.width} x {image.height} pixels is more than {MAX_PIXELS} allowed")
            return _pixels(image, name)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: more than {MAX_PIXELS} pixels allowed") from error
    except Exception as error:  # damaged bytes make Pillow's readers raise anything
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{name}: {reason or 'damaged'}") from error


def _pixels(image: Image.Image, name: str) -> Tensor:
    """``[3, H, W]`` uint8. A large image is converted strip by strip, since each step of it makes a copy."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    pixels = torch.empty((3, height, width), dtype=torch.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if bottom - top == height else image.crop((0, top, width, bottom))
        content = bytearray(_in_eight_bits(strip, name).tobytes())
        pixels[:, top:bottom] = torch.frombuffer(content, dtype=torch.uint8).reshape(-1, width, 3).permute(2, 0, 1)
    return pixels


def _in_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """As RGB. Sixteen bits are scaled to eight, which Pillow would clip; numbers without a range are refused."""
    if image.mode.startswith("I;16"):
        scaled = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise InputError(f"{name}: pixels of 32 bits have no known range; convert them to 8 or 16 bits")
    return image.convert("RGB")
