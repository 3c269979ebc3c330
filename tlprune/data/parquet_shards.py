"""One Parquet file of images, read row group by row group."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tlprune.data.columns import label_column, path_column
from tlprune.data.decoding import decode_bytes, decode_image
from tlprune.errors import InputError, did_you_mean

__all__ = ["ParquetShard"]

_BINARY = {"image", "img", "jpg", "jpeg", "png", "webp", "bytes", "imagebytes", "imagedata", "content"}
"""Names of columns of bytes that are taken for images, in lower case and without separators."""

_HF_LABELS = ("label", "labels", "fine_label")


class ParquetShard:
    """Rows of a Parquet file, each with an image.

    Args:
        path: Path of the file.
        columns: Names of the columns ``image`` and ``label``, where the user names them.

    Attributes:
        labels: Label of each row as text; None without labels.
        classes: Class names that the file declares, as Hugging Face's ``ClassLabel``; None where it declares none.

    Raises:
        InputError: The file is no Parquet file, has no rows, no column of images, or a row without a label.
    """

    key_column = "row"

    def __init__(self, path: Path, columns: dict[str, str]) -> None:
        self.path = path
        self._opened: tuple[int, Any] | None = None
        self._held: tuple[int, Any] | None = None
        with self._naming():
            file = self._file()
            schema = file.schema_arrow
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            self._starts = np.cumsum([0, *sizes])
            features = _hugging_face_features(schema.metadata or {})
            self.image = self._image_column(schema, features, columns.get("image"))
            if len(self) == 0:
                raise InputError(f"{path}: a shard without images; it has 0 rows")
            label = self._label_column(schema, features, columns.get("label"))
            self.labels: list[str] | None = None
            self.classes: tuple[str, ...] | None = None
            if label is not None:
                values = file.read(columns=[label], use_threads=False).column(0).to_pylist()
                self._number(label, values, (features.get(label) or {}).get("names"))

    def __len__(self) -> int:
        """Returns the number of rows."""
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the open file, so that other processes open their own."""
        return vars(self) | {"_opened": None, "_held": None}

    def key(self, row: int) -> str:
        """Returns the number of a row, from 0."""
        return str(row)

    def name(self, row: int) -> str:
        """Returns the name of a row for messages."""
        return f"{self.path.name}, row {row}"

    def size(self, row: int) -> int:
        """Returns 0: sizes of images are not in the listing of a Parquet file."""
        return 0

    def decode(self, row: int) -> Tensor:
        """Decodes an image.

        Returns:
            ``[3, H, W]`` uint8.

        Raises:
            InputError: The row has no image, or it cannot be read or decoded.
        """
        with self._naming():
            group = int(np.searchsorted(self._starts, row, "right")) - 1
            if self._held is None or self._held[0] != group or self._opened is None or self._opened[0] != os.getpid():
                table = self._file().read_row_group(group, columns=[self.image], use_threads=False)
                self._held = group, table.column(0)
            value = self._held[1][row - int(self._starts[group])].as_py()
        name = f"{self.path}, row {row}"
        if isinstance(value, bytes):
            return decode_bytes(value, name)
        if value is not None and value.get("bytes") is not None:
            return decode_bytes(value["bytes"], name)
        if value is not None and value.get("path") is not None:
            return decode_image(self.path.parent / value["path"])
        raise InputError(f"{name}: it has no image")

    def copy(self, rows: Sequence[int], to: Path) -> None:
        """Writes a Parquet file of some rows with all columns and the same schema.

        Args:
            rows: Numbers of the rows, ascending.
            to: Path of the new file.
        """
        parquet, wanted = _pyarrow(self.path)[1], np.asarray(rows, dtype=np.int64)
        bounds = np.searchsorted(wanted, self._starts)
        with self._naming():
            file = self._file()
            with parquet.ParquetWriter(to, file.schema_arrow) as written:
                for group, (begin, end) in enumerate(pairwise(bounds.tolist())):
                    if begin < end:
                        table = file.read_row_group(group, use_threads=False)
                        written.write_table(table.take(wanted[begin:end] - self._starts[group]))

    def _file(self) -> Any:
        """Opens the file once for each process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _pyarrow(self.path)[1].ParquetFile(self.path, memory_map=False)
        return self._opened[1]

    @contextmanager
    def _naming(self) -> Iterator[None]:
        arrow = _pyarrow(self.path)[0]
        try:
            yield
        except (arrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.path}: no Parquet file that can be read ({reason})") from error

    def _image_column(self, schema: Any, features: dict[str, Any], named: str | None) -> str:
        """Returns the column of images: the user's, Hugging Face's ``Image``, or one of bytes with such a name."""
        arrow = _pyarrow(self.path)[0]

        def holds_images(column: str) -> bool:
            kind = schema.field(column).type
            if arrow.types.is_struct(kind):
                return {"bytes", "path"} >= {field.name for field in kind} >= {"bytes"}
            return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

        if named is not None:
            self._require_column(schema, named)
            if not holds_images(named):
                what = f"column {named!r} holds {schema.field(named).type}, not bytes or a struct of bytes and path"
                raise InputError(f"{self.path}: {what}")
            return named
        able = [column for column in schema.names if holds_images(column)]
        declared = [column for column in able if (features.get(column) or {}).get("_type") == "Image"]
        structs = [column for column in able if arrow.types.is_struct(schema.field(column).type)]
        by_name = [column for column in able if column.lower().replace("_", "").replace("-", "") in _BINARY]
        if found := declared[:1] or structs[:1] or path_column(able, str(self.path)) or by_name[:1]:
            return found if isinstance(found, str) else found[0]
        columns = ", ".join(schema.names[:10]) or "none"
        raise InputError(f"{self.path}: a shard without images: no column of image bytes among {columns}")

    def _label_column(self, schema: Any, features: dict[str, Any], named: str | None) -> str | None:
        types = _pyarrow(self.path)[0].types
        if named is not None:
            self._require_column(schema, named)
            if not _holds_labels(types, kind := schema.field(named).type):
                raise InputError(f"{self.path}: column {named!r} holds {kind}, and labels are text or whole numbers")
            return named
        declared = [name for name, kind in features.items() if (kind or {}).get("_type") == "ClassLabel"]
        declared = [name for name in declared if name in schema.names]
        if declared:
            return next((name for name in _HF_LABELS if name in declared), declared[0])
        usable = [name for name in schema.names if _holds_labels(types, schema.field(name).type)]
        return label_column([name for name in schema.names if name != self.image], str(self.path), usable)

    def _require_column(self, schema: Any, name: str) -> None:
        if name not in schema.names:
            raise InputError(f"{self.path}: no column {name!r}: {did_you_mean(name, schema.names)}")

    def _number(self, column: str, values: list[Any], names: list[str] | None) -> None:
        bare = [value is None or value == "" or (isinstance(value, int) and value < 0) for value in values]
        if any(bare):
            raise InputError(f"{self.path}: row {bare.index(True)} has no label in {column!r}")
        if names is None:
            self.labels = [str(value) for value in values]
            return
        if (most := max(values)) >= len(names):
            raise InputError(f"{self.path}: label {most} in {column!r} is not from 0 to {len(names) - 1}")
        self.labels, self.classes = [names[value] for value in values], tuple(names)


def _holds_labels(types: Any, kind: Any) -> bool:
    """Returns whether values of a type of Arrow may be labels: text, whole numbers, or a dictionary of these."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _hugging_face_features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Returns what Hugging Face's ``datasets`` notes of the columns of a file; empty for files of others."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install 'tlprune[parquet]'") from error
