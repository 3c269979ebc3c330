"""Finds the path and label columns of a table; ambiguous columns raise an error or a warning."""

import re
from collections.abc import Collection, Iterable, Sequence
from warnings import warn

from tlprune.errors import InputError

__all__ = ["classes_of_labels", "label_column", "like_a_label", "path_column"]

_DIGITS = 18
_PATHS = {"path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgpath"}
_LABELS = {"label", "labels", "labelname", "class", "classname", "classlabel", "target", "category", "categoryname"}
_LIKE_A_LABEL = re.compile(
    "label|class|categor|target|^y$|^gt$|groundtruth|annotation|species|breed|genus|genre|synset|wnid|diagnosis|concept"
)


def path_column(names: Sequence[str], where: str) -> str | None:
    """Finds the column of paths: ``path``, else the only column named ``file``, ``filename``, ``image`` or similar.

    Args:
        names: Names of the columns.
        where: Prefix of error messages, such as the path of the file.

    Returns:
        Name of the column; None if there is no such column.

    Raises:
        InputError: Several columns match.
    """
    return _only([name for name in names if _plain(name) in _PATHS], "path", "paths", where)


def label_column(names: Sequence[str], where: str, usable: Collection[str] | None = None) -> str | None:
    """Finds the column of labels: ``label``, else the only column named ``class``, ``target``, ``category`` or similar.

    Warns if no column matches but one may hold labels by its name.

    Args:
        names: Names of the columns.
        where: Prefix of errors and warnings, such as the path of the file.
        usable: Columns whose values can be labels; None for all.

    Returns:
        Name of the column; None if there is no such column.

    Raises:
        InputError: Several columns match.
    """
    able = names if usable is None else [name for name in names if name in usable]
    column = _only([name for name in able if _plain(name) in _LABELS], "label", "labels", where)
    if column is None and (like := [name for name in names if like_a_label(name)]):
        those = f"no labels are read from {', '.join(map(repr, like[:3]))}"
        warn(f"{where}: {those}; they are read from a column 'label' of text or whole numbers", stacklevel=2)
    return column


def like_a_label(name: str) -> bool:
    """Returns whether the name of a column suggests labels, such as ``class_id`` or ``species``."""
    return _LIKE_A_LABEL.search(_plain(name)) is not None


def classes_of_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns the different labels of a column: by value where all are whole numbers, and by name where not."""
    names = set(labels)
    numbers = all(name.isascii() and name.isdecimal() and len(name) <= _DIGITS for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def _only(candidates: Sequence[str], plain: str, what: str, where: str) -> str | None:
    exact = [name for name in candidates if _plain(name) == plain]
    chosen = exact or candidates
    if len(chosen) > 1:
        several = ", ".join(map(repr, chosen))
        raise InputError(f"{where}: columns {several} may all hold {what}; call one of them {plain!r}")
    return chosen[0] if chosen else None


def _plain(name: str) -> str:
    """Converts a name to lower case without separators, so that ``File Name`` equals ``file_name``."""
    return re.sub(r"[\s_.-]", "", name.lower())
