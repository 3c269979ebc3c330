import signal
import sys
import time
from pathlib import Path

import pytest

from job import TORCHRUN, Job, appears
from tlprune import Selection
from tlprune.cli import main
from tlprune.storage.checkpoints import load_torch

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
slow = pytest.mark.slow

ODD = '''
import os, time
from pathlib import Path
from tlprune import LabelMapping, InputError
from tlprune.distributed import rank_and_world


class Odd(LabelMapping):
    """Does something odd on one rank, once: a rerun finds the file that says so."""

    def __init__(self, what: str = "nothing", rank: int = 0):
        super().__init__()
        self.what, self.rank = what, rank

    def order(self, source, target, surrogate, cache):
        here = rank_and_world()[0]
        Path(f"rank{here}").touch()
        if here == self.rank and not Path("done").exists():
            Path("done").touch()
            if self.what == "raise":
                raise InputError("odd things happen")
            if self.what == "bug":
                raise ZeroDivisionError("odd things happen")
            if self.what == "kill":
                os.kill(os.getpid(), 9)
            if self.what == "exit":
                os._exit(0)
            if self.what == "sleep":
                time.sleep(600)
        return super().order(source, target, surrogate, cache)
'''


@pytest.fixture
def select(class_folder, surrogate_file, tmp_path):
    """Gives the command that selects with a selector that does something odd."""
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat"), 8))
    class_folder("pets/train", {"x": 60, "y": 90})
    surrogate = surrogate_file(3)
    (tmp_path / "odd.py").write_text(ODD)

    def command(what="nothing", rank=0, start=(sys.executable,), *options):
        inputs = [f"--source={source}", "--target", tmp_path / "pets", f"--surrogate={surrogate}", "--image_size=32"]
        odd = ["--selector=odd.Odd", f"--selector.what={what}", f"--selector.rank={rank}"]
        return [*start, "-m", "tlprune", "select", *inputs, *odd, "--output=s.safetensors", *options]

    return command


STARTS = {"devices": ((sys.executable,), "--devices=2"), "torchrun": ((*TORCHRUN, "2"),)}

FAILURES = [("kill", 0, "devices"), ("kill", 1, "devices"), ("exit", 1, "devices")]
FAILURES += [("raise", 1, "torchrun"), ("kill", 0, "torchrun")]
FAILURES = [("raise", 1, "devices"), *(pytest.param(*failure, marks=slow) for failure in FAILURES)]


@pytest.mark.parametrize(("what", "rank", "start"), FAILURES)
def test_when_one_rank_fails_the_whole_job_ends_and_its_rerun_is_as_if_nothing_had_been(
    what, rank, start, select, tmp_path, monkeypatch
):
    begin, *options = STARTS[start]
    job = Job(select(what, rank, begin, *options), tmp_path)
    assert job.wait(60) != 0
    assert job.gone(60)
    assert (tmp_path / "done").exists()
    assert not (tmp_path / "s.safetensors").exists()
    said = job.log.read_text()
    assert said.count("tlprune: error: odd things happen\n") == (what == "raise"), said
    again = Job(select("nothing", 0, begin, *options), tmp_path)
    assert again.wait(120) == 0, again.log.read_text()
    assert again.gone(60)
    resumed = Selection.load(tmp_path / "s.safetensors").digest
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main([str(one) for one in select()[3:]]) == 0
    assert resumed == Selection.load(tmp_path / "s.safetensors").digest


