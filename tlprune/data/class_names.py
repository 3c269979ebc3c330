"""Sources of which class names are known, and no images: choose classes before you download them."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Self

import torch
from torch import Tensor

from tlprune.data.datasets import ImageSet, Level
from tlprune.data.listed import in_short, read_lines
from tlprune.errors import InputError, did_you_mean
from tlprune.storage.fingerprint import digest_json
from tlprune.storage.paths import user_path
from tlprune.wordnet import imagenet_ids, readable_names, unique_names

__all__ = ["LISTS", "ClassNames", "check_class_names", "open_class_names", "refuse_class_names"]

LISTS = ("imagenet1k",)
"""Names of lists that need no file: the classes of ImageNet, in the order of published weights."""

_KIND = "classes:"


class ClassNames(ImageSet):
    """The classes of a source, without images: choose classes before you download them.

    ``tlprune.select`` takes it as a source for Label Mapping, which needs no images of a source, as it takes the name
    ``classes:FILE`` of a list.

    Args:
        classes: Class names, or names of their folders, such as WordNet ids; all different. The surrogate's file may
            name its outputs by them in any order; where it names none, they are in the order of its outputs.
        display_names: Readable names, as many as ``classes``; None for those of WordNet ids, and else ``classes``.
        where: Name of the list in messages.

    Attributes:
        classes: The class names.
        labels: Int64 tensor ``[0]``: there are no images.

    Raises:
        InputError: There are no classes, one stands twice, readable names are more or fewer, or a name is no text.

    Example:
        >>> ClassNames(["n01440764", "n01443537"], ["tench", "goldfish"]).display_names
        ('tench', 'goldfish')
    """

    only_classes = True

    def __init__(
        self, classes: Sequence[str], display_names: Sequence[str] | None = None, where: str = "class names"
    ) -> None:
        self.classes = _as_names(classes, where)
        if not self.classes:
            raise InputError(f"{where}: lists no classes")
        seen: set[str] = set()
        for name in self.classes:
            if name in seen:
                raise InputError(f"{where}: class {in_short(name)} is listed twice")
            seen.add(name)
        self.labels = torch.empty(0, dtype=torch.int64)
        self.where = where
        readable = readable_names(self.classes) if display_names is None else _as_names(display_names, where)
        if len(readable) != len(self.classes):
            pair = f"{len(readable)} readable names of {len(self.classes)} classes"
            raise InputError(f"{where}: {pair}, and each class needs one")
        self._display_names = readable

    @property
    def display_names(self) -> tuple[str, ...]:
        """Readable class names."""
        return self._display_names

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Refuses: there are no images.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{self.where}: only class names are known, and no images")

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of the class names for ``path``; empty for other levels."""
        return digest_json(["class names", self.classes]) if level == "path" else ""

    def subset(self, indices: Tensor) -> Self:
        """Returns the same classes; ``indices`` must be empty."""
        if len(indices):
            self[int(indices[0])]
        return self


def _as_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns names as a tuple.

    Raises:
        InputError: They are a single text, or one is empty or no text.
    """
    if isinstance(names, str):
        raise InputError(f"{where}: names must be a list, got {in_short(names)}")
    if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
        raise InputError(f"{where}: each name must be a text that is not empty, got {in_short(wrong[0])}")
    return tuple(names)


def check_class_names(name: str) -> None:
    """Checks that a list of class names exists, without reading it.

    Args:
        name: What follows ``classes:``: a name of :data:`LISTS`, or a text file.

    Raises:
        InputError: There is no such list, or the library that holds it is not installed.
    """
    if not name:
        raise InputError(f"source {_KIND} which classes? {_KIND}FILE, or {_KIND}{LISTS[0]}")
    if name in LISTS:
        if find_spec("timm") is None:
            raise InputError(f"source {_KIND}{name}: timm holds its WordNet ids: pip install 'tlprune[timm]'")
    elif not (file := user_path(name)).is_file():
        what = "a folder, not a file of class names" if file.is_dir() else "no such file"
        raise InputError(f"source {_KIND}{name}: {what}; {did_you_mean(name, LISTS)}")


def open_class_names(name: str) -> ClassNames:
    """Reads a list of class names.

    In a file each line is a class name, or the name of its folder, such as a WordNet id, a tab, and its readable name.
    Empty lines, and lines that begin with a hash and a space, are skipped.

    Args:
        name: As for :func:`check_class_names`.

    Raises:
        InputError: The file is not text, lists no class or one class twice, or has lines of both forms.
    """
    check_class_names(name)
    where = f"{_KIND}{name}"
    if name in LISTS:
        return ClassNames(imagenet_ids(), where=where)
    file = user_path(name)
    lines = [line for line in read_lines(file) if line.strip() != "#" and not line.startswith("# ")]
    rows = [line.strip().split("\t") for line in lines]
    columns = len(rows[0]) if rows else 1
    for row in rows:
        if len(row) != columns or columns > 2 or not all(part.strip() for part in row):
            form = "a class name, or a folder name, a tab and a class name, in all lines alike"
            raise InputError(f"{file}: each line must be {form}; got {in_short(chr(9).join(row))}")
    classes = [row[0].strip() for row in rows]
    if columns == 1:
        return ClassNames(classes, where=where)
    titles = unique_names(classes, {row[0].strip(): row[-1].strip() for row in rows})
    return ClassNames(classes, titles, where)


def refuse_class_names(source: object, purpose: str) -> None:
    """Refuses class names where images are needed.

    Args:
        source: Name of a source, or a set.
        purpose: What cannot be done without images, for the message.

    Raises:
        InputError: Only class names of the source are known.
    """
    named = isinstance(source, str) and source.startswith(_KIND) and not user_path(source).exists()
    if named or getattr(source, "only_classes", False):
        where = source if named else getattr(source, "where", "class names")
        raise InputError(f"source {where}: only class names are known, and no images, so it cannot be {purpose}")
