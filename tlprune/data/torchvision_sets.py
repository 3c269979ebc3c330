"""Opens data sets of torchvision by class name from folders on disk, without downloads."""

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.datasets
from torch import Tensor

from tlprune.data.datasets import FolderImages, ImageSet, TensorImages
from tlprune.data.named_targets import open_set
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.errors import InputError, did_you_mean, require_extra
from tlprune.storage.paths import user_path

__all__ = [
    "check_torchvision",
    "classes_of",
    "images_in_memory",
    "images_of_files",
    "labels_of",
    "numbers_as_names",
    "open_torchvision",
]

_KNOWN = ["CIFAR10", "CIFAR100", "Country211", "DTD", "EMNIST", "EuroSAT", "FGVCAircraft", "FashionMNIST", "Flowers102"]
_KNOWN += ["Food101", "GTSRB", "ImageFolder", "ImageNet", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "Places365"]
_KNOWN += ["QMNIST", "RenderedSST2", "STL10", "SUN397", "SVHN", "StanfordCars", "USPS"]
"""Data sets with one label per image. No others are supported: some, such as LSUN, execute files next to the data."""
_NOT_YOURS = {"self", "root", "download", "transform", "target_transform", "transforms", "loader", "is_valid_file"}
_NOT_YOURS |= {"args", "kwargs"}
_MATLAB = {"Flowers102", "SVHN", "StanfordCars"}
_READ_HERE = {"CIFAR10": "cifar10", "CIFAR100": "cifar100"}  # read by tlprune, because torchvision unpickles them
_PAIRS = ("samples", "imgs", "_samples")
_FILES = ("_image_files", "_images")
_LABELS = ("targets", "labels", "_labels")
_CLASSES = ("classes", "categories")
_BINARY_LABELS, _BINARY_CLASSES = ("_bin_labels",), ("bin_classes",)
_NO_CLASS = "N/A"
"""Name of class 0 in the letters of EMNIST, which are numbered from 1."""
_WHOLE = (int, np.integer)
_MOST_CLASSES = 1_000_000


def check_torchvision(name: str, folder: str) -> None:
    """Checks that a set can exist, without opening it.

    Args:
        name: Name of the class, as in :func:`open_torchvision`.
        folder: The ``root`` of the class.

    Raises:
        InputError: torchvision has no such set, or the folder does not exist.
    """
    kind = name.partition(",")[0]
    if kind not in torchvision.datasets.__all__:
        raise InputError(f"source torchvision:{kind}: torchvision has no such data set: {did_you_mean(kind, _KNOWN)}")
    if kind not in _KNOWN:
        others = f"read are {', '.join(_KNOWN)}"
        raise InputError(f"source torchvision:{kind}: not read here; give class folders or a list file ({others})")
    if not folder:
        raise InputError(f"source torchvision:{name}: give its folder, as torchvision:{name}:FOLDER")
    if not user_path(folder).is_dir():
        raise InputError(f"source torchvision:{name}: {folder}: no such folder")


def open_torchvision(name: str, folder: str) -> ImageSet:
    """Opens the training images of a data set of torchvision.

    Args:
        name: Name of a class in :mod:`torchvision.datasets`, with arguments if necessary: ``Places365``,
            ``Places365,small=true``, ``EMNIST,split=letters``.
        folder: The ``root`` of the class.

    Returns:
        The image files on disk, or the images in memory, with the order, labels and class names of torchvision.

    Raises:
        InputError: There is no such class or folder, the class rejects the folder, or it does not have one label per
            image.
    """
    check_torchvision(name, folder)
    kind, *options = name.split(",")
    root = user_path(folder)
    if kind in _READ_HERE and options:
        raise InputError(f"source torchvision:{name}: {kind} takes no arguments here; its training part is read")
    if kind in _READ_HERE:
        return open_set(TARGET_SETS[_READ_HERE[kind]], root).train
    arguments = dict(_option(name, option) for option in options)
    _check_layout(kind, root, arguments)
    opened = _construct(kind, root, arguments)
    images = images_of_files(opened) or images_in_memory(opened)
    if images is None:
        message = f"torchvision's {kind} does not list a label for each image"
        raise InputError(f"source torchvision:{name}: {message}; give its class folders as a folder, or a list file")
    return images


