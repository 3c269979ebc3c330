"""Decoded images that a process holds, so that a source that is opened again is not decoded again."""

import torch
from torch import Tensor

from tlprune.data.datasets import FolderImages, TensorImages

__all__ = ["HeldImages"]

_Key = tuple[str, int, int]


class HeldImages:
    """Pixels of image files by path, size and time of change.

    Args:
        limit: Bytes that are held at most. A larger set is decoded and not held; a set that does not fit beside what is
            held takes its place.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._pixels: dict[_Key, Tensor] = {}

    def decoded(self, images: FolderImages) -> TensorImages:
        """The same images in memory; decodes nothing where all of them are held.

        Args:
            images: At least one, all of one size.

        Raises:
            InputError: Two images differ in size, or one cannot be decoded.
        """
        keys = [(path, *stat) for path, stat in images.files]
        found = [self._pixels.get(key) for key in keys]
        held = [pixels for pixels in found if pixels is not None]
        if len(held) == len(images) and len({pixels.shape for pixels in held}) == 1:
            return TensorImages(torch.stack(held), images.labels, images.classes)
        decoded = TensorImages.from_images(images)
        self._hold(keys, decoded.pixels)
        return decoded

    def _hold(self, keys: list[_Key], pixels: Tensor) -> None:
        if pixels.nbytes > self._limit:
            return
        if self._bytes + pixels.nbytes > self._limit:
            self._bytes, self._pixels = 0, {}
        self._bytes += pixels.nbytes
        self._pixels |= zip(keys, pixels, strict=True)
