"""One rule for the parts of a source and of a target."""

import shutil
import warnings

import pytest

from tlprune.cli import main
from tlprune.data.parts import match_parts
from tlprune.data.sources import open_source, source_classes
from tlprune.data.target_splits import open_target
from tlprune.errors import InputError

COUNTS = {"cat": 5, "dog": 5}


def opened(kind, root):
    """Numbers of training and validation images."""
    if kind == "target":
        target = open_target(str(root))
        return len(target.train), len(target.val)
    train, val = open_source(str(root))
    return len(train), None if val is None else len(val)


@pytest.mark.parametrize("kind", ["source", "target"])
@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Val", "VALID", "Validation", "Dev"])
@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
def test_validation_parts_are_used_whatever_they_are_called(class_folder, kind, name, train):
    root = class_folder(f"set/{train}", COUNTS).parent
    class_folder(f"set/{name}", {"cat": 1, "dog": 2})
    assert opened(kind, root) == (10, 3)


@pytest.mark.parametrize("kind", ["source", "target"])
@pytest.mark.parametrize("names", [("dev", "val"), ("Val", "val"), ("valid", "validation"), ("Train", "train")])
def test_two_names_for_one_part_are_refused(class_folder, kind, names):
    for name in {*names, "train"}:
        class_folder(f"set/{name}", COUNTS)
    with pytest.raises(InputError, match=f"set: '{names[0]}' and '{names[1]}' both stand for its .* part"):
        opened(kind, class_folder("set/other", {}).parent)


@pytest.mark.parametrize("kind", ["source", "target"])
@pytest.mark.parametrize("name", ["testing", "holdout", "val2017", "extra"])
def test_other_folders_that_hold_images_are_said_once(class_folder, kind, name):
    root = class_folder("set/train", COUNTS).parent
    class_folder("set/val", {"cat": 1, "dog": 2})
    class_folder(f"set/{name}", COUNTS)
    (root / "devkit").mkdir()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert opened(kind, root) == (10, 3)
    assert [str(one.message) for one in said] == [
        f"{root}: 'train' is used as its training part; {name} beside it not used"
    ]


def test_the_test_part_of_a_source_is_not_used_and_that_of_a_target_is(class_folder):
    root = class_folder("set/train", COUNTS).parent
    class_folder("set/Valid", {"cat": 1, "dog": 1})
    class_folder("set/Test", {"cat": 2, "dog": 2})
    assert opened("source", root) == (10, 2)
    target = open_target(str(root))
    assert (len(target.test), target.split) == (4, "folders train, Valid, Test")


def test_a_target_without_validation_part_says_what_was_held_out(class_folder):
    root = class_folder("set/Train", COUNTS).parent
    assert open_target(str(root)).split == "a fifth of 'Train' held out, seed 0"


def test_other_classes_in_a_part_are_named_with_the_folder(class_folder):
    root = class_folder("set/train", COUNTS).parent
    class_folder("set/valid", {"cat": 1, "emu": 1})
    with pytest.raises(InputError, match="'train' and 'valid' have different classes, such as 'dog'"):
        open_target(str(root))


def test_parts_without_labels(class_folder):
    root = class_folder("set", {"Train": 4, "dev": 2, "test": 3})
    train, val = open_source(str(root))
    assert (len(train), len(val), train.classes) == (4, 2, ())


def test_class_folders_may_be_called_like_parts_beside_others(class_folder):
    root = class_folder("set", {"bus": 1, "train": 2, "dev": 1, "val": 1})
    assert source_classes(str(root)) == ("bus", "dev", "train", "val")


@pytest.mark.parametrize("names", [("training", "validation"), ("val",), ("train2017", "val2017"), ("Test", "dev")])
def test_parts_that_are_taken_for_classes_are_said(class_folder, names):
    for name in names:
        class_folder(f"set/{name}", COUNTS)
    root = class_folder("set/other", {}).parent
    with pytest.warns(UserWarning, match="are taken for classes; training images are expected in 'train'"):
        assert open_source(str(root))[0].classes == tuple(sorted(names))
    with pytest.raises(InputError, match=f"no folder 'train' in it .*got {', '.join(sorted(names))}"):
        open_target(str(root))


def test_splits_follow_the_same_rule():
    assert match_parts(["Train", "dev", "extra"], "x") == {"train": "Train", "val": "dev"}
    with pytest.raises(InputError, match="x: 'val' and 'validation' both stand for its validation part"):
        match_parts(["train", "val", "validation"], "x")


def test_a_run_says_once_what_is_left_out(class_folder, tmp_path, monkeypatch):
    root = class_folder("set/train", COUNTS).parent
    class_folder("set/holdout", COUNTS)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        options = [f"--source={root}", "--selector=RandomSelector", "--output=s.safetensors", "--keep_units=1"]
        assert main(["select", *options]) == 0
    assert sum("holdout beside it not used" in str(one.message) for one in said) == 1


def test_a_folder_called_like_a_set_with_parts_is_a_folder(class_folder, tmp_path, monkeypatch):
    class_folder("dtd/Train", COUNTS)
    class_folder("dtd/Valid", COUNTS)
    monkeypatch.chdir(tmp_path)
    assert open_target("dtd").split == "folders Train, Valid"


@pytest.mark.parametrize("kind", ["source", "target"])
def test_images_beside_the_training_part_are_said(class_folder, kind):
    root = class_folder("set/train", {"a": 2, "b": 2}).parent
    shutil.copy(root / "train" / "a" / "000.png", root / "stray.png")
    with pytest.warns(UserWarning, match="'train' is used as its training part; images beside it not used"):
        opened(kind, root)


@pytest.mark.parametrize("kind", ["source", "target"])
def test_a_part_within_a_part_is_said_to_be_taken_for_a_class(class_folder, kind):
    root = class_folder("set/train/train", {"a": 5, "b": 5}).parent.parent
    with pytest.warns(UserWarning, match="its folders 'train' are taken for classes"):
        opened(kind, root)
