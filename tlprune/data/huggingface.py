"""Reads image sets with the Hugging Face library ``datasets``, which the extra ``huggingface`` installs."""

import hashlib
import os
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Self
from warnings import warn

import torch
from torch import Tensor

from tlprune.data.columns import label_column, like_a_label
from tlprune.data.datasets import ImageSet, Level
from tlprune.data.decoding import decode_bytes, decode_image
from tlprune.data.parts import match_parts
from tlprune.data.torchvision_sets import numbers_as_names
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_file, digest_json
from tlprune.storage.paths import user_path

__all__ = ["HuggingFaceImages", "images_of_rows", "is_rows", "open_huggingface"]

_SAVED = ("dataset_dict.json", "state.json")
_LABELS = ("label", "labels", "fine_label")


class HuggingFaceImages(ImageSet):
    """Images in the rows of a table, decoded on access by tlprune.

    Args:
        rows: A ``datasets.Dataset`` whose images are not decoded.
        column: Name of the image column.
        labels: Labels, ``[N]`` int64.
        classes: Class names.
        order: Row of each image, ``[N]`` int64.
        source: Name of the set in messages.
    """

    def __init__(
        self, rows: Any, column: str, labels: Tensor, classes: tuple[str, ...], order: Tensor, source: str
    ) -> None:
        self.rows = rows
        self.column = column
        self.labels = labels
        self.classes = classes
        self.order = order
        self.source = source

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decodes an image to ``[3, H, W]`` uint8 and returns it with its label."""
        image = self.rows[int(self.order[index])][self.column]
        label = int(self.labels[index])
        if image is not None and image["bytes"] is not None:
            return decode_bytes(image["bytes"], f"{self.source}, {self.name(index)}"), label
        if image is not None and image["path"] is not None:
            return decode_image(Path(image["path"])), label
        raise InputError(f"{self.source}, {self.name(index)}: it has no image")

    def name(self, index: int) -> str:
        """Returns the row number of an image as its name."""
        return f"row {int(self.order[index])}"

    def fingerprint(self, level: Level = "path") -> str:
        """Returns a fingerprint of labels, class names and image bytes, which are read once.

        Images stored as files are covered as in a folder.
        """
        if level == "path":
            return self._path_fingerprint
        try:
            of_files = [digest_file(path) if level == "bytes" else _file_stat(path).st_mtime_ns for path in self._files]
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror or error}") from error
        return digest_json(of_files) if of_files else ""

    @cached_property
    def _path_fingerprint(self) -> str:
        digests = [self._rows[row][0] for row in self.order.tolist()]
        return digest_json([digests, self.labels.tolist(), self.classes])

    @property
    def quick_fingerprint(self) -> str:
        """Fingerprint from the library's own fingerprint of the rows; reads no image."""
        return digest_json([self.rows._fingerprint, self.order.tolist(), self.labels.tolist(), self.classes])

    @property
    def _files(self) -> list[str]:
        """Paths of the images that are stored as files."""
        return [path for row in self.order.tolist() if (path := self._rows[row][1]) is not None]

    @cached_property
    def _rows(self) -> list[tuple[str, str | None]]:
        """Digest of the image of each row, and its path if it is stored as a file."""
        digests: list[tuple[str, str | None]] = []
        for batch in self.rows.select_columns([self.column]).with_format("arrow").iter(batch_size=100):
            for image in batch[self.column].to_pylist():
                content, path = (image or {}).get("bytes"), (image or {}).get("path")
                if content is not None:
                    digests.append((hashlib.sha256(content).hexdigest()[:32], None))
                else:
                    digests.append((f"{path} {0 if path is None else _file_stat(path).st_size}", path))
        return digests

    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order."""
        part = type(self)(self.rows, self.column, self.labels[indices], self.classes, self.order[indices], self.source)
        if "_rows" in self.__dict__:  # the rows are the same, so their digests are too
            part.__dict__["_rows"] = self._rows
        return part


def open_huggingface(name: str) -> tuple[HuggingFaceImages, HuggingFaceImages | None]:
    """Opens a set of images.

    Args:
        name: A folder written by ``save_to_disk``, a folder that ``load_dataset`` can read (such as Parquet files), or
            a name on the hub, which the library takes from its cache or downloads.

    Returns:
        The split ``train``, or the only split; and the validation split (``val``, ``valid``, ``validation`` or
        ``dev``), or None.

    Raises:
        InputError: The library is not installed, cannot open the set, or finds no images in it.
    """
    splits = _open(name)
    parts = match_parts(splits, f"source huggingface:{name}")
    if "train" not in parts and len(splits) > 1:
        raise InputError(f"source huggingface:{name}: no split 'train' in it, only {', '.join(splits)}")
    chosen = parts.get("train") or next(iter(splits))
    if others := [split for split in splits if split not in (chosen, *parts.values())]:
        warn(f"source huggingface:{name}: of its splits {', '.join(others)} are not used", stacklevel=2)
    train = _images(name, splits[chosen])
    return train, _images(name, splits[parts["val"]], train.classes) if "val" in parts else None


def is_rows(dataset: Any) -> bool:
    """Returns whether an object is a ``datasets.Dataset``; the library is not imported for it."""
    kind = type(dataset)
    return kind.__module__.partition(".")[0] == "datasets" and kind.__name__ == "Dataset"


def images_of_rows(rows: Any) -> HuggingFaceImages:
    """Lists the images of a ``datasets.Dataset``, without its format or transform.

    Returns:
        The images. Labels are those in the table: numbers of a ``ClassLabel``, or whole numbers.

    Raises:
        InputError: It has no column of images, or labels are text.
    """
    where = "datasets.Dataset"
    images = _images(where, rows.with_format(None), where=where)
    column = _label_column(where, rows) if images.classes else None
    kind = None if column is None else rows.features[column]
    if column is None or getattr(kind, "names", None) is not None:
        return images
    if "string" in str(getattr(kind, "dtype", "")):
        fix = f"number them with class_encode_column({column!r})"
        raise InputError(f"{where}: labels must be whole numbers, column {column!r} has text; {fix}")
    images.labels = torch.tensor(rows.with_format(None)[column][:], dtype=torch.int64)
    images.classes = tuple(numbers_as_names(int(images.labels.max()), where))
    return images


def _open(name: str) -> dict[str, Any]:
    """Opens the splits of a set, by name."""
    try:
        library = import_module("datasets")
    except ModuleNotFoundError as error:
        message = "needs the library datasets: pip install 'tlprune[huggingface]'"
        raise InputError(f"source huggingface:{name} {message}") from error
    folder = user_path(name)
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bars()
    try:
        if any((folder / file).is_file() for file in _SAVED):
            opened = library.load_from_disk(str(folder))
        else:
            opened = library.load_dataset(str(folder) if folder.exists() else name)
    except Exception as error:  # the library passes on any error of the readers that it uses
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"source huggingface:{name}: {reason}") from error
    finally:
        if shown:
            library.enable_progress_bars()
    return dict(opened) if isinstance(opened, dict) else {"train": opened}


def _images(name: str, rows: Any, like: tuple[str, ...] = (), where: str = "") -> HuggingFaceImages:
    """Lists the images of a split; ``like`` are the classes of the training split when another split is opened."""
    library = import_module("datasets")
    source, where = where or f"huggingface:{name}", where or f"source huggingface:{name}"
    columns = [column for column, kind in rows.features.items() if isinstance(kind, library.Image)]
    if not columns or len(rows) == 0:
        raise InputError(f"{where}: no images in it, but {', '.join(rows.features) or 'nothing'}")
    column = _label_column(where, rows)
    labels, classes = _labels(where, rows, column, like)
    undecoded = rows.cast_column(columns[0], library.Image(decode=False))
    return HuggingFaceImages(undecoded, columns[0], labels, classes, torch.arange(len(rows)), source)


def _label_column(where: str, rows: Any) -> str | None:
    """Finds a ``ClassLabel`` column, else a column of text or integers with a name for labels."""
    library = import_module("datasets")
    named: list[str] = [column for column, kind in rows.features.items() if isinstance(kind, library.ClassLabel)]
    if usual := next((column for column in _LABELS if column in named), None):
        return usual
    others = [column for column, kind in rows.features.items() if not isinstance(kind, library.Image)]
    if not named:
        return label_column(others, where, [one for one in others if _is_text_or_number(rows.features[one])])
    if passed := [column for column in others if column in named[1:] or (like_a_label(column) and column != named[0])]:
        warn(f"{where}: labels are read from {named[0]!r}, not from {', '.join(map(repr, passed))}", stacklevel=2)
    return named[0]


def _is_text_or_number(kind: Any) -> bool:
    dtype = str(getattr(kind, "dtype", ""))
    return type(kind).__name__ == "Value" and dtype.removeprefix("large_").startswith(("string", "int", "uint", "bool"))


def _labels(where: str, rows: Any, column: str | None, like: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Reads labels, ``[N]`` int64, and class names.

    Class names are those of the column, or else its sorted values. Without a column, labels are zeros and there are no
    class names.
    """
    if column is None:
        return torch.zeros(len(rows), dtype=torch.int64), ()
    values = rows[column][:]
    bare = [value is None or value == "" or (isinstance(value, int) and value < 0) for value in values]
    if any(bare):
        raise InputError(f"{where}: row {bare.index(True)} of {rows.split or 'it'} has no label in {column!r}")
    if (names := getattr(rows.features[column], "names", None)) is not None:
        return torch.tensor(values), tuple(names)
    classes = tuple(map(str, sorted(set(values))))
    classes = like if set(classes) <= set(like) else classes  # a small validation split may lack a class
    place = {name: number for number, name in enumerate(classes)}
    return torch.tensor([place[str(value)] for value in values]), classes


def _file_stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
