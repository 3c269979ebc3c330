"""The one place where bytes become pixels."""

from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tlprune.errors import InputError

__all__ = ["EXTENSIONS", "MAX_PIXELS", "decode_image"]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""File endings taken for images, in lower case: those of torchvision's ImageFolder."""

MAX_PIXELS = 89_478_485
"""Height times width above which an image is refused: Pillow's own bound, where it only warns."""


def decode_image(path: Path) -> Tensor:
    """Reads one image as RGB.

    Args:
        path: The file.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: The file is missing, unreadable, truncated, no image, or larger than :data:`MAX_PIXELS`.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width} x {image.height} pixels is more than {MAX_PIXELS} allowed")
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
            return pixels.reshape(image.height, image.width, 3).permute(2, 0, 1).contiguous()
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: more than {MAX_PIXELS} pixels allowed") from error
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
