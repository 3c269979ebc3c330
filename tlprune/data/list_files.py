"""Image sets listed in a text file, as paths with optional labels."""

import csv
import os
from pathlib import Path
from stat import S_ISREG
from warnings import warn

import torch

from tlprune.data.columns import classes_of_labels, label_column, like_a_label, path_column
from tlprune.data.datasets import FileStat, FolderImages
from tlprune.data.decoding import EXTENSIONS
from tlprune.data.listed import in_short, read_lines
from tlprune.errors import InputError

__all__ = ["ENDINGS", "is_list_file", "open_list", "read_table"]

ENDINGS = (".csv", ".tsv", ".txt")
"""File extensions of list files."""

_PARTS = {"split", "subset", "fold", "partition", "part", "set"}
"""Names of columns with the part of the set (training, validation or test) of each image."""


def is_list_file(name: str) -> bool:
    """Returns whether a name has the extension of a list file, in any capitalisation."""
    return name.lower().endswith(ENDINGS)


def open_list(file: Path) -> FolderImages:
    """Lists the images of a list file without opening an image.

    The first line of ``.csv`` and ``.tsv`` files names the columns: ``path`` and, for labelled sets, ``label``, or
    similar names that :mod:`tlprune.data.columns` accepts. Semicolons or tabs also separate columns if the first line
    has no other separator. In ``.txt`` files each line is a path, optionally followed by a tab and its label, or by a
    space and an integer label; comments begin with a hash. Classes are in numerical order if all labels are integers,
    and in order of their names otherwise.

    Args:
        file: The list file. Its paths are absolute or relative to its folder.

    Returns:
        The images in the order of the list.

    Raises:
        InputError: The file is unreadable, is not UTF-8 or UTF-16, lists no or the same image twice; several columns
            match paths or labels; only some images have labels; or images are missing.
    """
    rows = _lines(file) if file.suffix.lower() == ".txt" else read_table(file)
    if not rows:
        raise InputError(f"{file}: lists no images")
    paths = [path for path, _ in rows]
    whole = [os.path.abspath(os.path.join(file.absolute().parent, path)) for path in paths]  # noqa: PTH100 - not links
    seen: set[str] = set()
    for path, absolute in zip(paths, whole, strict=True):
        if absolute in seen:
            raise InputError(f"{file}: {in_short(path)} is listed twice")
        seen.add(absolute)
    labels = [label for _, label in rows if label]
    if labels and len(labels) != len(rows):
        bare = next(path for path, label in rows if not label)
        raise InputError(f"{file}: {in_short(bare)} has no label, others have")
    classes = classes_of_labels(labels)
    place = {name: number for number, name in enumerate(classes)}
    numbered = torch.tensor([place[label] if label else 0 for _, label in rows])
    return FolderImages.of_files(whole, numbered, classes, _stats(file, paths, whole))


def _lines(file: Path) -> list[tuple[str, str]]:
    rows = []
    for line in read_lines(file):
        # files of 'tlprune export' begin with a heading; names of images may also begin with a hash
        if line.startswith("# ") or (line.startswith("#") and not any(ending in line.lower() for ending in EXTENSIONS)):
            continue
        path, tab, label = line.strip().partition("\t")
        if not tab:
            before, _, last = line.strip().rpartition(" ")
            path, label = (before, last) if before and last.isdecimal() else (line.strip(), "")
        rows.append((path.strip(), label.strip()))
    return rows


def read_table(file: Path, needs_path: bool = True) -> list[tuple[str, str]]:
    """Reads the columns of paths and labels of a ``.csv`` or ``.tsv`` file, as :func:`open_list` describes it.

    Args:
        file: The file.
        needs_path: Whether the table must have a column of paths, with a path in each row.

    Returns:
        Path and label of each row; empty where the table has no such column.

    Raises:
        InputError: The file is unreadable, or has no column of paths.
    """
    lines = read_lines(file)
    if not lines:
        raise InputError(f"{file}: not a table: it is empty")
    try:
        header, *table = csv.reader(lines, delimiter=_delimiter(lines[0], file.suffix.lower()))
    except csv.Error as error:
        raise InputError(f"{file}: not a table: {error}") from error
    names = [name.strip() for name in header]
    path = path_column(names, str(file))
    if path is None and needs_path:
        raise InputError(f"{file}: its first line must name a column 'path', got {in_short(header)}")
    label = label_column(names, str(file))
    others = [name for name in names if name not in (path, label)]
    if label is None and len(others) == 1 and not like_a_label(others[0]):
        warn(f"{file}: no labels are read from {others[0]!r}; they are read from a column 'label'", stacklevel=2)
    columns = [len(names) if name is None else names.index(name) for name in (path, label)]
    rows = []
    for number, row in enumerate(table, 2):
        in_path, in_label = (row[column].strip() if column < min(len(row), len(names)) else "" for column in columns)
        if path is not None and not in_path:
            raise InputError(f"{file}: row {number} has no path")
        rows.append((in_path, in_label))
    for name in (name for name in others if name.lower() in _PARTS):
        if len({row[names.index(name)].strip() for row in table if names.index(name) < len(row)}) > 1:
            warn(
                f"{file}: its column {name!r} is not used, all images are listed; use a list for each part",
                stacklevel=2,
            )
    if label is not None and rows and not any(text for _, text in rows):
        warn(f"{file}: its column {label!r} is empty, so its images have no labels", stacklevel=2)
    return rows


def _delimiter(header: str, suffix: str) -> str:
    """Returns the separator of the columns: by file extension, unless the first line has only another separator."""
    usual = "\t" if suffix == ".tsv" else ","
    separators = [separator for separator in (",", ";", "\t") if separator in header]
    return separators[0] if len(separators) == 1 else usual


def _stats(file: Path, paths: list[str], whole: list[str]) -> list[FileStat]:
    stats, missing = [], []
    for path, absolute in zip(paths, whole, strict=True):
        try:
            status = os.stat(absolute)
        except (OSError, ValueError):
            status = None
        if status is None or not S_ISREG(status.st_mode):
            missing.append(path)
        else:
            stats.append((status.st_size, status.st_mtime_ns))
    if missing:
        raise InputError(
            f"{file}: {len(missing):,} of {len(paths):,} listed images are missing, first {in_short(missing[0])}"
        )
    return stats
