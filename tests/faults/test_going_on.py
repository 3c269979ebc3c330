import json
import os
import shutil
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from safetensors.torch import load_file

from job import Job, appears
from tlprune.cli import main
from tlprune.storage.checkpoints import load_torch

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .*kept exists and is not empty")


@pytest.fixture
def fit(class_folder, tmp_path, monkeypatch):
    """The arguments of a run that writes a checkpoint and the last backbone to the working folder."""
    monkeypatch.chdir(tmp_path)
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat"), 40))

    def arguments(*options, epochs=3):
        model = ["--model=LitClassifier", "--model.backbone=resnet8_w8"]
        data = ["--data=PrunedSourceDataModule", f"--data.source={source}", "--data.image_size=32"]
        data += ["--data.batch_size=8", "--data.augment=shift"]
        quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        trainer = ["--trainer.accelerator=cpu", "--trainer.devices=1", f"--trainer.max_epochs={epochs}", *quiet]
        save = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=kept"]
        save += ["--trainer.callbacks.filename=best", "--trainer.callbacks.monitor=val/accuracy"]
        save += ["--trainer.callbacks.mode=max", "--trainer.callbacks.enable_version_counter=false"]
        export = ["--trainer.callbacks+=ExportBackbone", "--trainer.callbacks.path=backbone.safetensors"]
        return ["fit", *model, *data, *trainer, *save, *export, *options]

    return arguments


@pytest.fixture
def run(capsys):
    """Runs a command, and gives what it printed and whether it trained."""

    def outcome(arguments):
        before = written()
        assert main(arguments) == 0
        return capsys.readouterr().out, written() != before

    return outcome


def written():
    file = Path("backbone.safetensors")
    return file.stat().st_mtime_ns if file.exists() else None


def weights():
    exported = {f"exported {key}": value for key, value in load_file("backbone.safetensors").items()}
    return exported | load_torch("kept/best.ckpt")["state_dict"]


def same(some, others):
    return some.keys() == others.keys() and all(torch.equal(value, others[key]) for key, value in some.items())


def stages():
    return {path.name: sorted(one.name for one in path.iterdir()) for path in Path(".tlprune").iterdir()}


def test_a_run_that_ended_is_not_repeated_unless_asked_for(fit, run):
    out, trained = run(fit())
    assert trained
    assert list(stages().values()) == [["done.json"]]
    first = weights()
    out, trained = run(fit())
    assert not trained
    for name in ("kept/best.ckpt", "backbone.safetensors", "--fresh"):
        assert name in out
    out, trained = run(fit("--fresh"))
    assert trained
    assert "this run ended" not in out
    assert "tlprune: wrote " in out
    assert same(weights(), first)
    assert not run(fit("--data.num_workers=0", "--trainer.log_every_n_steps=7"))[1]
    assert len(stages()) == 1


def test_whatever_changes_the_outcome_makes_it_another_run(fit, run, tmp_path):
    assert run(fit(epochs=1))[1]
    for options in (["--seed_everything=3"], ["--model.label_smoothing=0.1"], ["--data.batch_size=9"]):
        assert run(fit(*options, epochs=1))[1], options
    assert run(fit(epochs=2))[1]
    file = tmp_path / "src" / "bee" / "003.png"
    changed = file.stat().st_mtime_ns
    file.write_bytes((tmp_path / "src" / "bee" / "004.png").read_bytes())
    os.utime(file, ns=(changed, changed + 1000))
    assert run(fit(epochs=1))[1]
    assert len(stages()) == 6


def test_a_run_whose_files_were_changed_is_repeated(fit, run):
    run(fit(epochs=1))
    Path("backbone.safetensors").write_bytes(b"something else")
    with pytest.warns(UserWarning, match=r"backbone\.safetensors: changed or removed since it was made"):
        assert run(fit(epochs=1))[1]
    assert not run(fit(epochs=1))[1]
    [note] = Path(".tlprune").glob("*/done.json")
    content = json.loads(note.read_text())
    content["content"]["outputs"] = {}
    note.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"done\.json: damaged \(its checksum does not match\)"):
        assert run(fit(epochs=1))[1]


def test_a_user_who_names_a_checkpoint_or_wants_none_has_no_journal(fit, run):
    run(fit(epochs=1))
    assert run(fit("--ckpt_path=kept/best.ckpt", epochs=2))[1]
    assert len(stages()) == 1


