"""Reads files of features: ``.npy``, ``.npz``, ``.safetensors`` and ``.parquet``. Nothing in them is executed.

``.npy`` and ``.safetensors`` are mapped: what is not asked for is not read. The features of the others are written to
the cache as ``.npy`` once, in parts, and mapped there.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tlprune.data.columns import label_column, path_column
from tlprune.data.embedding import Embedding
from tlprune.data.feature_names import absolute_features, check_features, is_features, sidecars
from tlprune.data.feature_set import FeatureRows, FeatureSet
from tlprune.data.list_files import read_table
from tlprune.data.listed import read_json
from tlprune.errors import InputError
from tlprune.storage.atomic import atomic_path
from tlprune.storage.cache import cache_root, locked
from tlprune.storage.fingerprint import digest_file

__all__ = [
    "EMBEDDING_KEY",
    "FEATURE_COLUMNS",
    "open_features",
    "refuse_features",
]

EMBEDDING_KEY = "tlprune_embedding"
"""Where files keep what ``tlprune embed`` records."""

FEATURE_COLUMNS = ("embedding", "embeddings", "features")
"""Columns of a Parquet table that hold features."""

_ROWS_AT_ONCE = 4096


@dataclass
class _Content:
    """What is in a file: ``labels`` are numbers or names, ``embedding`` is JSON."""

    rows: FeatureRows
    labels: Any = None
    classes: Any = None
    paths: list[str] | None = None
    embedding: Any = None


def refuse_features(source: object) -> None:
    """Refuses features where images are needed.

    Args:
        source: Name of a source, or a set.

    Raises:
        InputError: It is a set of features.
    """
    if is_features(source) or isinstance(source, FeatureSet):
        name = source.where if isinstance(source, FeatureSet) else source
        raise InputError(
            f"source {name}: features cannot be trained on; give the images, and the Selection that was made from the "
            "features as `selection`"
        )


def open_features(name: str, cache: str | os.PathLike[str] | None = None) -> FeatureSet:
    """Opens a file of features.

    Args:
        name: ``features:FILE``.
        cache: The cache folder; None for the user's.

    Returns:
        The features, mapped from the file or from the cache.

    Raises:
        InputError: The file is missing or damaged, or what it holds does not go together.
    """
    file = check_features(name)
    where = absolute_features(name)
    with _readable(where):
        content = _READERS[file.suffix.lower()](file, where, cache)
    record = None if content.embedding is None else Embedding.from_json(content.embedding, where)
    classes = content.classes if record is None else record.classes or None
    return FeatureSet(content.rows, content.labels, classes, content.paths, where=where, embedding=record)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(f"{where}: cannot be read: {reason}") from error


def _open_npy(file: Path, where: str, _: object) -> _Content:
    table, record = sidecars(file)
    rows = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(rows, np.ndarray):
        raise InputError(f"{where}: several arrays; call it .npz")
    content = _Content(rows)
    if table.is_file():
        listed = read_table(table, needs_path=False)
        content.paths = [path for path, _ in listed] if any(path for path, _ in listed) else None
        content.labels = np.array([label for _, label in listed]) if any(label for _, label in listed) else None
        if rows.shape[:1] != (len(listed),):
            raise InputError(f"{where}: features of the shape {rows.shape}, and {len(listed):,} rows in {table}")
    if record.is_file():
        value = read_json(record)  # a file of that name may be anything
        content.embedding = value.get(EMBEDDING_KEY) if isinstance(value, dict) else None
    return content


def _open_npz(file: Path, where: str, cache: str | os.PathLike[str] | None) -> _Content:
    with file.open("rb") as opened:
        arrays = np.load(opened, allow_pickle=False)
        names = getattr(arrays, "files", ["one array"])
        if "features" not in names:
            raise InputError(f"{where}: no array 'features' in it, only {', '.join(names) or 'nothing'}")
        small = {name: arrays[name] for name in ("labels", "classes", "paths", EMBEDDING_KEY) if name in names}

    def copy(target: Path) -> None:
        with zipfile.ZipFile(file) as archive, archive.open("features.npy") as member, target.open("wb") as output:
            shutil.copyfileobj(member, output, 2**20)

    content = _Content(_converted(file, cache, copy))
    for name in ("labels", "classes", "paths"):
        if name in small and small[name].dtype.kind == "S":
            small[name] = np.char.decode(small[name], "utf-8")
    content.labels = small.get("labels")
    content.classes = small["classes"].tolist() if "classes" in small else None
    content.paths = list(map(str, small["paths"].tolist())) if "paths" in small else None
    content.embedding = json.loads(str(small[EMBEDDING_KEY])) if EMBEDDING_KEY in small else None
    return content


class _MappedTensor:
    """A tensor in a safetensors file, read in parts."""

    def __init__(self, file: Any, name: str) -> None:
        self._slice = file.get_slice(name)
        self.shape = tuple(self._slice.get_shape())
        kind = self._slice.get_dtype()
        self.dtype = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}.get(kind, kind)

    def __getitem__(self, rows: slice) -> Tensor:
        part: Tensor = self._slice[rows]
        return part


def _open_safetensors(file: Path, where: str, _: object) -> _Content:
    opened: Any = safe_open(file, framework="pt")
    names = list(opened.keys())
    if "features" not in names:
        raise InputError(f"{where}: no tensor 'features' in it, only {', '.join(names[:5]) or 'nothing'}")
    metadata = opened.metadata() or {}
    content = _Content(_MappedTensor(opened, "features"))
    content.labels = opened.get_tensor("labels") if "labels" in names else _json(metadata, "labels", where)
    content.classes = _json(metadata, "classes", where)
    content.paths = _json(metadata, "paths", where)
    if "paths" in names:  # a header has at most 100 MB
        text = opened.get_tensor("paths")
        if text.dtype != torch.uint8:
            raise InputError(
                f"{where}: tensor 'paths' must be uint8, UTF-8 with a zero byte after each; got {text.dtype}"
            )
        content.paths = text.numpy().tobytes().decode(errors="surrogateescape").split("\0")[:-1]
    content.embedding = json.loads(metadata[EMBEDDING_KEY]) if EMBEDDING_KEY in metadata else None
    return content


def _json(metadata: dict[str, str], name: str, where: str) -> Any:
    if name not in metadata:
        return None
    value = json.loads(metadata[name])
    if not isinstance(value, list):
        raise InputError(f"{where}: metadata {name!r} must be a JSON list, got {type(value).__name__}")
    return value if name == "labels" else list(map(str, value))


def _open_parquet(file: Path, where: str, cache: str | os.PathLike[str] | None) -> _Content:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(f"{where}: Parquet needs pyarrow: pip install 'tlprune[parquet]'") from error
    try:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        found = [name for name in names if name in FEATURE_COLUMNS]
        if len(found) != 1:
            what = f"{len(found)} columns of features ({', '.join(found)})" if found else "no column of features"
            raise InputError(f"{where}: {what}; call one of {', '.join(names)} 'features'")
        others = [name for name in names if name not in found]
        path, label = path_column(others, where), label_column(others, where)
        content = _Content(_converted(file, cache, lambda target: _write_rows(table, found[0], target, where)))
        columns = table.read([name for name in (path, label) if name is not None])
        if path is not None:
            content.paths = list(map(str, columns[path].to_pylist()))
        if label is not None:
            labels = columns[label].to_pylist()
            if None in labels:
                raise InputError(f"{where}: row {labels.index(None)} has no label in {label!r}")
            content.labels = np.array(labels)
        metadata = table.schema_arrow.metadata or {}
        content.embedding = json.loads(metadata[EMBEDDING_KEY.encode()]) if EMBEDDING_KEY.encode() in metadata else None
    except ArrowException as error:
        raise InputError(f"{where}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    return content


def _write_rows(table: Any, column: str, target: Path, where: str) -> None:
    """Writes a column of lists of one length as an array, in parts."""
    total, done = table.metadata.num_rows, 0
    output: Any = None
    for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[column]):
        rows = batch.column(0)
        rows = getattr(rows, "storage", rows)
        kind = str(getattr(rows.type, "value_type", rows.type))
        dtype = {"halffloat": "f2", "float": "f4", "double": "f8"}.get(kind)
        if dtype is None or not hasattr(rows.type, "value_type"):
            raise InputError(f"{where}: column {column!r} must hold lists of floats, got {rows.type}")
        if rows.null_count:
            raise InputError(f"{where}: row {done + rows.is_null().to_pylist().index(True)} has no features")
        widths = np.asarray(rows.value_lengths()) if hasattr(rows, "value_lengths") else np.array([])
        first = output.shape[1] if output is not None else int(widths[0]) if len(widths) else rows.type.list_size
        if odd := np.flatnonzero(widths != first).tolist():
            raise InputError(f"{where}: row {done + odd[0]} has {widths[odd[0]]} features, row 0 has {first}")
        if output is None:
            output = np.lib.format.open_memmap(target, "w+", dtype, (total, first))
        output[done : done + len(rows)] = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), first)
        done += len(rows)
    if output is None:
        raise InputError(f"{where}: no features in it: it has 0 rows")
    output.flush()


def _converted(file: Path, cache: str | os.PathLike[str] | None, write: Callable[[Path], None]) -> FeatureRows:
    """Maps the features of a file, written to the cache once."""
    path = cache_root(cache) / "feature_files" / f"{digest_file(file)[:32]}.npy"
    with locked(path):
        if not path.is_file():
            with atomic_path(path) as temporary:
                write(temporary)
    rows: FeatureRows = np.load(path, mmap_mode="r", allow_pickle=False)
    return rows


_READERS: dict[str, Callable[[Path, str, Any], _Content]] = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".safetensors": _open_safetensors,
    ".parquet": _open_parquet,
}
