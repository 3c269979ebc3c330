"""Files of features: every format read and written, mapped and not read whole, and refused in a line where wrong."""

import json

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from tlprune import FeatureSet, InputError
from tlprune.data import feature_writing
from tlprune.data.feature_files import open_features
from tlprune.data.feature_writing import write_features

FORMATS = ("npy", "npz", "safetensors", "parquet")
ROWS, WIDTH = 9, 4
PATHS = [f"b/{row}.png" for row in range(ROWS)]
NAMES = ["bee", "ant", "cow"] * 3


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype("f2")


def written_by_numpy(file, rows, paths=None, labels=None):
    np.save(file, rows)
    if paths or labels:
        columns = {name: values for name, values in {"path": paths, "label": labels}.items() if values}
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        file.with_suffix(".csv").write_text("\n".join(lines))


def written_by_savez(file, rows, paths=None, labels=None):
    given = {"features": rows, "paths": paths, "labels": labels}
    np.savez(file, **{name: np.array(values) for name, values in given.items() if values is not None})


def written_by_safetensors(file, rows, paths=None, labels=None):
    given = {"paths": paths, "labels": labels}
    metadata = {name: json.dumps(values) for name, values in given.items() if values is not None}
    save_file({"features": torch.from_numpy(rows)}, file, metadata)


def written_by_pyarrow(file, rows, paths=None, labels=None):
    columns = {"embedding": [*rows], "path": paths, "label": labels}
    parquet.write_table(pyarrow.table({name: of for name, of in columns.items() if of is not None}), file)


THEIRS = {
    "npy": written_by_numpy,
    "npz": written_by_savez,
    "safetensors": written_by_safetensors,
    "parquet": written_by_pyarrow,
}


@pytest.fixture
def opened(tmp_path, rows):
    """Opens a file that another library has written."""

    def make(ending, rows=rows, **more):
        file = tmp_path / f"f.{ending}"
        THEIRS[ending](file, rows, **more)
        return open_features(f"features:{file}")

    return make


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_what_others_wrote_is_read(ending, dtype, opened, rows):
    found = opened(ending, rows.astype(dtype), paths=PATHS, labels=NAMES)
    assert found.read_features(range(2, 5)).tolist() == rows[2:5].astype("f4").tolist()
    assert found.read_features(range(2, 5)).dtype == torch.float32
    assert (found.width, len(found)) == (WIDTH, ROWS)
    assert found.paths == tuple(PATHS)
    assert found.classes == ("ant", "bee", "cow")
    assert found.labels.tolist() == [1, 0, 2] * 3


@pytest.mark.parametrize("ending", FORMATS)
def test_paths_and_labels_may_be_missing(ending, opened):
    found = opened(ending)
    assert found.paths is None
    assert found.classes == ()
    assert found.labels.tolist() == [0] * ROWS
    assert found.name(3) == "row 3"


@pytest.mark.parametrize("ending", FORMATS)
def test_numbers_as_labels_name_their_classes(ending, opened):
    found = opened(ending, labels=[2, 10, 1] * 3)
    assert found.labels.tolist() in ([2, 10, 1] * 3, [1, 2, 0] * 3)  # text is sorted, numbers are places
    assert [found.classes[label] for label in found.labels.tolist()] == ["2", "10", "1"] * 3


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_written_is_read_back(ending, dtype, labelled, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_writing, "_ROWS_AT_ONCE", 4)
    given = {"labels": NAMES, "paths": ["odd, name.png", *PATHS[1:]]} if labelled else {}
    before = FeatureSet(rows.astype(dtype), **given)
    file = tmp_path / f"out.{ending}"
    write_features(before, file)
    after = open_features(f"features:{file}")
    assert after.digest_features() == before.digest_features()
    assert (after.paths, after.classes) == (before.paths, before.classes)
    assert after.labels.tolist() == before.labels.tolist()
    assert after.fingerprint() == before.fingerprint()
    content = file.read_bytes()
    write_features(before, file)
    assert file.read_bytes() == content


def test_others_read_what_is_written(rows, tmp_path):
    before = FeatureSet(rows, labels=NAMES, paths=PATHS)
    for ending in FORMATS:
        write_features(before, tmp_path / f"out.{ending}")
    assert (np.load(tmp_path / "out.npy") == rows).all()
    with np.load(tmp_path / "out.npz") as arrays:
        assert (arrays["features"] == rows).all()
        assert arrays["paths"].tolist() == PATHS
    tensors = load_file(tmp_path / "out.safetensors")
    assert torch.equal(tensors["features"], torch.from_numpy(rows))
    assert tensors["labels"].tolist() == [1, 0, 2] * 3
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["label"].to_pylist() == NAMES
    assert np.array(table["features"].to_pylist(), dtype="f2").tolist() == rows.tolist()


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_features_are_mapped_and_not_read_whole(ending, opened):
    assert isinstance(opened(ending).rows, np.memmap)


