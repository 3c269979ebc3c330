"""Writes files of features in parts, so that not all of them are in memory, and whole or not at all."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tlprune.data.feature_files import EMBEDDING_KEY
from tlprune.data.feature_names import require_feature_suffix, sidecars
from tlprune.data.feature_set import FeatureSet
from tlprune.errors import InputError
from tlprune.storage.as_csv import as_csv
from tlprune.storage.atomic import atomic_path, write_bytes
from tlprune.storage.paths import user_path

__all__ = ["check_feature_output", "write_features"]

_ROWS_AT_ONCE = 4096


def check_feature_output(output: str | os.PathLike[str]) -> Path:
    """Checks the name of a file of features that is to be written.

    Returns:
        Its path.

    Raises:
        InputError: Its suffix is unknown, its library is missing, or a file beside it that is not ours would be lost.
    """
    file = user_path(output)
    require_feature_suffix(file)
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise InputError(f"cannot write {output}: Parquet needs pyarrow: pip install 'tlprune[parquet]'") from error
    if suffix == ".npy":
        table, record = sidecars(file)
        ours = record.is_file() and EMBEDDING_KEY.encode() in record.read_bytes()
        if lost := next((one for one in (table, record) if one.exists() and not ours), None):
            raise InputError(
                f"cannot write {output}: {lost} is there, and was not written with it; choose another name"
            )
    return file


def write_features(features: FeatureSet, output: str | os.PathLike[str]) -> None:
    """Writes features with their paths, labels and class names, and what ``tlprune embed`` recorded.

    Args:
        features: The set.
        output: The file; its suffix says how it is written. Beside an ``.npy`` stand a ``.csv`` and a ``.json``.

    Raises:
        InputError: As :func:`check_feature_output`, or a name cannot be written in this format.
    """
    file = check_feature_output(output)
    _WRITERS[file.suffix.lower()](features, file)


def _parts(features: FeatureSet) -> Iterator[NDArray[Any]]:
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = features.rows[start : start + _ROWS_AT_ONCE]
        yield rows.numpy() if isinstance(rows, Tensor) else np.asarray(rows)


def _dtype(features: FeatureSet) -> np.dtype[Any]:
    return next(_parts(features)).dtype


def _record(features: FeatureSet) -> str | None:
    return None if features.embedding is None else json.dumps(features.embedding.as_json(), sort_keys=True)


def _class_of_each(features: FeatureSet) -> list[str]:
    return [features.classes[label] for label in features.labels.tolist()]


def _require_text(names: list[str], what: str, file: Path) -> None:
    for name in names:
        if what == "csv" and (name != name.strip() or not name or len(name.splitlines()) > 1):
            raise InputError(f"cannot write {file}: {name!r} cannot stand in a table; write .safetensors")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"cannot write {file}: {name!r} is no text in UTF-8; write .safetensors") from error


def _write_npy(features: FeatureSet, file: Path) -> None:
    table, record = sidecars(file)
    columns = {} if features.paths is None else {"path": list(features.paths)}
    columns |= {"label": _class_of_each(features)} if features.classes else {}
    for names in columns.values():
        _require_text(names, "csv", file)
    embedding = None if features.embedding is None else features.embedding.as_json()
    # the record is first: what stands beside it is then known to be ours
    write_bytes(record, json.dumps({EMBEDDING_KEY: embedding}, sort_keys=True, indent=1).encode() + b"\n")
    if columns:
        write_bytes(table, as_csv(columns, zip(*columns.values(), strict=True)).encode())
    else:
        table.unlink(missing_ok=True)
    with atomic_path(file) as temporary, temporary.open("wb") as opened:
        _write_array(features, opened)


def _write_array(features: FeatureSet, opened: Any) -> None:
    descr = np.lib.format.dtype_to_descr(_dtype(features))
    shape = (len(features), features.width)
    np.lib.format.write_array_header_1_0(opened, {"descr": descr, "fortran_order": False, "shape": shape})
    for part in _parts(features):
        opened.write(part.tobytes())


def _write_npz(features: FeatureSet, file: Path) -> None:
    small: dict[str, NDArray[Any]] = {}
    if features.paths is not None:
        small["paths"] = np.array(features.paths, dtype=str)
    if features.classes:
        small |= {"labels": features.labels.numpy(), "classes": np.array(features.classes, dtype=str)}
    if (record := _record(features)) is not None:
        small[EMBEDDING_KEY] = np.array(record)
    with atomic_path(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as opened:
            _write_array(features, opened)
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as opened:
                np.lib.format.write_array(opened, array, allow_pickle=False)


def _write_safetensors(features: FeatureSet, file: Path) -> None:
    """Writes the header and then tensors in parts, which the library cannot: it takes whole tensors as bytes."""
    text = "".join(f"{path}\0" for path in features.paths or ()).encode(errors="surrogateescape")
    dtype = _dtype(features)
    kind = {"float16": "F16", "float32": "F32", "float64": "F64"}[dtype.name]
    total = len(features)
    tensors = {"labels": ("I64", [total], 8 * total)} if features.classes else {}
    tensors["features"] = (kind, [total, features.width], total * features.width * dtype.itemsize)
    tensors |= {"paths": ("U8", [len(text)], len(text))} if features.paths is not None else {}
    metadata = {"classes": json.dumps(features.classes)} if features.classes else {}
    metadata |= {} if (record := _record(features)) is None else {EMBEDDING_KEY: record}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (kind, shape, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with atomic_path(file) as temporary, temporary.open("wb") as opened:
        opened.write(len(encoded).to_bytes(8, "little") + encoded)
        if features.classes:
            opened.write(features.labels.numpy().tobytes())
        for part in _parts(features):
            opened.write(part.tobytes())
        opened.write(text)


def _write_parquet(features: FeatureSet, file: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    for names in (features.paths or (), features.classes):
        _require_text(list(names), "parquet", file)
    kind = pyarrow.float64() if _dtype(features).itemsize == 8 else pyarrow.float32()  # few readers know float16
    fields = [("features", pyarrow.list_(kind, features.width))]
    fields += [("path", pyarrow.string())] if features.paths is not None else []
    fields += [("label", pyarrow.string())] if features.classes else []
    metadata = None if (record := _record(features)) is None else {EMBEDDING_KEY: record}
    schema, start = pyarrow.schema(fields, metadata=metadata), 0
    labels = _class_of_each(features) if features.classes else []
    with atomic_path(file) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for part in _parts(features):
            rows = slice(start, start + len(part))
            flat = pyarrow.array(part.astype(kind.to_pandas_dtype()).ravel())
            columns = [pyarrow.FixedSizeListArray.from_arrays(flat, features.width)]
            columns += [pyarrow.array(features.paths[rows], pyarrow.string())] if features.paths is not None else []
            columns += [pyarrow.array(labels[rows], pyarrow.string())] if features.classes else []
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            start += len(part)


_WRITERS: dict[str, Callable[[FeatureSet, Path], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".parquet": _write_parquet,
}
