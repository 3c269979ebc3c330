import json

import pytest

from real_layouts import write_coop
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.data.target_splits import open_named
from tlprune.errors import InputError

COOP = [name for name, entry in TARGET_SETS.items() if entry.coop_file]


@pytest.mark.parametrize("name", COOP)
def test_parts_are_those_of_the_file(name, tmp_path):
    entry = write_coop(name, tmp_path)
    target = open_named(entry, tmp_path)
    document = json.loads((tmp_path / entry.coop_file).read_text())
    assert target.split == f"CoOp, {entry.coop_file}"
    assert target.classes == ("kind00", "kind01", "kind02")
    for part, images in (("train", target.train), ("val", target.val), ("test", target.test)):
        ours = [[path, int(label)] for path, label in zip(images.paths, images.labels, strict=True)]
        assert ours == [row[:2] for row in document[part]]
        assert images[0][0].shape == (3, 8, 8)


def test_an_order_by_label_is_not_needed(tmp_path):
    entry = write_coop("dtd", tmp_path)
    file = tmp_path / entry.coop_file
    document = json.loads(file.read_text())
    document["train"].reverse()
    file.write_text(json.dumps(document))
    target = open_named(entry, tmp_path)
    assert target.train.labels.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    assert target.classes == ("kind00", "kind01", "kind02")


def changed(row, part="train", number=0):
    def change(document):
        document[part][number] = row

    return change


HOSTILE = {
    "a list": (lambda document: [], "must be an object with the lists 'train', 'val' and 'test', got \\["),
    "no val": (lambda document: document.pop("val") and None, "lists 'train', 'val' and 'test'; 'val' is None"),
    "part of another type": (lambda document: document.update(test={"a": 1}), "'test' is {'a': 1}"),
    "an empty part": (lambda document: document["val"].clear(), "lists no images for 'val'"),
    "two fields": (changed(["a.jpg", 0]), r"entry 0 of 'train' must be \[path, label, class name\], got"),
    "text as label": (changed(["a.jpg", "0", "x"]), "entry 0 of 'train' must be"),
    "truth as label": (changed(["a.jpg", True, "kind01"]), "entry 0 of 'train' must be"),
    "fraction as label": (changed(["a.jpg", 0.0, "kind00"], "test", 2), "entry 2 of 'test' must be"),
    "number as path": (changed([3, 0, "kind00"]), "entry 0 of 'train' must be"),
    "a name that moves the cursor": (changed(["a.jpg", 0, "\x1b[2Jx"]), "entry 0 of 'train' must be"),
    "no name": (changed(["a.jpg", 0, ""]), "entry 0 of 'train' must be"),
    "label beyond": (changed(["a.jpg", 3, "kind03"]), "labels must be 0 to 2, got 4 labels from 0 to 3"),
    "label below": (changed(["a.jpg", -1, "kind03"]), "labels must be 0 to 2, got 4 labels from -1 to 2"),
    "huge label": (changed(["a.jpg", 10**400, "kind03"]), "labels must be 0 to 2"),
    "two names": (changed(["a.jpg", 0, "cat"], "val"), "label 0 is called both 'kind00' and 'cat'"),
    "absolute path": (changed(["/etc/passwd.jpg", 0, "kind00"]), "'/etc/passwd.jpg' must be a relative path"),
    "path that leads out": (changed(["a/../../b.jpg", 0, "kind00"]), "'a/../../b.jpg' must be a relative path without"),
    "backslashes": (changed(["..\\b.jpg", 0, "kind00"]), "must be a relative path without"),
    "a drive": (changed(["C:/b.jpg", 0, "kind00"]), "must be a relative path without"),
    "null byte": (changed(["a\0.jpg", 0, "kind00"]), "must be a relative path without"),
    "no image": (changed(["../split.txt"[3:], 0, "kind00"]), "'split.txt' is not an image"),
    "no path": (changed(["", 0, "kind00"]), "'' is not an image"),
    "half a character": (changed(["\ud800.jpg", 0, "kind00"]), "1 of 21 listed images are missing"),
    "newline in a path": (changed(["a\nb.jpg", 0, "kind00"]), r"first 'a\\nb.jpg'"),
    "twice": (lambda document: document["test"].append(document["train"][0]), "is listed twice, in 'train' and in 't"),
    "twice in other words": (
        lambda document: document["test"].append(["./" + document["train"][0][0], *document["train"][0][1:]]),
        "is listed twice, in 'train' and in 'test'",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_of_the_form_is_refused_in_one_line(case, tmp_path):
    change, message = HOSTILE[case]
    entry = write_coop("dtd", tmp_path)
    file = tmp_path / entry.coop_file
    document = json.loads(file.read_text())
    other = change(document)
    file.write_text(json.dumps(document if other is None else other))
    with pytest.raises(InputError, match=message) as caught:
        open_named(entry, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + 2 * len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: "),
        (b"<html>", "not JSON: "),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b"9" * 10_000, "not JSON: "),
        (b"NaN", "must be an object"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(content, message, tmp_path):
    entry = write_coop("dtd", tmp_path)
    (tmp_path / entry.coop_file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_named(entry, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_without_training_images_is_named(tmp_path):
    entry = write_coop("dtd", tmp_path)
    file = tmp_path / entry.coop_file
    document = json.loads(file.read_text())
    document["test"] += [row for row in document["train"] if row[1] == 1]
    document["train"] = [row for row in document["train"] if row[1] != 1]
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"class 'kind01' \(label 1\) has no training image"):
        open_named(entry, tmp_path)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path):
    entry = write_coop("dtd", tmp_path)
    for path in sorted((tmp_path / "images" / "Kind01").iterdir())[1:4]:
        path.unlink()
    with pytest.raises(InputError, match=r"3 of 21 listed images are missing, first 'Kind01/Kind01_0009.jpg'"):
        open_named(entry, tmp_path)


def test_a_broken_file_of_coop_does_not_lead_to_the_official_split(tmp_path):
    from real_layouts import write_official

    entry = write_official("dtd", tmp_path)
    open_named(entry, tmp_path)
    (tmp_path / entry.coop_file).write_text("{}")
    with pytest.raises(InputError, match="split_zhou_DescribableTextures.json: must be an object"):
        open_named(entry, tmp_path)