@pytest.mark.parametrize(("epochs_done", "workers"), [(1, 0), pytest.param(4, 2, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_ends_as_one_that_was_not(epochs_done, workers, fit, run, tmp_path):
    command = fit(f"--data.num_workers={workers}", epochs=6)
    process = [sys.executable, "-m", "tlprune", *command]
    assert Job(process, tmp_path).wait(100) == 0
    whole = weights()
    Path("backbone.safetensors").unlink()
    for name in ("kept", ".tlprune", "lightning_logs"):
        Path(name).rename(f"whole-{name}")
    job = Job(process, tmp_path)
    appears(tmp_path / "kept" / "best.ckpt")
    state = next(Path(".tlprune").glob("*")) / "state" / "epoch.ckpt"
    deadline = time.monotonic() + 60
    while not state.exists() or load_torch(state)["epoch"] < epochs_done - 1:
        assert time.monotonic() < deadline
        assert job.process.poll() is None
        time.sleep(0.005)
    os.killpg(job.process.pid, signal.SIGKILL)
    assert job.wait(20) == -signal.SIGKILL
    assert "done.json" not in next(iter(stages().values()))
    again = Job(process, tmp_path)
    assert again.wait(100) == 0
    assert "going on where this run was stopped" in again.log.read_text()
    assert same(weights(), whole)
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]
    assert not run(command)[1]


def test_a_damaged_state_is_not_gone_on_from(fit, run, monkeypatch):
    from tlprune.fit_stage import FitStage

    monkeypatch.setattr(FitStage, "finish", lambda self: None)
    run(fit(epochs=2))
    [state] = Path(".tlprune").glob("*/state/epoch.ckpt")
    out, _ = run(fit(epochs=2))
    assert "going on" in out
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    out, trained = run(fit(epochs=2))
    assert trained
    assert "going on" not in out


def stop_after(steps, monkeypatch):
    """A callback that stops each run after so many steps of its own, for a reason that it keeps to itself."""
    code = f"""
        from lightning.pytorch import Callback
        class Stopper(Callback):
            steps = 0
            def on_train_batch_end(self, trainer, *arguments):
                self.steps += 1
                trainer.should_stop = trainer.should_stop or self.steps == {steps}
    """
    Path("stopper.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "stopper", raising=False)
    return ["--trainer.callbacks+=stopper.Stopper"]


def time_is_up_after(steps, monkeypatch):
    """The clock of each run jumps past ``max_time`` after so many of its steps."""
    elapsed = Timer.time_elapsed

    def jumping(timer, stage="train"):
        done = timer.trainer.global_step - timer.begin if hasattr(timer, "begin") else 0
        return elapsed(timer, stage) + (3600 if stage == "train" and done >= steps else 0)

    def begin(timer, trainer, module):
        timer.trainer, timer.begin = trainer, trainer.global_step

    monkeypatch.setattr(Timer, "on_train_start", begin)
    monkeypatch.setattr(Timer, "time_elapsed", jumping)
    return ["--trainer.max_time=00:00:10:00"]


def until_it_ends(command, run, at_most=30):
    """Gives the same command until the run has ended; how often that took."""
    for times in range(1, at_most):
        out, trained = run(command)
        assert trained
        if "this run stopped" not in out:
            return times
        assert "the same command goes on" in out
        assert "state" in next(iter(stages().values()))
    raise AssertionError("it never ended")


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("time", []),
        pytest.param("callback", ["--trainer.accumulate_grad_batches=3"], marks=pytest.mark.slow),
        pytest.param("time", ["--trainer.accumulate_grad_batches=3"], marks=pytest.mark.slow),
        pytest.param("callback", ["--trainer.val_check_interval=0.5"], marks=pytest.mark.slow),
    ],
)
def test_what_stops_before_the_planned_end_goes_on_to_the_same_end(how, options, fit, run, monkeypatch):
    options = ["--trainer.limit_train_batches=8", *options]
    assert until_it_ends(fit(*options, epochs=2), run) == 1
    whole = weights()
    for name in ("kept", ".tlprune"):
        shutil.rmtree(name)
    if how == "time":
        options = options + time_is_up_after(2 if "accumulate" in str(options) else 5, monkeypatch)
    else:
        options = options + stop_after(5, monkeypatch)
    assert until_it_ends(fit(*options, epochs=2), run) > 2
    assert same(weights(), whole)
    assert [path.name for path in Path("kept").iterdir()] == ["best.ckpt"]
    assert list(stages().values()) == [["done.json"]]
    assert not run(fit(*options, epochs=2))[1]


def test_an_epoch_that_was_cut_short_is_not_the_last_one(fit, run, monkeypatch):
    command = fit(*stop_after(5, monkeypatch), epochs=1)
    assert "this run stopped: it was asked to stop after 5 steps" in run(command)[0]
    assert until_it_ends(command, run) == 2


@pytest.mark.filterwarnings("ignore:.*no training step was taken")
@pytest.mark.parametrize("interval", [[], ["--trainer.callbacks.interval=epoch"]])
def test_a_timer_of_the_users_is_no_end_either(interval, fit, run):
    timer = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:00:00:00", *interval]
    assert "this run stopped: its time is up after 0 steps" in run(fit(*timer))[0]
    assert "done.json" not in next(iter(stages().values()))


def test_more_time_goes_on_with_the_same_run(fit, run, monkeypatch):
    with monkeypatch.context() as patched:
        assert "its time is up" in run(fit(*time_is_up_after(5, patched)))[0]
    assert "going on" in run(fit("--trainer.max_time=00:01:00:00"))[0]
    assert not run(fit())[1]


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.max_steps=16"],
        ["--trainer.limit_train_batches=2"],
        ["--trainer.max_time=00:01:00:00"],
        [
            "--trainer.callbacks+=EarlyStopping",
            "--trainer.callbacks.monitor=val/loss",
            "--trainer.callbacks.patience=0",
        ],
        pytest.param(
            [
                "--trainer.callbacks+=EarlyStopping",
                "--trainer.callbacks.monitor=train/loss",
                "--trainer.callbacks.stopping_threshold=100",
                "--trainer.val_check_interval=0.2",
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_planned_end_is_an_end(options, fit, run):
    out, trained = run(fit(*options, epochs=9))
    assert trained
    assert "stopped" not in out
    assert list(stages().values()) == [["done.json"]]
    assert not run(fit(*options, epochs=9))[1]


def test_a_run_that_early_stopping_had_ended_is_not_trained_on(fit, run, monkeypatch):
    from tlprune.fit_stage import FitStage

    early = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    early += ["--trainer.callbacks.stopping_threshold=100"]
    with monkeypatch.context() as patched:
        patched.setattr(FitStage, "finish", lambda self: None)
        run(fit(*early, epochs=9))
    ended = weights()
    assert "going on" in run(fit(*early, epochs=9))[0]
    assert same(weights(), ended)
    assert list(stages().values()) == [["done.json"]]
