"""Exports of a Selection: indices, paths, links, a table, or keys. Each states that it lists what is *kept*."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection.selection import UNIT_WORDS, Selection
from tlprune.storage.atomic import atomic_folder, atomic_path, write_bytes

__all__ = [
    "STATEMENT",
    "export_classes",
    "export_indices",
    "export_keys",
    "export_links",
    "export_parquet",
    "export_paths",
]

STATEMENT = "lists what is KEPT"
"""Note included in every export, followed by a count."""


def _heading(what: str, kept: int, total: int) -> str:
    return f"# tlprune {STATEMENT}: {what} of {kept} of {total} source images, in the order of the source's listing\n"


def export_indices(kept: Tensor, total: int, path: Path) -> None:
    """Writes one index per line, from 0, below a heading that begins with ``#``; ``numpy.loadtxt`` can read it.

    Args:
        kept: Int64 tensor ``[n]``, ascending.
        total: Number of source images.
        path: Path of the text file.

    Raises:
        InputError: If the file cannot be written.
    """
    lines = "".join(f"{index}\n" for index in kept.tolist())
    write_bytes(path, (_heading("indices", len(kept), total) + lines).encode())


def export_classes(selection: Selection, kept: Tensor, path: Path) -> None:
    """Writes one class name per line, best first, below a heading that begins with ``#``.

    Names are those of the source's class folders: WordNet ids for ImageNet. ``ListSelector`` reads the file, and
    ``classes:FILE`` does.

    Args:
        selection: Selection whose units are classes.
        kept: Int64 tensor ``[k]`` of units, best first.
        path: Path of the text file.

    Raises:
        InputError: If units are not classes, the file cannot be written, or a name contains a line break.
    """
    if selection.unit_kind != "class":
        raise InputError(f"this selection ranks {UNIT_WORDS[selection.unit_kind][1]}, so there are no classes to list")
    heading = f"# tlprune {STATEMENT}: {len(kept)} of {selection.num_units} classes, best first\n"
    _write_lines(heading, [selection.unit_names[unit] for unit in kept.tolist()], "classes", path)


def export_paths(kept: Tensor, root: Path, paths: Sequence[str], path: Path) -> None:
    """Writes one absolute path per line, below a heading that begins with ``#``.

    Args:
        kept: Int64 tensor ``[n]``, ascending.
        root: Folder of the source.
        paths: Paths of all source images relative to ``root``, in the source's order.
        path: Path of the text file.

    Raises:
        InputError: If the file cannot be written, or a name contains a line break.
    """
    chosen = [os.fspath((root / paths[index]).absolute()) for index in kept.tolist()]
    _write_lines(_heading("paths", len(chosen), len(paths)), chosen, "paths", path)


def export_links(kept: Tensor, root: Path, paths: Sequence[str], folder: Path) -> None:
    """Creates a class folder of symbolic links, readable by any tool for class folders, and a ``KEPT.txt`` beside them.

    Args:
        kept: Int64 tensor ``[n]``, ascending.
        root: Folder of the source.
        paths: Paths of all source images relative to ``root``, in the source's order.
        folder: Folder to create; it must not exist.

    Raises:
        InputError: If the folder exists or cannot be created.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; links are made in a new folder")
    with atomic_folder(folder) as temporary:
        for index in kept.tolist():
            link = temporary / paths[index]
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((root / paths[index]).absolute())
        (temporary / "KEPT.txt").write_text(_heading("links", len(kept), len(paths)))


def export_keys(kept: Tensor, root: Path, paths: Sequence[str], path: Path) -> None:
    """Writes one WebDataset key per line, below a heading that begins with ``#``.

    A key is the path relative to the source up to the first dot of the file name, as WebDataset derives it from the
    members of a tar file. Shards need not be rewritten: keep the samples whose ``__key__`` is listed.

    Args:
        kept: Int64 tensor ``[n]``, ascending.
        root: Folder of the source.
        paths: Paths of all source images relative to ``root``, in the source's order.
        path: Path of the text file.

    Raises:
        InputError: If the file cannot be written, two images share a key, or a key contains a line break or begins with
            ``#``.
    """
    keys = [_key(one) for one in paths]
    if len(set(keys)) != len(keys):
        seen: dict[str, str] = {}
        for key, one in zip(keys, paths, strict=True):
            if key in seen:
                raise InputError(f"{seen[key]} and {one} in {root} have the same WebDataset key {key!r}")
            seen[key] = one
    chosen = [keys[index] for index in kept.tolist()]
    _write_lines(_heading("WebDataset keys", len(chosen), len(paths)), chosen, "keys", path)


def _key(path: str) -> str:
    folder, slash, name = path.replace(os.sep, "/").rpartition("/")
    return f"{folder}{slash}{name.split('.', 1)[0]}"


def _write_lines(heading: str, names: Sequence[str], what: str, path: Path) -> None:
    """Writes names that are not valid text as raw bytes; rejects names that a reader would misinterpret."""
    if odd := next((name for name in names if "\n" in name or "\r" in name), None):
        raise InputError(f"{odd!r}: a name with a line break cannot stand in a list of {what}; export indices instead")
    if odd := next((name for name in names if name.startswith("#")), None):
        raise InputError(f"{odd!r}: would read as a comment in a list of {what}; export indices instead")
    text = heading + "".join(f"{name}\n" for name in names)
    write_bytes(path, text.encode(errors="surrogateescape"))


def export_parquet(
    selection: Selection, kept: Tensor, paths: Sequence[str], labels: Sequence[str] | None, path: Path
) -> None:
    """Writes a table with one row per kept image; requires pyarrow.

    Columns: ``index`` (from 0, in the source's listing), ``path`` (relative to the source), ``label`` (null without
    labels), ``unit``, ``unit_rank`` (from 1, the best) and ``unit_votes``. The file's metadata entry ``tlprune``
    states that the table lists what is kept.

    Args:
        selection: Selection to export.
        kept: Int64 tensor ``[n]``, ascending.
        paths: Paths of all source images relative to the source, in its order.
        labels: Class names of all source images; None for a source without labels.
        path: Path of the file.

    Raises:
        InputError: If pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("export to Parquet needs pyarrow: pip install 'tlprune[parquet]'") from error
    units = selection.unit_of_sample[kept].long()
    indices = kept.tolist()
    texts = [paths[index] for index in indices] + list(selection.unit_names)
    if odd := next((text for text in texts if not text.isascii() and "\udc80" <= max(text) <= "\udcff"), None):
        raise InputError(f"{odd!r}: a name that is no text cannot stand in a table; export indices instead")
    columns = {
        "index": pyarrow.array(indices, pyarrow.int64()),
        "path": pyarrow.array([paths[index] for index in indices], pyarrow.string()),
        "label": pyarrow.array([None if labels is None else labels[index] for index in indices], pyarrow.string()),
        "unit": pyarrow.array([selection.name(unit) for unit in units.tolist()], pyarrow.string()),
        "unit_rank": pyarrow.array((selection.ranking.argsort()[units] + 1).tolist(), pyarrow.int64()),
        "unit_votes": pyarrow.array(selection.votes[units].tolist(), pyarrow.float64()),
    }
    heading = _heading("rows", len(kept), len(paths)).strip("# \n")
    table = pyarrow.table(columns, metadata={"tlprune": heading, "selection_digest": selection.digest})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)
