"""Readable names of classes whose folders are WordNet ids, by the lists that lie beside the images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from warnings import warn

from tlprune.data.listed import read_lines
from tlprune.errors import InputError
from tlprune.storage.checkpoints import load_torch
from tlprune.wordnet import are_wordnet_ids, readable_names, unique_names, wordnet_id

__all__ = ["class_titles"]

_LISTS = ("LOC_synset_mapping.txt", "classnames.txt", "words.txt")
_FOLDERS_ABOVE = 4


def class_titles(root: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Returns a readable and unique name for each class.

    The name of a WordNet id is its first synonym. Synonyms are read from a file in ``root`` or in a folder above it:
    torchvision's ``meta.bin``, Kaggle's ``LOC_synset_mapping.txt``, CoOp's ``classnames.txt`` or WordNet's
    ``words.txt``. Without such a file they have the names of :func:`tlprune.wordnet.readable_names`.

    Returns:
        A title for each class; ``classes`` themselves if they are not WordNet ids or no names are found.

    Example:
        >>> class_titles(Path("/data/fruit"), ["apple", "pear"])
        ('apple', 'pear')
    """
    if not are_wordnet_ids(classes):
        return tuple(classes)
    for folder in (root, *list(root.absolute().parents)[:_FOLDERS_ABOVE]):
        for name in ("meta.bin", *_LISTS):
            if (folder / name).is_file() and (named := _read(folder / name)):
                return unique_names(classes, named)
    return readable_names(classes)


def _read(file: Path) -> Mapping[str, str]:
    """Reads titles by WordNet id; warns and returns no titles if the file cannot be read."""
    try:
        if file.name == "meta.bin":
            synonyms, _ = load_torch(file)
            return {str(key): str(names[0]) for key, names in synonyms.items()}
        pairs = [line.replace("\t", " ").partition(" ") for line in read_lines(file)]
        return {key: names.split(",")[0].strip() for key, _, names in pairs if wordnet_id.fullmatch(key)}
    except InputError as error:
        warn(f"{error}; its names are not used", stacklevel=2)
    except (TypeError, ValueError, AttributeError, IndexError):
        warn(f"{file}: not a file of torchvision's ImageNet; its names are not used", stacklevel=2)
    return {}
