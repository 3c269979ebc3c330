"""Targets by name: what a model is finetuned on, and what votes."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tlprune.data.embedded import digits, photos
from tlprune.data.images import ImageSet, TensorImages
from tlprune.data.sources import scan_class_folder
from tlprune.data.splits import stratified_holdout
from tlprune.errors import InputError, near_miss

__all__ = ["Downstream", "check_target", "list_targets", "open_target"]

_EMBEDDED: dict[str, Callable[[int], tuple[TensorImages, ...]]] = {"digits": digits, "photos": photos}


@dataclass(frozen=True)
class Downstream:
    """A labelled set in three parts. Only ``train`` votes; ``val`` is what is chosen on; ``test`` is looked at once.

    Args:
        name: What reports call it.
        train: Training images.
        val: Validation images.
        test: Test images; None where a user's folder has none.
        image_size: Height and width in pixels that its images are seen at, unless the user says otherwise.
        split: Where the split comes from, in words.
    """

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    image_size: int
    split: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.train.classes


def list_targets() -> list[str]:
    """Names that :func:`open_target` takes besides folders."""
    return sorted(_EMBEDDED)


def check_target(target: str) -> None:
    """Refuses a target that is neither a known name nor a folder, without opening it.

    Args:
        target: As :func:`open_target`.

    Raises:
        InputError: There is no such name and no such folder.
    """
    if target in _EMBEDDED or Path(target).expanduser().is_dir():
        return
    if os.sep in target:
        raise InputError(f"target {target}: no such folder")
    raise InputError(f"unknown target {target!r}: {near_miss(target, list_targets())} (or give a folder)")


def open_target(target: str, seed: int = 0) -> Downstream:
    """Opens a target.

    Args:
        target: ``digits``, ``photos``, or a folder with class folders in ``train`` and perhaps ``val`` and ``test``.
        seed: Decides the split where the set has none of its own; one fifth of a folder's ``train`` becomes ``val``.

    Returns:
        Its three parts.

    Raises:
        InputError: There is no such target, or the folder is laid out otherwise.
    """
    check_target(target)
    if target in _EMBEDDED:
        train, val, test = _EMBEDDED[target](seed)
        return Downstream(target, train, val, test, train.pixels.shape[-1], f"embedded, seed {seed}")
    root = Path(target).expanduser()
    if not (root / "train").is_dir():
        raise InputError(f"{root}: no folder 'train' in it (expected train/CLASS/*.jpg, and val and test likewise)")
    full = scan_class_folder(root / "train")
    test_images = scan_class_folder(root / "test") if (root / "test").is_dir() else None
    if (root / "val").is_dir():
        part, held, split = full, scan_class_folder(root / "val"), "folders train, val, test"
    else:
        stay, out = stratified_holdout(full.labels, round(len(full) / 5), seed)
        part, held, split = full.subset(stay), full.subset(out), f"a fifth of 'train' held out, seed {seed}"
    for name, images in (("val", held), ("test", test_images)):
        if images is not None and images.classes != full.classes:
            odd = sorted(set(images.classes) ^ set(full.classes))
            raise InputError(f"{root}: 'train' and {name!r} have other classes, such as {odd[0]!r}")
    return Downstream(root.name, part, held, test_images, 224, split)
