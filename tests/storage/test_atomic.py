import os

import pytest

from tlprune.errors import InputError
from tlprune.storage.atomic import atomic_folder, atomic_path, write_bytes


def test_file_takes_its_name_only_when_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="boom"), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError("boom")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain-folder").mkdir()
    with atomic_folder(tmp_path / "our-folder"):
        pass
    assert (tmp_path / "our-folder").stat().st_mode == (tmp_path / "plain-folder").stat().st_mode


def test_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "a").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "a").touch()
    assert os.listdir(tmp_path / "folder") == ["a"]


def test_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/below: "):
        write_bytes(tmp_path / "file" / "below", b"")


def test_full_disk_is_named_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(InputError, match=r"cannot write .*file: No space left on device"), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