def test_a_large_file_is_read_in_parts(tmp_path, monkeypatch):
    """No read is larger than asked for, in a tensor file too."""
    save_file({"features": torch.ones(5000, 8)}, tmp_path / "f.safetensors")
    monkeypatch.setattr("tlprune.data.feature_set._AT_ONCE", 800)
    found = open_features(f"features:{tmp_path / 'f.safetensors'}")
    asked = []
    rows = found.rows

    class Counted:
        shape, dtype = rows.shape, rows.dtype

        def __getitem__(self, part):
            asked.append(part.stop - part.start)
            return rows[part]

    found.rows = Counted()
    found.digest_features()
    assert (max(asked), sum(asked)) == (100, 5000)


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_an_archive_is_unpacked_once_and_again_where_it_changed(ending, opened, rows, tmp_path):
    first = opened(ending)
    opened(ending)
    assert len(list((tmp_path / "cache" / "feature_files").glob("*.npy"))) == 1
    second = opened(ending, rows + 1)
    assert second.digest_features() != first.digest_features()


def test_features_of_another_byte_order_or_layout_are_the_same(opened, rows):
    digest = opened("npy", rows.astype("f4")).digest_features()
    assert opened("npy", np.asfortranarray(rows.astype("f4"))).digest_features() == digest
    assert opened("npy", rows.astype(">f4")).digest_features() == digest
    assert opened("npy", rows.astype("f8")).digest_features() == digest


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_named_by_row_and_path(ending, value, opened, rows):
    rows = rows.astype("f4")
    rows[[3, 7], 1] = value
    with pytest.raises(InputError, match=r"NaN or infinite in 2 of 9 rows, first in row 3 \(b/3.png\)"):
        opened(ending, rows, paths=PATHS).digest_features()
    with pytest.raises(InputError, match="first in row 3$"):
        opened(ending, rows).digest_features() if ending != "npy" else FeatureSet(rows).digest_features()


def test_a_number_beyond_float32_is_infinite(opened, rows):
    rows = rows.astype("f8")
    rows[8, 0] = 1e300
    with pytest.raises(InputError, match="in 1 of 9 rows, first in row 8"):
        opened("npz", rows).digest_features()


@pytest.mark.parametrize(
    ("ending", "rows", "more", "message"),
    [
        ("npy", np.zeros(5, "f4"), {}, r"two dimensions, \[N, D\]; got the shape \(5,\)"),
        ("npz", np.zeros((2, 3, 4), "f4"), {}, r"got the shape \(2, 3, 4\)"),
        ("safetensors", np.zeros(5, "f4"), {}, r"got the shape \(5,\)"),
        ("npy", np.zeros((5, 2), "i4"), {}, "must be float16, float32 or float64, got int32"),
        ("safetensors", np.zeros((5, 2), "i4"), {}, "must be float16, float32 or float64, got I32"),
        ("npz", np.zeros((0, 3), "f4"), {}, r"no features in it: its shape is \(0, 3\)"),
        ("npy", np.zeros((0, 3), "f4"), {}, r"no features in it: its shape is \(0, 3\)"),
        ("safetensors", np.zeros((0, 3), "f4"), {}, r"no features in it: its shape is \(0, 3\)"),
        ("parquet", np.zeros((0, 3), "f4"), {}, "no features in it: it has 0 rows|must hold lists of floats"),
        ("npy", np.zeros((5, 2), "f4"), {"paths": PATHS[:4]}, r"of the shape \(5, 2\), and 4 rows in .*f.csv"),
        ("npz", np.zeros((5, 2), "f4"), {"paths": PATHS[:4]}, "5 rows of features, and 4 paths"),
        ("npz", np.zeros((5, 2), "f4"), {"labels": [0, 1]}, "5 rows of features, and 2 labels"),
        ("safetensors", np.zeros((5, 2), "f4"), {"paths": PATHS}, "5 rows of features, and 9 paths"),
        ("npz", np.zeros((3, 2), "f4"), {"paths": ["a", "b", "a"]}, "path 'a' stands in row 0 and in row 2"),
        ("parquet", np.zeros((3, 2), "f4"), {"paths": ["a", "b", "a"]}, "path 'a' stands in row 0 and in row 2"),
        ("npz", np.zeros((3, 2), "f4"), {"labels": [0, -1, 2]}, "label -1 of row 1 is not from 0 to 2"),
        ("npz", np.zeros((3, 2), "f4"), {"labels": [0.5, 1, 2]}, "labels must be whole numbers or text"),
        ("parquet", np.zeros((3, 2), "f4"), {"labels": ["a", None, "b"]}, "row 1 has no label in 'label'"),
        ("npy", np.zeros((3, 2), "f4"), {"paths": ["a", "b", "c"], "labels": ["x", "", "y"]}, "b has no label"),
    ],
)
def test_what_does_not_go_together_is_refused(ending, rows, more, message, opened):
    with pytest.raises(InputError, match=message):
        opened(ending, rows, **more)


