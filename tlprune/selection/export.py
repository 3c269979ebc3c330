"""A Selection for other tools: indices, paths, or a folder of links. Each says that it lists what is *kept*."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tlprune.errors import InputError
from tlprune.storage.atomic import atomic_folder, write_bytes

__all__ = ["STATEMENT", "export_indices", "export_links", "export_paths"]

STATEMENT = "lists what is KEPT"
"""What every export says of itself; the rest is a count."""


def _heading(what: str, kept: int, total: int) -> str:
    return f"# tlprune {STATEMENT}: {what} of {kept} of {total} source images, in the order of the source's listing\n"


def export_indices(kept: Tensor, total: int, path: Path) -> None:
    """Writes one index a line, from 0, below a heading that begins with ``#``; ``numpy.loadtxt`` reads it.

    Args:
        kept: ``[n]`` int64, ascending.
        total: Images of the source.
        path: The text file.

    Raises:
        InputError: The file cannot be written.
    """
    lines = "".join(f"{index}\n" for index in kept.tolist())
    write_bytes(path, (_heading("indices", len(kept), total) + lines).encode())


def export_paths(kept: Tensor, root: Path, paths: Sequence[str], path: Path) -> None:
    """Writes one absolute path a line, below a heading that begins with ``#``.

    Args:
        kept: ``[n]`` int64, ascending.
        root: The source's folder.
        paths: Paths of all source images relative to ``root``, in the source's order.
        path: The text file.

    Raises:
        InputError: The file cannot be written, or a name holds a line break.
    """
    chosen = [os.fspath((root / paths[index]).absolute()) for index in kept.tolist()]
    if odd := next((one for one in chosen if "\n" in one), None):
        raise InputError(f"{odd!r}: a name with a line break cannot stand in a list of paths; export indices instead")
    text = _heading("paths", len(chosen), len(paths)) + "".join(f"{one}\n" for one in chosen)
    write_bytes(path, text.encode(errors="surrogateescape"))


def export_links(kept: Tensor, root: Path, paths: Sequence[str], folder: Path) -> None:
    """Makes a class folder of symbolic links, which any tool for class folders reads, and a ``KEPT.txt`` beside them.

    Args:
        kept: ``[n]`` int64, ascending.
        root: The source's folder.
        paths: Paths of all source images relative to ``root``, in the source's order.
        folder: The folder to make; it must not exist.

    Raises:
        InputError: The folder exists or cannot be made.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; links are made in a new folder")
    with atomic_folder(folder) as temporary:
        for index in kept.tolist():
            link = temporary / paths[index]
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((root / paths[index]).absolute())
        (temporary / "KEPT.txt").write_text(_heading("links", len(kept), len(paths)))
