"""Reads and checks split files and builds the parts of a set from them. No file is trusted."""

import json
import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath, splitext
from reprlib import Repr
from stat import S_ISREG
from typing import Any

import torch

from tlprune.data.datasets import FolderImages, ImageSet
from tlprune.data.decoding import EXTENSIONS
from tlprune.errors import InputError

__all__ = ["Listing", "OfficialSplits", "in_short", "parts_of_lists", "read_json", "read_lines", "read_rows"]

_SHOWN = 160
_REPR = Repr()
_REPR.maxstring, _REPR.maxlevel = _SHOWN, 2


@dataclass(frozen=True)
class OfficialSplits:
    """The parts of a labelled set by its official split.

    Args:
        train: Training images.
        val: Validation images; None if the split has none.
        test: Test images.
        split: Origin of the split, as text.
    """

    train: ImageSet
    val: ImageSet | None
    test: ImageSet
    split: str


@dataclass(frozen=True)
class Listing:
    """The images of one part, as a file lists them.

    Args:
        file: Path of the list.
        entries: Path of each image, relative to the image folder, and its label.
    """

    file: Path
    entries: Sequence[tuple[str, int]]


def parts_of_lists(root: Path, classes: Sequence[str], listings: Mapping[str, Listing], split: str) -> OfficialSplits:
    """Checks listings against each other and against the disk, without opening an image, and builds the parts.

    Args:
        root: The image folder.
        classes: Class names; every class needs at least one training image.
        listings: Listings by ``train``, ``val`` (if the split has validation images) and ``test``, in this order.
        split: Origin of the split, as text.

    Returns:
        The parts, each in the order of its list.

    Raises:
        InputError: A part is empty, a path is outside ``root`` or not an image, a label is out of range, an image is
            listed twice, a class has no training image, or images are missing.
    """
    part_of: dict[str, str] = {}
    sets = {}
    for part, listing in listings.items():
        if not listing.entries:
            raise InputError(f"{listing.file}: lists no images for {part!r}")
        paths = [_path_within(path, listing.file) for path, _ in listing.entries]
        for path, (_, label) in zip(paths, listing.entries, strict=True):
            if not 0 <= label < len(classes):
                got = f"label {in_short(label)} of {in_short(path)}"
                raise InputError(f"{listing.file}: {got} is not from 0 to {len(classes) - 1}")
            if path in part_of:
                twice = f"{in_short(path)} is listed twice, in {part_of[path]!r} and in {part!r}"
                raise InputError(f"{listing.file}: {twice}")
            part_of[path] = part
        sets[part] = FolderImages(root, paths, torch.tensor([label for _, label in listing.entries]), classes)
    if absent := sorted(set(range(len(classes))) - set(sets["train"].labels.tolist())):
        raise InputError(
            f"{listings['train'].file}: class {classes[absent[0]]!r} (label {absent[0]}) has no training image"
        )
    if missing := [path for path in part_of if not _is_file(f"{root}/{path}")]:
        count = f"{len(missing):,} of {len(part_of):,} listed images are missing"
        raise InputError(
            f"{root}: {count}, first {in_short(missing[0])} (listed by {listings[part_of[missing[0]]].file.name})"
        )
    return OfficialSplits(sets["train"], sets.get("val"), sets["test"], split)


def in_short(value: object) -> str:
    """Formats a value from a file for a message, on one line of at most 160 characters."""
    text = _REPR.repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def read_json(file: Path) -> Any:
    """Reads a JSON file.

    Returns:
        The value, of any type.

    Raises:
        InputError: The file is unreadable, is not JSON, or is nested too deeply.
    """
    text = _text(file)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{file}: not JSON that can be read: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from error


def read_lines(file: Path) -> list[str]:
    """Reads the lines of a text file.

    Args:
        file: A text file in UTF-8, or in UTF-16 with a byte order mark.

    Returns:
        The lines without line ends; blank lines are skipped.

    Raises:
        InputError: The file is unreadable.
    """
    return [line.rstrip("\r") for line in _text(file, or_utf_16=True).split("\n") if line.strip()]


def read_rows(file: Path, columns: Sequence[int]) -> list[list[str]]:
    """Reads the whitespace-separated words of each line; blank lines are skipped.

    Args:
        file: A text file in UTF-8.
        columns: Allowed numbers of words per line.

    Returns:
        The words of each line.

    Raises:
        InputError: The file is unreadable, or a line has another number of words.
    """
    rows = []
    for number, line in enumerate(_text(file).splitlines(), 1):
        words = line.split()
        if words and len(words) not in columns:
            expected = " or ".join(map(str, columns))
            raise InputError(f"{file}: line {number} must have {expected} words, got {in_short(line)}")
        if words:
            rows.append(words)
    return rows


def _text(file: Path, or_utf_16: bool = False) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    wide = or_utf_16 and content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    if b"\0\0" in (content[:2], content[2:4]) or (not wide and b"\0" in (content[:1], content[1:2])):
        raise InputError(f"{file}: not text in UTF-8; it looks like UTF-16 or UTF-32; save it as UTF-8")
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line, coding = content.count(b"\n", 0, error.start) + 1, "UTF-16" if wide else "UTF-8"
        raise InputError(f"{file}: line {line}: not text in {coding}; save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _path_within(path: str, file: Path) -> str:
    """Checks that a path is relative, has no ``..`` and names an image; pathlib is too slow for 100,000 files."""
    # Windows separates folders by backslashes, and a drive letter makes a path absolute
    if path.startswith("/") or ".." in path.split("/") or "\\" in path or "\0" in path or path[1:2] == ":":
        raise InputError(f"{file}: {in_short(path)} must be a relative path without '..'")
    if splitext(path)[1].lower() not in EXTENSIONS:
        raise InputError(f"{file}: {in_short(path)} is not an image ({', '.join(sorted(EXTENSIONS))})")
    return normpath(path)


def _is_file(path: str) -> bool:
    try:
        return S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # an unpaired surrogate in the path raises ValueError
        return False
