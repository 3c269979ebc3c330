"""CIFAR-10 and CIFAR-100 by torchvision, which unpickles no file but the published ones: it compares their MD5s."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal
from warnings import catch_warnings

import torch
from numpy.exceptions import VisibleDeprecationWarning

from tlprune.data.datasets import TensorImages
from tlprune.data.listed import OfficialSplits
from tlprune.errors import InputError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

__all__ = ["read_cifar"]


def read_cifar(folder: Path, name: Literal["CIFAR10", "CIFAR100"]) -> OfficialSplits:
    """Reads the images of all files into memory, CIFAR-100's with their hundred fine labels.

    Args:
        folder: The folder of the set's files, by any name.
        name: torchvision's name of the set.

    Returns:
        Training and test images of 32 pixels. The paper probes them at 160: set ``image_size: 160`` for that.

    Raises:
        InputError: A file is unreadable, or is not the published one.
    """
    from torchvision import datasets  # takes a second

    published: type[CIFAR10] = getattr(datasets, name)
    in_folder = type(name, (published,), {"base_folder": ""})
    try:
        # the first releases of numpy 2.4 warn of types as Python 2 wrote them
        with catch_warnings(action="ignore", category=VisibleDeprecationWarning):
            train, test = (_images(in_folder(folder, train=train)) for train in (True, False))
    except RuntimeError as error:
        changed = f"{_changed_file(folder, published)}: its MD5 is not that of the published file"
        raise InputError(f"{changed}; unpack {published.filename} again") from error
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror or error}") from error
    return OfficialSplits(train, None, test, "official")


def _images(opened: "CIFAR10") -> TensorImages:
    pixels = torch.from_numpy(opened.data).permute(0, 3, 1, 2).contiguous()
    return TensorImages(pixels, torch.tensor(opened.targets), opened.classes)


def _changed_file(folder: Path, published: "type[CIFAR10]") -> Path:
    """The first file that torchvision refuses."""
    from torchvision.datasets.utils import check_integrity

    files = [*published.train_list, *published.test_list, (published.meta["filename"], published.meta["md5"])]
    return next((folder / name for name, md5 in files if not check_integrity(folder / name, md5)), folder)
