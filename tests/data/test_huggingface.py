import os
import pickle
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tlprune.data.sources import open_source, source_classes
from tlprune.errors import InputError

datasets = pytest.importorskip("datasets")


@pytest.fixture
def rows():
    """Makes a table of pictures, some grey, with labels."""

    def make(count=7, **columns):
        rng = np.random.default_rng(count)
        pictures = [Image.fromarray(rng.integers(0, 256, (9, 8), dtype=np.uint8)) for _ in range(count // 2)]
        pictures += [
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(count - count // 2)
        ]
        features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "emu"])}
        labels = {"label": [number % 3 for number in range(count)]} | columns
        return datasets.Dataset.from_dict({"img": pictures} | labels, features=datasets.Features(features))

    return make


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def _equal(ours, rows):
    assert len(ours) == len(rows)
    assert ours.labels.tolist() == rows["label"][:]
    for index, row in enumerate(rows):
        pixels = torch.from_numpy(np.array(row["img"].convert("RGB"))).permute(2, 0, 1)
        assert torch.equal(ours[index][0], pixels)


def test_saved_splits(tmp_path, rows):
    train, held = rows(7), rows(3)
    datasets.DatasetDict({"train": train, "validation": held}).save_to_disk(tmp_path / "set")
    ours, val = open_source(f"huggingface:{tmp_path / 'set'}")
    _equal(ours, train)
    _equal(val, held)
    assert ours.classes == ("cat", "dog", "emu") == source_classes(f"huggingface:{tmp_path / 'set'}")


def test_a_saved_set_and_parquet_files(tmp_path, rows):
    table = rows()
    table.save_to_disk(tmp_path / "set")
    (tmp_path / "parquet").mkdir()
    table.to_parquet(tmp_path / "parquet" / "train-00000-of-00001.parquet")
    saved, _ = open_source(f"huggingface:{tmp_path / 'set'}")
    parquet, _ = open_source(f"huggingface:{tmp_path / 'parquet'}")
    _equal(saved, table)
    _equal(parquet, table)
    assert saved.fingerprint() == parquet.fingerprint()


def test_subsets_keep_their_rows_and_travel_to_other_processes(tmp_path, rows):
    table = rows()
    table.save_to_disk(tmp_path / "set")
    ours, _ = open_source(f"huggingface:{tmp_path / 'set'}")
    picked = ours.subset(torch.tensor([5, 1])).subset(torch.tensor([1, 0]))
    part = pickle.loads(pickle.dumps(picked))  # noqa: S301 - as loading processes get it
    assert part.name(0) == "row 1"
    assert part.labels.tolist() == [1, 2]
    assert torch.equal(part[0][0], ours[1][0])
    assert torch.equal(part[1][0], ours[5][0])
    assert part.fingerprint() != ours.subset(torch.tensor([5, 1])).fingerprint() != ours.fingerprint()


def test_another_image_is_another_digest(tmp_path, rows):
    changed = [*rows(7)["img"][:6], rows(7)["img"][6].rotate(180)]
    for name, table in (("one", rows(7)), ("two", rows(7)), ("three", rows(7, img=changed))):
        table.save_to_disk(tmp_path / name)
    one, two, three = (
        open_source(f"huggingface:{tmp_path / name}")[0].fingerprint() for name in ("one", "two", "three")
    )
    assert one == two != three


def test_without_labels(tmp_path, rows):
    rows().remove_columns("label").save_to_disk(tmp_path / "set")
    ours, _ = open_source(f"huggingface:{tmp_path / 'set'}")
    assert ours.classes == ()
    assert ours.labels.tolist() == [0] * 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rows, folder: rows.remove_columns("img").save_to_disk(folder), "no images in it, but label"),
        (lambda rows, folder: folder.mkdir(), "huggingface:"),
        (
            lambda rows, folder: datasets.DatasetDict({"one": rows, "two": rows}).save_to_disk(folder),
            "no split 'train' in it, only one, two",
        ),
        (
            lambda rows, folder: datasets.DatasetDict(
                {"train": rows, "val": rows.cast_column("label", datasets.ClassLabel(names=["emu", "cat", "dog"]))}
            ).save_to_disk(folder),
            "training and validation parts have different classes, such as 'emu'",
        ),
    ],
)
def test_what_cannot_be_opened_is_said(tmp_path, rows, make, message):
    make(rows(), tmp_path / "set")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        open_source(f"huggingface:{tmp_path / 'set'}")
    assert "\n" not in str(error.value)


def test_a_label_that_is_missing_is_named(tmp_path, rows):
    for missing in (-1, None):
        rows(label=[0, 1, 2, missing, 0, 1, 2]).save_to_disk(tmp_path / f"set{missing}")
        with pytest.raises(InputError, match="row 3 of .* has no label"):
            open_source(f"huggingface:{tmp_path / f'set{missing}'}")


def test_a_damaged_image_is_named_by_its_row(tmp_path):
    features = datasets.Features({"img": datasets.Image(decode=False)})
    content = [{"bytes": b"no image", "path": None}, None]
    datasets.Dataset.from_dict({"img": content}, features=features).save_to_disk(tmp_path / "set")
    ours, _ = open_source(f"huggingface:{tmp_path / 'set'}")
    with pytest.raises(InputError, match="set, row 0: not an image"):
        _ = ours[0]
    with pytest.raises(InputError, match="set, row 1: it has no image"):
        _ = ours[1]