@slow
@pytest.mark.parametrize("start", ["devices"])
def test_what_all_ranks_find_wrong_is_said_once(start, select, tmp_path):
    begin, *options = STARTS[start]
    job = Job(select("nothing", 0, begin, "--keep_units=9", *options), tmp_path)
    assert job.wait(120) != 0
    assert job.gone(60)
    said = job.log.read_text()
    assert said.count("tlprune: error: ") == 1, said
    assert "9" in said
    assert not (tmp_path / "s.safetensors").exists()


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@slow
def test_two_ranks_start_over_together(select, tmp_path):
    options = ("--devices=2", "--on_bad_image=skip", "--verify_content")
    digests = []
    for more in ((), ("--fresh",)):
        job = Job(select("nothing", 0, (sys.executable,), *options, *more), tmp_path)
        assert job.wait(120) == 0, job.log.read_text()
        digests.append(Selection.load(tmp_path / "s.safetensors").digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("start", [None, *(pytest.param(start, marks=slow) for start in STARTS)])
@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_select_ends_on_a_signal(number, status, start, select, tmp_path):
    begin, *options = STARTS.get(start, ((sys.executable,),))
    job = Job(select("sleep", 0, begin, *options), tmp_path)
    appears(tmp_path / "done")
    if start is not None:
        appears(tmp_path / "rank1")
    time.sleep(1)
    asked = time.monotonic()
    job.send(number)
    got = job.wait(30)
    assert job.gone(30 - (time.monotonic() - asked)), job.log.read_text()
    if start == "torchrun":
        assert got != 0  # its own
    else:
        assert got == status, job.log.read_text()
        assert "Traceback" not in job.log.read_text()
    assert not (tmp_path / "s.safetensors").exists()


@pytest.mark.parametrize(
    ("devices", "number", "status", "workers"),
    [
        (2, *SIGNALS[1], 0),
        (1, *SIGNALS[1], 2),
        *(pytest.param(*one, 0, marks=slow) for one in ((1, *SIGNALS[0]), (1, *SIGNALS[1]), (2, *SIGNALS[0]))),
    ],
)
def test_fit_ends_on_a_signal_and_keeps_its_last_checkpoint(number, status, devices, workers, class_folder, tmp_path):
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat"), 40))
    keep = "--trainer.callbacks=ModelCheckpoint"
    command = [sys.executable, "-m", "tlprune", "fit", "--model=LitClassifier", "--model.backbone=resnet8_w8"]
    command += ["--data=PrunedSourceDataModule", f"--data.source={source}", "--data.image_size=32"]
    command += ["--data.batch_size=8", "--trainer.max_epochs=10000", "--trainer.logger=false"]
    command += ["--trainer.accelerator=cpu", f"--trainer.devices={devices}", "--trainer.enable_progress_bar=false"]
    command += [f"--data.num_workers={workers}"]
    command += [keep, "--trainer.callbacks.dirpath=kept", "--trainer.callbacks.filename=last"]
    command += ["--trainer.callbacks.enable_version_counter=false"]
    job = Job(command, tmp_path)
    appears(tmp_path / "kept" / "last.ckpt")
    time.sleep(1)
    job.send(number)
    got = job.wait(30)
    assert job.gone(30), job.log.read_text()
    assert got == status, job.log.read_text()
    assert "Traceback" not in job.log.read_text()
    assert load_torch(tmp_path / "kept" / "last.ckpt")["global_step"] > 0


SHARING = """
import os, socket
from multiprocessing import get_context
from multiprocessing.connection import Client
from multiprocessing.resource_sharer import DupFd

from tlprune.processes import stoppable


def load(pipe):
    pipe.send(DupFd(1))
    pipe.recv()


with stoppable():
    fork = get_context("fork")
    ours, theirs = fork.Pipe()
    loading = fork.Process(target=load, args=(theirs,))
    loading.start()
    shared = ours.recv()
    address, _ = shared._id
    with socket.socket(socket.AF_UNIX) as reader:  # goes away before it has said who it is
        reader.connect(address)
    with Client(address, authkey=loading.authkey) as reader:  # asks for what is not there, which is a bug
        reader.send((12345, loading.pid))
        reader.poll(10)
    os.close(shared.detach())  # served after both
    ours.send("end")
    loading.join()
"""


def test_a_loading_process_is_silent_about_a_reader_that_is_gone_and_not_about_bugs(tmp_path):
    (tmp_path / "share.py").write_text(SHARING)
    job = Job([sys.executable, tmp_path / "share.py"], tmp_path)
    assert job.wait(60) == 0
    said = job.log.read_text()
    assert said.count("Traceback") == 1, said
    assert said.splitlines()[-1] == "KeyError: 12345"


@slow
def test_the_demo_ends_on_ctrl_c_and_leaves_no_process(tmp_path):
    demo = [sys.executable, "-m", "tlprune", "demo", "--quick", "--output=out"]
    job = Job(demo, tmp_path, TLPRUNE_CACHE=str(tmp_path / "cache"))
    deadline = time.monotonic() + 300
    while not list((tmp_path / "out").glob("stages/surrogate-*/done.json")):
        assert time.monotonic() < deadline
        assert job.process.poll() is None
        time.sleep(0.1)
    job.send(signal.SIGINT)
    assert job.wait(30) == 130, job.log.read_text()
    assert job.gone(30), job.log.read_text()
    assert "Traceback" not in job.log.read_text()


@slow
@pytest.mark.parametrize("started_for", [5, 20])
def test_what_the_demo_started_ends_when_it_is_killed(started_for, tmp_path):
    demo = [sys.executable, "-m", "tlprune", "demo", "--quick", "--output=out"]
    job = Job(demo, tmp_path, TLPRUNE_CACHE=str(tmp_path / "cache"))
    time.sleep(started_for)
    job.process.kill()
    job.process.wait()
    assert job.gone(60)
