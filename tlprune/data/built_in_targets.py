"""The built-in targets: real images that are part of installed packages and need no download.

``digits`` are the handwritten digits of scikit-learn. ``photos`` are patches of the photographs in scikit-image, one
class per photograph. Training and validation patches come from the left half of a photograph and test patches from the
right half, so no pixel is in both.
"""

from copy import copy
from functools import cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tlprune.data.datasets import ImageSet, Level, TensorImages
from tlprune.data.splits import stratified_holdout
from tlprune.errors import InputError, require_extra
from tlprune.storage.fingerprint import digest_json, digest_tensors

__all__ = ["Photographs", "digits", "photos"]

_SIZE = 32
_PHOTOGRAPHS: tuple[str, ...] = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel")
_PHOTOGRAPHS += ("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket")


def digits(seed: int = 0, train_images: int = 200, val_images: int = 400) -> tuple[TensorImages, ...]:
    """Loads the 1,797 handwritten digits of scikit-learn, 8 x 8 grey, as 24 x 24 pixels on a black 32 x 32 background.

    Args:
        seed: Seed of the split.
        train_images: Number of training images, spread evenly over the classes. The default is small because
            pretraining matters most for small targets.
        val_images: Number of validation images.

    Returns:
        Training, validation and test set; the test set has all remaining images.

    Raises:
        InputError: scikit-learn is not installed.
    """
    images = _all_digits()
    rest, test = stratified_holdout(images.labels, len(images) - train_images - val_images, seed)
    train, val = stratified_holdout(images.labels[rest], val_images, seed)
    return images.subset(rest[train]), images.subset(rest[val]), images.subset(test)


@cache
def _all_digits() -> TensorImages:
    require_extra("the target 'digits'", "scikit-learn", "sklearn", "sweep")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.clip(np.asarray(bunch.images) * 255 / 16, 0, 255).astype(np.uint8)
    pixels = torch.stack([_digit(Image.fromarray(image)) for image in grey])
    return TensorImages(pixels, torch.as_tensor(bunch.target, dtype=torch.int64), [str(d) for d in range(10)])


def photos(
    seed: int = 0, train_per_class: int = 25, val_per_class: int = 30, test_per_class: int = 60
) -> tuple[TensorImages, ...]:
    """Cuts patches of fourteen photographs, resized to 32 x 32 RGB; the label is the photograph.

    The side of a patch is an eighth to a quarter of the short side of the photograph. The three sets come from strips
    without overlap: 0-35 % of the width for training, 35-50 % for validation, 50-100 % for test.

    Args:
        seed: Seed of the patch positions.
        train_per_class: Training patches of each photograph.
        val_per_class: Validation patches of each photograph.
        test_per_class: Test patches of each photograph.

    Returns:
        Training, validation and test set.

    Raises:
        InputError: scikit-image is not installed.
    """
    pictures = _pictures()
    strips = (
        ("train", train_per_class, 0.0, 0.35),
        ("val", val_per_class, 0.35, 0.5),
        ("test", test_per_class, 0.5, 1.0),
    )
    sets = []
    for number, (_, count, left, right) in enumerate(strips):
        pixels = [
            _patch(picture, np.random.default_rng([seed, number, label, index]), left, right)
            for label, picture in enumerate(pictures)
            for index in range(count)
        ]
        labels = torch.arange(len(pictures)).repeat_interleave(count)
        sets.append(TensorImages(torch.stack(pixels), labels, _PHOTOGRAPHS))
    return tuple(sets)


class Photographs(ImageSet):
    """The photographs of scikit-image, whole and without labels.

    Raises:
        InputError: scikit-image is not installed.
    """

    def __init__(self) -> None:
        self._pictures = [
            torch.from_numpy(np.array(Image.fromarray(picture).convert("RGB"))).permute(2, 0, 1).contiguous()
            for picture in _pictures()
        ]
        self._names = _PHOTOGRAPHS
        self.classes = ()
        self.labels = torch.zeros(len(self._names), dtype=torch.int64)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns a photograph, ``[3, H, W]`` uint8, and 0."""
        return self._pictures[index], 0

    def name(self, index: int) -> str:
        """Returns the name of a photograph in scikit-image."""
        return self._names[index].replace("_", " ")

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of names and pixels for ``path``; empty for other levels."""
        pixels = dict(zip(self._names, self._pictures, strict=True))
        return digest_json([list(self._names), digest_tensors(pixels)]) if level == "path" else ""

    def subset(self, indices: Tensor) -> Self:
        """Returns the photographs at ``indices`` (``[M]`` int64), in that order."""
        part = copy(self)
        picked = indices.tolist()
        part._pictures, part._names = [self._pictures[i] for i in picked], tuple(self._names[i] for i in picked)
        part.labels = self.labels[indices]
        return part


def _pictures() -> list[NDArray[np.uint8]]:
    try:
        from skimage import data
    except ImportError as error:
        message = "the photographs need scikit-image: pip install 'tlprune[demo]'"
        raise InputError(message) from error
    return [np.asarray(getattr(data, name)()) for name in _PHOTOGRAPHS]


def _digit(image: Image.Image) -> Tensor:
    """Enlarges an 8 x 8 digit to 24 x 24 pixels and adds the black margin of the original scan."""
    canvas = Image.new("L", (_SIZE, _SIZE))
    canvas.paste(image.resize((24, 24), Image.Resampling.BICUBIC), (4, 4))
    return _pixels(canvas.convert("RGB"))


def _patch(picture: NDArray[np.uint8], rng: np.random.Generator, left: float, right: float) -> Tensor:
    """Cuts a random square patch between the fractions ``left`` and ``right`` of the width of a picture."""
    height, width = picture.shape[:2]
    begin, end = round(left * width), round(right * width)
    side = int(min(height, width) * rng.uniform(1 / 8, 1 / 4))
    side = min(side, end - begin)
    y, x = rng.integers(0, height - side + 1), begin + rng.integers(0, end - begin - side + 1)
    return _pixels(Image.fromarray(picture[y : y + side, x : x + side]).convert("RGB"))


def _pixels(image: Image.Image) -> Tensor:
    resized = image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