def _option(name: str, text: str) -> tuple[str, bool | int | str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise InputError(f"source torchvision:{name}: {text!r} must be KEY=VALUE")
    if value.lower() in ("true", "false"):
        return key, value.lower() == "true"
    return key, int(value) if value.isdecimal() else value


def _check_layout(kind: str, root: Path, arguments: Mapping[str, Any]) -> None:
    """Rejects archives that a class would unpack, and targets that are not labels."""
    if kind == "ImageNet":
        for needed in ("meta.bin", str(arguments.get("split", "train"))):
            if not (root / needed).exists():
                raise InputError(
                    f"source torchvision:ImageNet: {root}: no {needed!r} in it, and nothing is unpacked here"
                )
    if kind == "OxfordIIITPet" and arguments.get("target_types", "category") not in ("category", "binary-category"):
        what = f"`target_types` must be 'category' or 'binary-category', got {arguments['target_types']!r}"
        raise InputError(f"source torchvision:OxfordIIITPet: {what}")


def _construct(kind: str, root: Path, arguments: Mapping[str, Any]) -> Any:
    dataset_class = getattr(torchvision.datasets, kind)
    takes = _argument_names(dataset_class) - _NOT_YOURS
    if odd := sorted(arguments.keys() - takes):
        choices = did_you_mean(odd[0], takes) if takes else "it takes none"
        raise InputError(f"source torchvision:{kind}: it has no argument {odd[0]!r}: {choices}")
    if kind in _MATLAB:
        require_extra(f"source torchvision:{kind}: reading it", "scipy", "scipy", "mat")
    try:
        return dataset_class(root, **arguments)
    except InputError:
        raise
    except Exception as error:  # classes raise different errors for missing files
        raise InputError(f"source torchvision:{kind}: {root}: {' '.join(str(error).split())[:200]}") from error


def _argument_names(dataset_class: type) -> set[str]:
    """Returns the argument names of a class, including those passed on to its base class."""
    names: set[str] = set()
    for base in dataset_class.__mro__:
        parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        names |= set(parameters)
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return names


def images_of_files(opened: Any) -> FolderImages | None:
    """Returns the images of a Dataset that lists their paths, or None."""
    pairs = _first_list(opened, _PAIRS)
    if not pairs:
        files = _first_list(opened, _FILES)
        pairs = list(zip(files, labels_of(opened), strict=False)) if len(files) == len(labels_of(opened)) else []
    if not pairs or not all(_is_path_and_label(pair) for pair in pairs):
        return None
    paths = [os.path.abspath(path) for path, _ in pairs]  # noqa: PTH100 - resolve() would follow links
    labels = [int(label) for _, label in pairs]
    if min(labels) < 0:
        return None
    return FolderImages.of_files(paths, torch.tensor(labels), classes_of(opened, labels))


def _first_list(opened: Any, names: Sequence[str]) -> Sequence[Any]:
    """Returns the first attribute that is a list, tuple or array with an entry; an empty one if none is."""
    values = (_own(opened, name) for name in names)
    lists = (value.tolist() if isinstance(value, np.ndarray) else value for value in values)
    return next((value for value in lists if isinstance(value, list | tuple) and value), ())


def _own(opened: Any, name: str) -> Any:
    """Returns an attribute; None if there is none, or if a property of others raises an error."""
    try:
        return getattr(opened, name, None)
    except Exception:  # such as NotImplementedError of a base class
        return None


def _is_path_and_label(pair: Any) -> bool:
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        return False
    return isinstance(pair[0], (str, Path)) and isinstance(pair[1], _WHOLE)


def images_in_memory(opened: Any) -> TensorImages | None:
    """Returns the images of a Dataset that holds them as an array, or None; if all labels are -1, the set has none."""
    labels, data = labels_of(opened), getattr(opened, "data", None)
    if not labels or not isinstance(data, (Tensor, np.ndarray)) or data.dtype not in (torch.uint8, np.uint8):
        return None
    pixels = torch.as_tensor(data)
    if len(pixels) != len(labels) or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and 3 not in pixels.shape[1::2]):
        return None
    if max(labels) < 0:
        return TensorImages(_as_rgb(pixels), torch.zeros(len(labels), dtype=torch.int64), ())
    if min(labels) < 0:
        return None
    classes = classes_of(opened, labels)
    if classes[0] == _NO_CLASS and min(labels) > 0:
        classes, labels = classes[1:], [label - 1 for label in labels]
    return TensorImages(_as_rgb(pixels), torch.tensor(labels), classes)


def _as_rgb(pixels: Tensor) -> Tensor:
    """Converts ``[N, H, W]``, ``[N, H, W, 3]`` or ``[N, 3, H, W]`` to ``[N, 3, H, W]``."""
    if pixels.ndim == 3:
        return pixels[:, None].expand(-1, 3, -1, -1).contiguous()
    return pixels.contiguous() if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2).contiguous()


def labels_of(opened: Any) -> list[int]:
    """Returns the label of each image; empty if the Dataset does not list labels."""
    names = _BINARY_LABELS if _is_binary(opened) else _LABELS
    labels = next((value for name in names if (value := _own(opened, name)) is not None), ())
    labels = labels.to_numpy() if hasattr(labels, "to_numpy") else labels  # of a table
    if not isinstance(labels, Sequence | Tensor | np.ndarray):
        return []
    if isinstance(labels, (Tensor, np.ndarray)):
        table = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else labels
        # QMNIST has a row per image whose first entry is the class
        labels = (table[:, 0] if table.ndim == 2 else table.reshape(-1)).tolist()
    return [int(label) for label in labels] if all(isinstance(label, _WHOLE) for label in labels) else []


def classes_of(opened: Any, labels: Sequence[int]) -> list[str]:
    """Returns the class names of the Dataset; numbers if it has no names or too few."""
    attributes = _BINARY_CLASSES if _is_binary(opened) else _CLASSES
    own = _first_list(opened, attributes)
    places = getattr(opened, "class_to_idx", None) or {}
    if set(places) == set(own) and sorted(places.values()) == list(range(len(own))):
        own = sorted(own, key=places.__getitem__)
    names = [name[0] if isinstance(name, tuple) else str(name) for name in own]
    ids = getattr(opened, "wnids", names)  # the names are not unique: two classes of ImageNet are named crane
    names = [name if names.count(name) == 1 else f"{name} ({id_})" for name, id_ in zip(names, ids, strict=True)]
    fits = len(set(names)) == len(names) > max(labels)
    return names if fits else numbers_as_names(max(labels), type(opened).__name__)


def numbers_as_names(highest: int, where: str) -> list[str]:
    """Returns the numbers from 0 to ``highest`` as class names.

    Raises:
        InputError: The label is no class number.
    """
    if highest >= _MOST_CLASSES:
        got = f"got {highest:,}; number the classes from 0"
        raise InputError(f"{where}: a label must be below {_MOST_CLASSES:,}, {got}")
    return [str(number) for number in range(highest + 1)]


def _is_binary(opened: Any) -> bool:
    """Returns whether the labels of OxfordIIITPet are cats and dogs instead of breeds."""
    return getattr(opened, "_target_types", None) == ["binary-category"]
