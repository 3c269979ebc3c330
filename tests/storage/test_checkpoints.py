import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from forked import Forked
from job import appears
from tlprune.errors import InputError
from tlprune.storage.checkpoints import check_whole, load_torch, newest_whole, save_torch


@pytest.fixture
def content():
    generator = torch.Generator().manual_seed(0)
    state = {f"layer{number}": torch.randn(50, 10, generator=generator) for number in range(4)}
    return {"state_dict": state, "epoch": 3, "names": ["a", "b"], "rate": 0.5, "none": None}


def same(one, two):
    state = one["state_dict"]
    return state.keys() == two["state_dict"].keys() and all(torch.equal(state[k], two["state_dict"][k]) for k in state)


def test_what_is_written_is_read_and_torch_reads_it_too(tmp_path, content):
    save_torch(content, tmp_path / "deep" / "w.ckpt")
    assert same(load_torch(tmp_path / "deep" / "w.ckpt"), content)
    plain = torch.load(tmp_path / "deep" / "w.ckpt", weights_only=True, mmap=True)
    assert same(plain, content)
    assert {key: plain[key] for key in plain if key != "state_dict"} == {
        k: content[k] for k in content if k != "state_dict"
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.ckpt"]


def test_every_changed_byte_is_noticed(tmp_path, content):
    save_torch(content, tmp_path / "w.ckpt")
    whole = (tmp_path / "w.ckpt").read_bytes()
    places = random.Random(0).sample(range(len(whole)), 200)
    places += range(len(whole) - 101, len(whole))  # the end of the archive and the checksum itself
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        (tmp_path / "w.ckpt").write_bytes(changed)
        with pytest.raises(InputError, match=r"w\.ckpt: damaged"):
            load_torch(tmp_path / "w.ckpt")


@pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize("ours", [True, False])
def test_a_file_that_is_cut_off_is_noticed(tmp_path, content, share, ours):
    (save_torch if ours else torch.save)(content, tmp_path / "w.ckpt")
    whole = (tmp_path / "w.ckpt").read_bytes()
    (tmp_path / "w.ckpt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"w\.ckpt: damaged"):
        load_torch(tmp_path / "w.ckpt")


def test_a_changed_weight_in_a_file_of_others_is_noticed(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    whole = bytearray((tmp_path / "w.pt").read_bytes())
    assert same(load_torch(tmp_path / "w.pt"), content)
    place = whole.find(content["state_dict"]["layer2"].numpy().tobytes())
    whole[place + 100] ^= 1
    (tmp_path / "w.pt").write_bytes(whole)
    assert not same(torch.load(tmp_path / "w.pt", weights_only=True), content)  # torch does not notice
    with pytest.raises(InputError, match=r"w\.pt: damaged: the checksum of .*/data/2 in it does not match"):
        load_torch(tmp_path / "w.pt")


def test_files_of_torch_before_archives_are_read_as_they_are(tmp_path, content):
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(load_torch(tmp_path / "old.pt"), content)


class _Marks:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("ours", [True, False])
def test_nothing_is_executed_whatever_the_environment_says(tmp_path, monkeypatch, ours):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    (save_torch if ours else torch.save)({"state_dict": {}, "x": _Marks(str(tmp_path / "marker"))}, tmp_path / "w.ckpt")
    with pytest.raises(InputError, match="holds more than tensors and is not loaded"):
        load_torch(tmp_path / "w.ckpt")
    assert not (tmp_path / "marker").exists()


def test_arguments_of_a_training_script_are_plain_values(tmp_path, content):
    """torchvision's and timm's scripts save what argparse gave them."""
    given = argparse.Namespace(lr=0.1, model="resnet18", sizes=[1, 2])
    torch.save({**content, "args": given}, tmp_path / "w.pth")
    found = load_torch(tmp_path / "w.pth")
    assert same(found, content)
    assert found["args"] == given
    torch.save({"args": argparse.Namespace(x=_Marks(str(tmp_path / "marker")))}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"more than tensors and is not loaded \(it holds .*open\)$"):
        load_torch(tmp_path / "w.pth")
    assert not (tmp_path / "marker").exists()


def test_what_is_not_there_is_said(tmp_path):
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(InputError, match=f"{path.name}: (No such file|Is a directory)"):
            load_torch(path)
    (tmp_path / "text.ckpt").write_text("nothing of the kind")
    with pytest.raises(InputError, match=r"text\.ckpt: damaged"):
        load_torch(tmp_path / "text.ckpt")


def test_the_newest_whole_one(tmp_path, content):
    for number in range(4):
        save_torch(content, tmp_path / f"{number}.ckpt")
        os.utime(tmp_path / f"{number}.ckpt", (number, number))
    (tmp_path / "3.ckpt").write_bytes(b"")
    assert newest_whole(tmp_path) == tmp_path / "2.ckpt"
    assert newest_whole(tmp_path, but=tmp_path / "2.ckpt") == tmp_path / "1.ckpt"
    assert newest_whole(tmp_path / "none") is None


_SAVE_FOR_EVER = """
import sys, torch
from tlprune.storage.checkpoints import save_torch
for number in range(10**9):
    save_torch({"state_dict": {"a": torch.full((500_000,), float(number))}, "number": number}, sys.argv[1])
    print(number, flush=True)
"""


@pytest.mark.parametrize("kills", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path, kills):
    """Temporary files lie on another file system where there is one."""
    other = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)  # noqa: S108
    path, moments, script = tmp_path / "w.ckpt", random.Random(kills), tmp_path / "script.py"
    script.write_text(_SAVE_FOR_EVER)
    save_torch({"state_dict": {}, "number": -1}, path)
    for number in range(kills):
        log = tmp_path / f"{number}.log"
        process = Forked([sys.executable, script, path], env={**os.environ, "TMPDIR": other}, output=log)
        appears(log)
        while not log.read_text():
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
        said = [int(line) for line in log.read_text().split("\n")[:-1]]
        content = load_torch(path)
        assert content["number"] in (said[-1], said[-1] + 1)
        assert (content["state_dict"]["a"] == content["number"]).all()


_SAVE_BEYOND = """
import resource, signal, sys, torch
from tlprune.errors import InputError
from tlprune.storage.checkpoints import save_torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_torch({"state_dict": {"a": torch.zeros(500_000)}}, sys.argv[1])
except InputError as error:
    print(error)
    sys.exit(2)
"""


def test_a_write_that_fails_leaves_the_previous_file(tmp_path, content):
    """A limit on the size of files stands for a full disk: both end in an error of the operating system."""
    save_torch(content, tmp_path / "w.ckpt")
    command = [sys.executable, "-c", _SAVE_BEYOND, str(tmp_path / "w.ckpt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == f"cannot write {tmp_path / 'w.ckpt'}: File too large\n"
    assert same(load_torch(tmp_path / "w.ckpt"), content)
    assert [path.name for path in Path(tmp_path).iterdir()] == ["w.ckpt"]
    check_whole(tmp_path / "w.ckpt")
