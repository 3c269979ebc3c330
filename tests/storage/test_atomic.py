import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors import SafetensorError

from tlprune.errors import InputError
from tlprune.storage.atomic import ABANDONED_AFTER, atomic_folder, atomic_path, write_bytes


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


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (
            "Error while serializing: I/O error: No space left on device (os error 28)",
            InputError,
            "cannot write .*file: No",
        ),
        ("something else", SafetensorError, "^something else$"),
    ],
)
def test_what_safetensors_says_of_a_full_disk_is_named_too(tmp_path, said, error, message):
    with pytest.raises(error, match=message), atomic_path(tmp_path / "file"):
        raise SafetensorError(said)
    assert list(tmp_path.iterdir()) == []


_KILLED_WHILE_WRITING = """
import os, signal, sys
from tlprune.storage.atomic import atomic_folder, atomic_path
with {manager}(sys.argv[1]) as temporary:
    place = temporary if temporary.is_dir() else temporary.parent
    (place / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("manager", ["atomic_path", "atomic_folder"])
def test_what_a_killed_process_left_is_removed_after_a_day_and_nothing_else(tmp_path, manager):
    for name in ("a", "a.b", "a[1]"):
        command = [sys.executable, "-c", _KILLED_WHILE_WRITING.format(manager=manager), str(tmp_path / name)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    parts = {entry.name.rsplit(".", 2)[0]: entry for entry in tmp_path.iterdir()}
    assert parts.keys() == {".a", ".a.b", ".a[1]"}
    write_bytes(tmp_path / "a", b"")
    assert all(part.exists() for part in parts.values())  # they may belong to processes that still write
    old = time.time() - ABANDONED_AFTER - 60
    for part in parts.values():
        os.utime(part, (old, old))
    write_bytes(tmp_path / "a", b"")
    assert all(part.exists() for part in parts.values())  # what is in them was changed only just now
    for part in parts.values():
        os.utime(part / "half", (old, old))
        os.utime(part, (old, old))
    for name, gone in (("a", 1), ("a[1]", 2), ("a.b", 3)):
        write_bytes(tmp_path / name, b"")
        assert sum(not part.exists() for part in parts.values()) == gone
    assert sorted(os.listdir(tmp_path)) == ["a", "a.b", "a[1]"]
