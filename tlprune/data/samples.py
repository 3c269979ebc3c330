"""Finds image and label in the samples of a Dataset: tuples, lists and named tuples by place, mappings by key."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from torch import Tensor

from tlprune.errors import InputError

__all__ = ["image_of", "label_of", "relabelled"]

_OF_FILES = ("jpg", "jpeg", "png", "webp", "ppm", "tif", "tiff", "bmp")
_IMAGES = ("image", "images", "img", "pixel_values", "pixels", "picture", *_OF_FILES)
_LABELS = ("label", "labels", "target", "targets", "fine_label", "class", "cls", "class_id", "category", "y")
_COARSE = "coarse_label"


def image_of(sample: Any, name: str) -> Any:
    """Returns the image of a sample, as the Dataset gives it.

    Args:
        sample: The sample: a tuple or list that begins with the image, a mapping, or the image itself.
        name: Name of the sample in messages.

    Raises:
        InputError: A mapping has no key for an image, or several.
    """
    if isinstance(sample, Mapping):
        key = _key(sample, _IMAGES, "image", name)
        if key is None:
            raise InputError(f"{name}: no image among the keys {_listed(sample)}; call one of them 'image'")
        return sample[key]
    if _is_row(sample):
        if not sample:
            raise InputError(f"{name}: samples must begin with an image, got an empty {type(sample).__name__}")
        return sample[0]
    return sample


def label_of(sample: Any, name: str) -> int | None:
    """Returns the label of a sample; None if it has none, or -1.

    Args:
        sample: The sample: a tuple or list whose second entry is the label, a mapping, or an image without a label.
        name: Name of the sample in messages.

    Raises:
        InputError: A mapping has several keys for a label, or the label is not one whole number of at least -1.
    """
    if isinstance(sample, Mapping):
        key = _label_key(sample, name)
        return None if key is None else _whole(sample[key], name)
    return _whole(sample[1], name) if _is_row(sample) and len(sample) > 1 else None


def relabelled(sample: Any, new_label: Callable[[int], int], name: str) -> Any:
    """Returns a sample of the same type with another label of the same type.

    Raises:
        InputError: The sample has no label, or one that is not a whole number.
    """
    label = label_of(sample, name)
    if label is None:
        expected = "(image, label, ...) or a mapping with 'label', 'labels' or 'target'"
        raise InputError(f"{name}: samples must be {expected} to have labels numbered, got {_described(sample)}")
    if isinstance(sample, Mapping):
        key = _label_key(sample, name)
        changed = copy(sample) if isinstance(sample, MutableMapping) else dict(sample)
        changed[key] = _alike(sample[key], new_label(label))
        return changed
    parts = (sample[0], _alike(sample[1], new_label(label)), *sample[2:])
    return type(sample)(*parts) if hasattr(sample, "_fields") else type(sample)(parts)


def _is_row(sample: Any) -> bool:
    return isinstance(sample, Sequence) and not isinstance(sample, str | bytes)


def _label_key(sample: Mapping[Any, Any], name: str) -> Any:
    key = _key(sample, _LABELS, "label", name)
    return _COARSE if key is None and _COARSE in sample else key


def _key(sample: Mapping[Any, Any], usual: Sequence[str], plain: str, name: str) -> Any:
    """Returns the key ``plain``, else the only one of the usual keys; None if there is none."""
    present = [key for key in usual if key in sample]
    if plain in present:
        return plain
    if len(present) > 1:
        raise InputError(
            f"{name}: {' and '.join(map(repr, present))} may both be the {plain}; call one of them {plain!r}"
            f" (the sample has the keys {_listed(sample)})"
        )
    return present[0] if present else None


def _whole(label: Any, name: str) -> int | None:
    if label is None:
        return None
    if isinstance(label, str | bytes):
        raise InputError(f"{name}: a label must be a whole number, got the text {label!r}; number the classes from 0")
    value = label
    if isinstance(label, Tensor | np.ndarray):
        if label.size != 1 if isinstance(label, np.ndarray) else label.numel() != 1:
            raise InputError(f"{name}: a label must be one whole number, got {_described(label)}")
        value = label.item()
    if not isinstance(value, int | float | np.integer | np.floating) or value != value or value % 1:
        shown = value if isinstance(value, float | np.floating) else _described(value)
        raise InputError(f"{name}: a label must be a whole number, got {shown}")
    if value < -1:
        raise InputError(f"{name}: a label must be at least 0, or -1 for none, got {int(value)}")
    return None if value == -1 else int(value)


def _alike(old: Any, new: int) -> Any:
    """Returns a label with the type, dtype and shape of another one."""
    if isinstance(old, Tensor):
        return old.new_full(old.shape, new)
    if isinstance(old, np.ndarray):
        return np.full_like(old, new)
    return old.dtype.type(new) if isinstance(old, np.generic) else new


def _listed(sample: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, list(sample)[:10])) or "none"


def _described(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
