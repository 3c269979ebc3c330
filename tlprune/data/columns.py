"""Which column of a table holds paths, and which labels: used where that is clear, and never passed over in silence."""

import re
from collections.abc import Collection, Sequence
from warnings import warn

from tlprune.errors import InputError

__all__ = ["label_column", "like_a_label", "path_column"]

_PATHS = {"path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgpath"}
_LABELS = {"label", "labels", "labelname", "class", "classname", "classlabel", "target", "category", "categoryname"}
_LIKE_A_LABEL = re.compile(
    "label|class|categor|target|^y$|^gt$|groundtruth|annotation|species|breed|genus|genre|synset|wnid|diagnosis|concept"
)


def path_column(names: Sequence[str], where: str) -> str | None:
    """The column of paths: ``path``, else the only one called ``file``, ``filename``, ``image`` or alike.

    Args:
        names: Of the columns.
        where: Words that begin an error, such as the file's path.

    Returns:
        Its name; None where there is none.

    Raises:
        InputError: Several may be meant.
    """
    return _only([name for name in names if _plain(name) in _PATHS], "path", "paths", where)


def label_column(names: Sequence[str], where: str, usable: Collection[str] | None = None) -> str | None:
    """The column of labels: ``label``, else the only one called ``class``, ``target``, ``category`` or alike.

    Where there is none, but a column that may hold labels, a warning says so.

    Args:
        names: Of the columns.
        where: Words that begin an error or a warning, such as the file's path.
        usable: Columns whose values can be labels; None for all.

    Returns:
        Its name; None where there is none.

    Raises:
        InputError: Several may be meant.
    """
    able = names if usable is None else [name for name in names if name in usable]
    found = _only([name for name in able if _plain(name) in _LABELS], "label", "labels", where)
    if found is None and (like := [name for name in names if like_a_label(name)]):
        those = f"no labels are read from {', '.join(map(repr, like[:3]))}"
        warn(f"{where}: {those}; they are read from a column 'label' of text or whole numbers", stacklevel=2)
    return found


def like_a_label(name: str) -> bool:
    """Whether a column is called as one that holds labels may be, such as ``class_id`` or ``species``."""
    return _LIKE_A_LABEL.search(_plain(name)) is not None


def _only(found: Sequence[str], plain: str, what: str, where: str) -> str | None:
    exact = [name for name in found if _plain(name) == plain]
    chosen = exact or found
    if len(chosen) > 1:
        several = ", ".join(map(repr, chosen))
        raise InputError(f"{where}: columns {several} may all hold {what}; call one of them {plain!r}")
    return chosen[0] if chosen else None


def _plain(name: str) -> str:
    """In lower case and without what stands between words: ``File Name`` and ``file_name`` are alike."""
    return re.sub(r"[\s_.-]", "", name.lower())
