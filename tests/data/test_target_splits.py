import pytest

from tlprune.data.target_splits import list_targets, open_target
from tlprune.errors import InputError


@pytest.mark.parametrize("name", list_targets())
def test_every_registered_target_opens(name):
    target = open_target(name)
    assert target.name == name
    assert target.test is not None
    assert target.train.classes == target.val.classes == target.test.classes
    assert min(len(target.train), len(target.val), len(target.test)) > 100


def test_folder_with_three_parts(class_folder, tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        class_folder(f"pets/{part}", {"cat": count, "dog": count})
    target = open_target(str(tmp_path / "pets"))
    assert (target.name, len(target.train), len(target.val), len(target.test)) == ("pets", 8, 4, 6)
    assert target.split == "folders train, val, test"


def test_a_folder_with_the_name_of_a_built_in_target_is_warned_of(class_folder, tmp_path, monkeypatch):
    class_folder("photos/train", {"cat": 10, "dog": 5})
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="target photos: the built-in target, not the folder here; .* is ./photos"):
        assert len(open_target("photos").train) == 350
    assert len(open_target("./photos").train) == 12


def test_folder_without_val_holds_a_fifth_out(class_folder, tmp_path):
    class_folder("pets/train", {"cat": 10, "dog": 5})
    target = open_target(str(tmp_path / "pets"), seed=1)
    assert (len(target.train), len(target.val), target.test) == (12, 3, None)
    assert target.val.labels.bincount().tolist() == [2, 1]
    assert not set(target.train.paths) & set(target.val.paths)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("digit", "unknown target 'digit': did you mean 'digits'"),
        ("xyz", r"choose one of: digits, photos \(or give a folder\)"),
        ("no/such", "target no/such: no such folder"),
    ],
)
def test_unknown_targets_are_named(target, message):
    with pytest.raises(InputError, match=message):
        open_target(target)


def test_folder_without_train_is_refused(class_folder, tmp_path):
    class_folder("pets", {"cat": 1})
    with pytest.raises(InputError, match="no folder 'train' in it"):
        open_target(str(tmp_path / "pets"))