def test_the_library_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the library datasets: pip install 'tlprune\[huggingface\]'"):
        open_source("huggingface:/data/set")


@pytest.mark.parametrize("name", ["valid", "val", "dev", "validation", "Valid"])
def test_validation_splits_of_any_usual_name_are_used(tmp_path, rows, name):
    datasets.DatasetDict({"train": rows(7), name: rows(3), "test": rows(2)}).save_to_disk(tmp_path / "set")
    train, val = open_source(f"huggingface:{tmp_path / 'set'}")
    assert (len(train), len(val)) == (7, 3)


def test_two_validation_splits_are_refused_and_other_splits_are_said(tmp_path, rows):
    datasets.DatasetDict({"train": rows(7), "valid": rows(3), "validation": rows(3)}).save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match="'valid' and 'validation' both stand for its validation part"):
        open_source(f"huggingface:{tmp_path / 'two'}")
    datasets.DatasetDict({"train": rows(7), "extra": rows(3)}).save_to_disk(tmp_path / "more")
    with pytest.warns(UserWarning, match="of its splits extra are not used"):
        open_source(f"huggingface:{tmp_path / 'more'}")


def test_images_in_files_that_are_written_anew_have_another_stamp(tmp_path, class_folder):
    root = class_folder("set", {"cat": 3, "dog": 2}, ending=".bmp")
    rows = datasets.load_dataset("imagefolder", data_dir=str(root), split="train")
    images, _ = open_source(f"huggingface:{root}")
    assert len(rows) == len(images) == 5
    before = images.fingerprint(), images.listed_fingerprint, images.fingerprint("bytes")
    file = root / "cat" / "001.bmp"
    changed = file.stat().st_mtime_ns
    Image.open(root / "cat" / "002.bmp").save(file)
    os.utime(file, ns=(changed, changed + 1_000_000_000))
    assert images.fingerprint() == before[0]
    assert images.listed_fingerprint != before[1]
    assert images.fingerprint("bytes") != before[2]


def _with_labels(rows, tmp_path, **columns):
    """Saved rows, their labels in other columns."""
    table = rows(6).remove_columns("label")
    for name, values in columns.items():
        table = table.add_column(name, values)
    table.save_to_disk(tmp_path / "set")
    return f"huggingface:{tmp_path / 'set'}"


@pytest.mark.parametrize("column", ["label", "class", "target", "category", "label_name", "Class Name"])
@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        (["b", "a", "b", "c", "a", "a"], ("a", "b", "c"), [1, 0, 1, 2, 0, 0]),
        ([10, 9, 10, 9, 2, 2], ("2", "9", "10"), [2, 1, 2, 1, 0, 0]),
        ([True, False, True, True, True, True], ("False", "True"), [1, 0, 1, 1, 1, 1]),
    ],
)
def test_columns_of_text_and_numbers_are_labels(tmp_path, rows, column, values, classes, labels):
    ours, _ = open_source(_with_labels(rows, tmp_path, **{column: values}))
    assert (ours.classes, ours.labels.tolist()) == (classes, labels)


@pytest.mark.parametrize(("column", "values"), [("species", ["a"] * 6), ("target", [0.5] * 6), ("labels", [[1]] * 6)])
def test_columns_that_may_hold_labels_are_said(tmp_path, rows, column, values):
    with pytest.warns(UserWarning, match=f"no labels are read from '{column}'; they are read from a column 'label'"):
        assert open_source(_with_labels(rows, tmp_path, **{column: values}))[0].classes == ()


def test_two_columns_of_labels_are_refused_or_said(tmp_path, rows):
    source = _with_labels(rows, tmp_path, target=["a"] * 6, category=["b"] * 6)
    with pytest.raises(InputError, match="columns 'target', 'category' may all hold labels"):
        open_source(source)
    table = rows(6).rename_column("label", "kind").add_column("label", ["a"] * 6)
    table.save_to_disk(tmp_path / "named")
    with pytest.warns(UserWarning, match="labels are read from 'kind', not from 'label'"):
        assert open_source(f"huggingface:{tmp_path / 'named'}")[0].classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("missing", [None, "", -1])
def test_a_value_that_is_missing_is_named(tmp_path, rows, missing):
    values = [1, 2, missing, 1, 1, 1] if missing == -1 else ["a", "b", missing, "a", "a", "a"]
    with pytest.raises(InputError, match="row 2 of .* has no label in 'class'"):
        open_source(_with_labels(rows, tmp_path, **{"class": values}))


def test_a_validation_split_that_lacks_a_class_has_the_same_labels(tmp_path, rows):
    parts = {}
    for part, values in (("train", ["a", "b", "c", "a", "b", "c"]), ("valid", ["b", "c", "c", "b", "c", "c"])):
        parts[part] = rows(6).remove_columns("label").add_column("class", values)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    train, val = open_source(f"huggingface:{tmp_path / 'set'}")
    assert train.classes == val.classes == ("a", "b", "c")
    assert val.labels.tolist() == [1, 2, 2, 1, 2, 2]
