"""Reads the split files of CoOp (Zhou et al., 2022), ``split_zhou_NAME.json``, used for the paper's downstream sets."""

from pathlib import Path

from tlprune.data.listed import Listing, OfficialSplits, in_short, parts_of_lists, read_json
from tlprune.errors import InputError

__all__ = ["read_coop_split"]

_PARTS = ("train", "val", "test")


def read_coop_split(file: Path, root: Path, num_classes: int) -> OfficialSplits:
    """Reads ``{"train": [[path, label, class name], ...], "val": ..., "test": ...}``.

    Args:
        file: The JSON file.
        root: Folder that the paths in the file are relative to.
        num_classes: Expected number of classes.

    Returns:
        The parts, each in the order of the file.

    Raises:
        InputError: The file has another form, a label has two names, an image is listed twice, or images are missing.
    """
    document = read_json(file)
    expected = "must be an object with the lists 'train', 'val' and 'test'"
    if not isinstance(document, dict):
        raise InputError(f"{file}: {expected}, got {in_short(document)}")
    if odd := [part for part in _PARTS if not isinstance(document.get(part), list)]:
        raise InputError(f"{file}: {expected}; {odd[0]!r} is {in_short(document.get(odd[0]))}")
    names: dict[int, str] = {}
    listings = {part: Listing(file, _entries(document[part], part, names, file)) for part in _PARTS}
    if sorted(names) != list(range(num_classes)):
        what = f"{len(names)} labels from {min(names)} to {in_short(max(names))}" if names else "none"
        raise InputError(f"{file}: labels must be 0 to {num_classes - 1}, got {what}")
    classes = [names[label] for label in range(num_classes)]
    return parts_of_lists(root, classes, listings, f"CoOp, {file.name}")


def _entries(rows: list[object], part: str, names: dict[int, str], file: Path) -> list[tuple[str, int]]:
    """Checks the entries of a part and adds the names of their labels to ``names``."""
    entries = []
    for number, row in enumerate(rows):
        match row:
            case [str(path), int(label), str(name)] if not isinstance(label, bool) and name.isprintable() and name:
                if names.setdefault(label, name) != name:
                    both = f"both {in_short(names[label])} and {in_short(name)}"
                    raise InputError(f"{file}: label {in_short(label)} is called {both}")
                entries.append((path, label))
            case _:
                where = f"entry {number} of {part!r}"
                raise InputError(f"{file}: {where} must be [path, label, class name], got {in_short(row)}")
    return entries
