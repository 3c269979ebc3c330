"""Reads samples of a Dataset without the transforms that its owner trains with."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset
from torchvision.datasets.vision import StandardTransform

from tlprune.data.pixels import is_image
from tlprune.data.samples import image_of
from tlprune.errors import InputError

__all__ = ["random_state", "random_state_kept", "read_sample", "spread", "without_transforms"]

_TRANSFORMS = ("transform", "transforms")
_INNER = "dataset"


def spread(count: int, most: int) -> list[int]:
    """Returns up to ``most`` places from 0 to ``count - 1``, evenly spread, with the first and the last.

    Example:
        >>> spread(100, 3)
        [0, 50, 99]
    """
    return sorted({round(place * (count - 1) / max(most - 1, 1)) for place in range(min(most, count))})


def read_sample(dataset: Any, index: int) -> Any:
    """Reads a sample; any error of the Dataset names it.

    Raises:
        InputError: The Dataset raises an error.
    """
    try:
        return dataset[index]
    except InputError:
        raise
    except Exception as error:  # code of others may raise anything
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{type(dataset).__name__}[{index}]: {type(error).__name__}: {reason}") from error


def without_transforms(dataset: Any, indices: list[int]) -> Any:
    """Returns the same Dataset without ``transform`` and ``transforms``, its own and those of Datasets within it.

    The given object stays as it is. If samples cannot be read without them, it is returned.

    Args:
        dataset: The Dataset.
        indices: Samples that are read to try it; one that can be read is enough.
    """
    plain = _stripped(dataset)
    if plain is dataset:
        return dataset
    for index in indices:
        try:
            if is_image(image_of(plain[index], "")):
                return plain
        except Exception:  # noqa: S112 - code of others may raise anything where a transform is missing
            continue
    return dataset


def _stripped(dataset: Any) -> Any:
    """Copies what has a transform, level by level; returns the Dataset itself if nothing has."""
    own = getattr(dataset, "__dict__", {})
    changed: dict[str, Any] = {}
    for name in _TRANSFORMS:
        if (transform := own.get(name)) is not None and callable(transform):
            changed[name] = _unchanged
            if isinstance(transform, StandardTransform):
                changed[name] = StandardTransform(None, transform.target_transform)
    if hasattr(inner := own.get(_INNER), "__getitem__") and (plain := _stripped(inner)) is not inner:
        changed[_INNER] = plain
    if isinstance(dataset, ConcatDataset):
        parts = [_stripped(part) for part in dataset.datasets]
        if any(part is not old for part, old in zip(parts, dataset.datasets, strict=True)):
            changed["datasets"] = parts
    if not changed or type(dataset).__module__.partition(".")[0] == "datasets":
        return dataset
    copied = copy(dataset)
    copied.__dict__.update(changed)
    return copied


def _unchanged(*arguments: Any, **named: Any) -> Any:
    """Stands in for a transform of one argument, of several, or of named ones."""
    if named:
        return named
    return arguments[0] if len(arguments) == 1 else arguments


def random_state() -> tuple[Any, ...]:
    """Returns the state of the generators that torch, NumPy and Python share; equal states are equal tuples."""
    of_numpy = np.random.get_state()  # noqa: NPY002 - the state of others is looked at
    return torch.get_rng_state().numpy().tobytes(), of_numpy[1].tobytes(), of_numpy[2], random.getstate()  # type: ignore[index]


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Puts the shared generators back at the end, so that reading samples changes nothing that training draws."""
    of_torch, of_numpy, of_python = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
