"""The built-in targets: real images that come with packages, so that nothing needs a download.

``digits`` are scikit-learn's handwritten digits. ``photos`` are patches of the photographs that scikit-image ships, a
class for each photograph; training and validation patches come from a picture's left half, test patches from its right
half, so no pixel is in both.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tlprune.data.datasets import TensorImages
from tlprune.data.splits import stratified_holdout
from tlprune.errors import InputError

__all__ = ["digits", "photos"]

_SIZE = 32
_PHOTOGRAPHS: tuple[str, ...] = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel")
_PHOTOGRAPHS += ("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket")


def digits(seed: int = 0, train_images: int = 200, val_images: int = 400) -> tuple[TensorImages, ...]:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8 grey, enlarged to 24 x 24 on a black 32 x 32 ground.

    Args:
        seed: Decides the split.
        train_images: Images to train on, spread evenly over the classes; few, since a small target is where
            pretraining matters.
        val_images: Images to choose on.

    Returns:
        Training, validation and test set; the test set is the rest.
    """
    images = _all_digits()
    rest, test = stratified_holdout(images.labels, len(images) - train_images - val_images, seed)
    train, val = stratified_holdout(images.labels[rest], val_images, seed)
    return images.subset(rest[train]), images.subset(rest[val]), images.subset(test)


@cache
def _all_digits() -> TensorImages:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.clip(np.asarray(bunch.images) * 255 / 16, 0, 255).astype(np.uint8)
    pixels = torch.stack([_digit(Image.fromarray(image)) for image in grey])
    return TensorImages(pixels, torch.as_tensor(bunch.target, dtype=torch.int64), [str(d) for d in range(10)])


def photos(
    seed: int = 0, train_per_class: int = 25, val_per_class: int = 30, test_per_class: int = 60
) -> tuple[TensorImages, ...]:
    """Patches of fourteen photographs, reduced to 32 x 32 RGB: which photograph is a patch from?

    A patch is an eighth to a quarter of the picture's short side wide. The three sets come from strips of the picture
    that do not touch: 0-35 % of the width for training, 35-50 % for validation, 50-100 % for test.

    Args:
        seed: Decides where the patches lie.
        train_per_class: Patches of each photograph to train on.
        val_per_class: Patches of each photograph to choose on.
        test_per_class: Patches of each photograph to test on.

    Returns:
        Training, validation and test set.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        message = "the target 'photos' needs scikit-image: pip install 'tlprune[demo]'"
        raise InputError(message) from error
    pictures = [np.asarray(getattr(data, name)()) for name in _PHOTOGRAPHS]
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


def _digit(image: Image.Image) -> Tensor:
    """An 8 x 8 digit, enlarged to 24 x 24 with the black margin that its scan had."""
    canvas = Image.new("L", (_SIZE, _SIZE))
    canvas.paste(image.resize((24, 24), Image.Resampling.BICUBIC), (4, 4))
    return _pixels(canvas.convert("RGB"))


def _patch(picture: NDArray[np.uint8], rng: np.random.Generator, left: float, right: float) -> Tensor:
    """A square patch that lies between the shares ``left`` and ``right`` of the picture's width."""
    height, width = picture.shape[:2]
    begin, end = round(left * width), round(right * width)
    side = int(min(height, width) * rng.uniform(1 / 8, 1 / 4))
    side = min(side, end - begin)
    y, x = rng.integers(0, height - side + 1), begin + rng.integers(0, end - begin - side + 1)
    return _pixels(Image.fromarray(picture[y : y + side, x : x + side]).convert("RGB"))


def _pixels(image: Image.Image) -> Tensor:
    resized = image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
