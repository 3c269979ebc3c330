"""Sets that a text file lists: paths, and perhaps a label for each."""

import csv
import os
from pathlib import Path

import torch

from tlprune.data.images import FolderImages
from tlprune.data.listed import in_short, read_lines
from tlprune.errors import InputError

__all__ = ["ENDINGS", "open_list"]

ENDINGS = (".csv", ".tsv", ".txt")
"""What the name of such a file ends in."""

_PATH, _LABEL = "path", "label"


def open_list(file: Path) -> FolderImages:
    """Opens the images that a file lists; no image is opened.

    In ``.csv`` and ``.tsv`` the first line names the columns: ``path``, and ``label`` where there are labels. In
    ``.txt`` each line is a path, and its label after a tab or, where that is a whole number, after a space; lines that
    begin with a hash and a space are skipped. Labels that are all whole numbers order the classes as numbers, others by
    name.

    Args:
        file: Paths in it are relative to its folder, or absolute.

    Returns:
        The images in the order of the list.

    Raises:
        InputError: The file is unreadable, lists nothing, lists an image twice, some images have labels and others
            none, or images are missing.
    """
    rows = _lines(file) if file.suffix == ".txt" else _table(file)
    if not rows:
        raise InputError(f"{file}: lists no images")
    paths = [path for path, _ in rows]
    if len(set(paths)) != len(paths):
        seen: set[str] = set()
        twice = next(path for path in paths if path in seen or seen.add(path))  # type: ignore[func-returns-value]
        raise InputError(f"{file}: {in_short(twice)} is listed twice")
    labels = [label for _, label in rows if label]
    if labels and len(labels) != len(rows):
        bare = next(path for path, label in rows if not label)
        raise InputError(f"{file}: {in_short(bare)} has no label, others have")
    numbers = all(label.isdecimal() for label in labels)
    classes = sorted(set(labels), key=int if numbers else None)
    place = {name: number for number, name in enumerate(classes)}
    numbered = torch.tensor([place[label] if label else 0 for _, label in rows])
    whole = [os.path.join(file.absolute().parent, path) for path in paths]
    return FolderImages.of_files(whole, numbered, classes, _sizes(file, paths))


def _lines(file: Path) -> list[tuple[str, str]]:
    rows = []
    for line in read_lines(file):
        if line.startswith("# "):  # what 'tlprune export' writes begins with a heading
            continue
        path, tab, label = line.strip().partition("\t")
        if not tab:
            before, _, last = line.strip().rpartition(" ")
            path, label = (before, last) if before and last.isdecimal() else (line.strip(), "")
        rows.append((path.strip(), label.strip()))
    return rows


def _table(file: Path) -> list[tuple[str, str]]:
    reader = csv.DictReader(read_lines(file), delimiter="\t" if file.suffix == ".tsv" else ",")
    if _PATH not in (reader.fieldnames or ()):
        raise InputError(f"{file}: its first line must name a column {_PATH!r}, got {in_short(reader.fieldnames)}")
    rows = []
    for number, row in enumerate(reader, 2):
        if not row[_PATH]:
            raise InputError(f"{file}: row {number} has no path")
        rows.append((row[_PATH].strip(), (row.get(_LABEL) or "").strip()))
    return rows


def _sizes(file: Path, paths: list[str]) -> list[int]:
    sizes, missing = [], []
    for path in paths:
        try:
            sizes.append(os.stat(os.path.join(file.parent, path)).st_size)
        except (OSError, ValueError):
            missing.append(path)
    if missing:
        raise InputError(
            f"{file}: {len(missing):,} of {len(paths):,} listed images are missing, first {in_short(missing[0])}"
        )
    return sizes
