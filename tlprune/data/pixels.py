"""Converts images of a Dataset, as Pillow images, arrays or tensors, to ``[3, H, W]`` uint8."""

from collections.abc import Sequence
from typing import Any, Literal
from warnings import warn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tlprune.data.decoding import decode_bytes, decode_pillow
from tlprune.data.sixteen_bits import DarkImageWarning
from tlprune.errors import InputError

__all__ = ["PixelScale", "is_image"]

Scale = Literal["levels", "unit", "sixteen_bits"]

_HALF = 0.5 / 255
"""Half a level of 256: numbers that near to [0, 1] are rounded to a level."""
_DARK = 16


def is_image(value: Any) -> bool:
    """Returns whether a value may be an image: Pillow's, an array, a tensor, or the bytes of a file."""
    return isinstance(value, Image.Image | np.ndarray | Tensor | bytes)


class PixelScale:
    """What numbers of the images of one Dataset mean, which is decided once, from several images.

    ``uint8`` and whole numbers in [0, 255] are levels, floats in [0, 1] are levels over 255 as ``ToTensor`` makes them,
    ``uint16`` keeps the high byte. Pillow images and bytes of image files are decoded as files are.

    Args:
        images: Images of the Dataset, with their names in messages.
        dataset: Name of the Dataset in messages.

    Raises:
        InputError: Numbers are in another range, such as normalised ones, or an image has not 1 or 3 channels.
    """

    def __init__(self, images: Sequence[tuple[Any, str]], dataset: str) -> None:
        self.dataset = dataset
        arrays = [_channels_first(image, name) for image, name in images]
        self.scale = self._decided([array for array in arrays if array.dtype != torch.uint8])

    def _decided(self, arrays: list[Tensor]) -> Scale:
        if not arrays:
            return "levels"
        if all(array.dtype == torch.uint16 for array in arrays):
            brightest = max(int(array.int().max()) for array in arrays) >> 8
            if 0 < brightest < _DARK:
                used = f"the 16 bits of the images looked at hold values below {256 * (brightest + 1):,} of 65,536"
                message = f"{self.dataset}: {used}, so they are nearly black; scale such images to the whole range"
                warn(message, DarkImageWarning, stacklevel=2)
            return "sixteen_bits"
        low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
        floats = all(array.is_floating_point() or array.dtype == torch.bool for array in arrays)
        if low >= -_HALF and high <= 1 + _HALF and floats:
            return "unit"
        whole = all(bool((array == array.round()).all()) for array in arrays if array.is_floating_point())
        if low >= 0 and high <= 255 and whole:
            return "levels"
        kind = str(arrays[0].dtype).removeprefix("torch.")
        raise InputError(f"{self.dataset}: {_expected()}, got {kind} from {low:.4g} to {high:.4g}; {_HINT}")

    def convert(self, image: Any, name: str) -> Tensor:
        """Converts an image to ``[3, H, W]`` uint8.

        Args:
            image: The image, ``[C, H, W]`` or ``[H, W]`` (arrays: also ``[H, W, C]``) with 1 or 3 channels; one channel
                is repeated.
            name: Name of the image in messages.

        Raises:
            InputError: It is no image, has other channels, or numbers out of the range of this Dataset.
        """
        array = _channels_first(image, name)
        if array.dtype == torch.uint8:
            return array.expand(3, -1, -1)
        if array.dtype == torch.uint16:
            return (array.int() >> 8).to(torch.uint8).expand(3, -1, -1)
        low, high = float(array.min()), float(array.max())
        top = 1 + _HALF if self.scale == "unit" else 255
        if not (low >= -_HALF and high <= top):
            usual = "in [0, 1]" if self.scale == "unit" else "whole numbers in [0, 255]"
            raise InputError(f"{name}: numbers from {low:.4g} to {high:.4g}, other images of it have {usual}")
        levels = array.float() * 255 if self.scale == "unit" else array.float()
        return levels.round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)


_HINT = "give the data set without the transform that normalises"


def _expected() -> str:
    return "an image must be Pillow's, uint8, whole numbers in [0, 255], or floats in [0, 1]"


def _channels_first(image: Any, name: str) -> Tensor:
    """Returns ``[C, H, W]`` with 1 or 3 channels and the numbers of the image."""
    if isinstance(image, Image.Image):
        return decode_pillow(image, name)
    if isinstance(image, bytes):
        return decode_bytes(image, name)
    if not isinstance(image, Tensor | np.ndarray):
        raise InputError(f"{name}: {_expected()}, got {type(image).__name__}")
    last_first = isinstance(image, np.ndarray)
    if isinstance(image, np.ndarray) and image.dtype.kind not in "buif":
        raise InputError(f"{name}: {_expected()}, got {image.dtype}")
    array = torch.from_numpy(np.array(image)) if isinstance(image, np.ndarray) else image.detach()  # may be read-only
    array = array.as_subclass(Tensor).cpu()
    if array.is_complex():
        raise InputError(f"{name}: {_expected()}, got {image.dtype}")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.numel() == 0:
        raise InputError(f"{name}: {_expected()}, got {image.dtype} of shape {tuple(image.shape)}")
    places = [-1, 0] if last_first else [0, -1]
    place = next((place for place in places if array.shape[place] in (1, 3)), None)
    if place is None:
        count = array.shape[places[0]]
        shape = f"{count} in {image.dtype} of shape {tuple(image.shape)}"
        raise InputError(f"{name}: an image must have 1 or 3 channels, got {shape}; choose three of them")
    return array if place == 0 else array.permute(2, 0, 1)
