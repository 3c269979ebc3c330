"""Decodes image files to tensors.

Tensors have the channels-last memory layout of the files, in which crops are resized faster.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import torch
from PIL import Image, UnidentifiedImageError
from simplejpeg import decode_jpeg, decode_jpeg_header
from torch import Tensor

from tlprune.data.sixteen_bits import DarkImageWarning, SixteenBits
from tlprune.errors import InputError

__all__ = ["EXTENSIONS", "MAX_PIXELS", "DamagedImageError", "decode_bytes", "decode_image", "decode_pillow"]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""File extensions of images, in lower case: those of torchvision's ImageFolder."""

MAX_PIXELS = 89_478_485
"""Largest height times width of an image: the limit above which Pillow warns."""

_STRIP = 2**22
"""Number of pixels converted at a time."""

_JPEG = b"\xff\xd8\xff"
"""First bytes of every JPEG."""

_MOST_BYTES = 2**28
"""Largest size in bytes of a JPEG that is read at once."""


class DamagedImageError(InputError):
    """The bytes of an image cannot be decoded."""


def decode_image(path: Path) -> Tensor:
    """Decodes an image file to RGB.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: The file is missing, unreadable, not a regular file, truncated, not an image, larger than
            :data:`MAX_PIXELS`, or has 32-bit or signed pixels.
    """
    with _naming(str(path)):
        status = path.stat()
        if not S_ISREG(status.st_mode):  # opening a named pipe would wait for a writer
            raise InputError(f"{path}: not a regular file")
        with path.open("rb") as file:
            start = file.read(len(_JPEG))
            jpeg = _jpeg_pixels(start + file.read()) if start == _JPEG and status.st_size <= _MOST_BYTES else None
            file.seek(0)
            return _decode(file, str(path)) if jpeg is None else jpeg


def decode_bytes(content: bytes, name: str) -> Tensor:
    """Decodes the bytes of an image file to RGB.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: As :func:`decode_image`.
    """
    with _naming(name):
        jpeg = _jpeg_pixels(content) if content.startswith(_JPEG) else None
        return _decode(BytesIO(content), name) if jpeg is None else jpeg


def decode_pillow(image: Image.Image, name: str) -> Tensor:
    """Decodes an image that Pillow has opened to RGB.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: As :func:`decode_image`.
    """
    with _naming(name):
        return _pixels(image, name)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, DarkImageWarning):
        raise
    except UnidentifiedImageError as error:
        raise DamagedImageError(f"{name}: not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: more than {MAX_PIXELS} pixels allowed") from error
    except Exception as error:  # the readers of Pillow can raise any error on damaged bytes
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DamagedImageError(f"{name}: {reason or 'damaged'}") from error


def _jpeg_pixels(content: bytes) -> Tensor | None:
    """Decodes a common JPEG to ``[3, H, W]`` uint8, with the same pixels as Pillow in two thirds of the time.

    Returns None for images that are left to Pillow, among them damaged ones.
    """
    try:
        height, width, colours, _ = decode_jpeg_header(content)
        if height * width > MAX_PIXELS or colours not in ("YCbCr", "Gray"):
            return None
        return torch.from_numpy(decode_jpeg(content)).permute(2, 0, 1)
    except ValueError:
        return None


def _decode(file: BinaryIO, name: str) -> Tensor:
    with Image.open(file) as image:
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"{name}: {image.width} x {image.height} pixels is more than {MAX_PIXELS} allowed")
        return _pixels(image, name)


def _pixels(image: Image.Image, name: str) -> Tensor:
    """Converts an image to ``[3, H, W]`` uint8, a large one in strips because every conversion step copies it."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    bits = SixteenBits(image, name)
    if rows >= height:
        pixels = _strip(image, bits)
    else:
        pixels = torch.empty((height, width, 3), dtype=torch.uint8)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            pixels[top:bottom] = _strip(image.crop((0, top, width, bottom)), bits)
    if bits.is_wide:
        bits.warn_if_dark(int(pixels.max()))
    return pixels.permute(2, 0, 1)


def _strip(image: Image.Image, bits: SixteenBits) -> Tensor:
    """Converts a strip to ``[H, W, 3]`` uint8."""
    narrow = bits.scaled(image)
    content = bytearray((narrow if narrow.mode == "RGB" else narrow.convert("RGB")).tobytes())
    return torch.frombuffer(content, dtype=torch.uint8).view(image.height, image.width, 3)