def test_labels_beyond_the_classes_are_refused(tmp_path, rows):
    np.savez(tmp_path / "f.npz", features=rows, labels=np.arange(ROWS), classes=np.array(["a", "b"]), paths=PATHS)
    with pytest.raises(InputError, match="label 2 of b/2.png is not from 0 to 1"):
        open_features(f"features:{tmp_path / 'f.npz'}")
    with pytest.raises(InputError, match="label 'cow' of row 2 is not among its 2 classes"):
        FeatureSet(rows, labels=NAMES, classes=["ant", "bee"])
    with pytest.raises(InputError, match="class 'a' stands twice"):
        FeatureSet(rows, labels=NAMES, classes=["a", "a"])


def test_rows_of_several_widths_are_named(tmp_path):
    table = pyarrow.table({"features": pyarrow.array([[1.0, 2.0], [3.0, 4.0], [5.0]])})
    parquet.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(InputError, match="row 2 has 1 features, row 0 has 2"):
        open_features(f"features:{tmp_path / 'f.parquet'}")
    parquet.write_table(pyarrow.table({"features": [[1.0], None]}), tmp_path / "f.parquet")
    with pytest.raises(InputError, match="row 1 has no features"):
        open_features(f"features:{tmp_path / 'f.parquet'}")
    parquet.write_table(pyarrow.table({"vector": [[1.0]], "path": ["a"]}), tmp_path / "f.parquet")
    with pytest.raises(InputError, match="no column of features; call one of vector, path 'features'"):
        open_features(f"features:{tmp_path / 'f.parquet'}")


@pytest.mark.parametrize("ending", FORMATS)
def test_a_damaged_file_is_refused(ending, opened, tmp_path):
    opened(ending)
    file = tmp_path / f"f.{ending}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=f"features:.*f.{ending}: cannot be read"):
        open_features(f"features:{file}")


def test_objects_are_not_unpickled(tmp_path, rows):
    np.savez(tmp_path / "f.npz", features=rows, paths=np.array(PATHS, dtype=object))
    with pytest.raises(InputError, match="f.npz: cannot be read: Object arrays cannot be loaded"):
        open_features(f"features:{tmp_path / 'f.npz'}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("features:", "which file?"),
        ("features:f.csv", "are read from .npy, .npz, .safetensors, .parquet, not from .csv"),
        ("features:none.npy", "features:none.npy: no such file"),
    ],
)
def test_names_that_lead_nowhere_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        open_features(name)


def test_a_table_of_somebody_else_is_not_written_over(rows, tmp_path):
    (tmp_path / "out.csv").write_text("path\na.png\n")
    with pytest.raises(InputError, match=r"out.csv is there, and was not written with it"):
        write_features(FeatureSet(rows, paths=PATHS), tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()
    assert (tmp_path / "out.csv").read_text() == "path\na.png\n"


def test_names_that_no_table_holds_go_into_a_tensor(rows, tmp_path):
    odd = FeatureSet(rows, paths=["line\nbreak.png", "no text \udcff.png", *PATHS[2:]])
    with pytest.raises(InputError, match="cannot stand in a table; write .safetensors"):
        write_features(odd, tmp_path / "out.npy")
    with pytest.raises(InputError, match="is no text in UTF-8"):
        write_features(odd, tmp_path / "out.parquet")
    write_features(odd, tmp_path / "out.safetensors")
    assert open_features(f"features:{tmp_path / 'out.safetensors'}").paths == odd.paths


def test_features_are_no_images(rows):
    found = FeatureSet(rows, labels=NAMES, paths=PATHS)
    with pytest.raises(InputError, match="features, and no images, so b/4.png cannot be shown"):
        found[4]
    part = found.subset(torch.tensor([5, 2]))
    assert part.read_features(range(2)).tolist() == rows[[5, 2]].astype("f4").tolist()
    assert (part.paths, part.labels.tolist()) == (("b/5.png", "b/2.png"), [2, 2])
