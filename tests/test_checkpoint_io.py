import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tlprune import AtomicCheckpointIO, LitClassifier, PrunedSourceDataModule
from tlprune.cli import main
from tlprune.errors import InputError
from tlprune.storage.checkpoints import check_whole


@pytest.fixture
def fit(coloured, trainer, tmp_path):
    def run(epochs, resume=None, fall_back=False):
        save = ModelCheckpoint(tmp_path / "run", "{epoch}", save_top_k=-1, save_last=True)
        fit = trainer(
            max_epochs=epochs, callbacks=[save], enable_checkpointing=True, plugins=[AtomicCheckpointIO(fall_back)]
        )
        torch.manual_seed(0)
        module = LitClassifier("resnet8_w8")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory|The dirpath has changed")
            fit.fit(module, datamodule=PrunedSourceDataModule(coloured(3, 10), batch_size=8), ckpt_path=resume)
        return module.state_dict()

    return run


def test_a_run_goes_on_from_what_it_wrote(fit, tmp_path):
    whole = fit(4)
    shutil.rmtree(tmp_path / "run")
    fit(2)
    for path in (tmp_path / "run").glob("*.ckpt"):
        check_whole(path)
    resumed = fit(4, resume=str(tmp_path / "run" / "last.ckpt"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_damaged_checkpoint_is_refused_and_the_newest_whole_one_named(fit, tmp_path):
    fit(2)
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(
        InputError, match=r"last\.ckpt: damaged: .*; the newest whole checkpoint beside it is .*epoch=1"
    ):
        fit(3, resume=str(last))


def test_falling_back_is_said_and_ends_the_same(fit, tmp_path):
    whole = fit(3)
    shutil.rmtree(tmp_path / "run")
    fit(2)
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=r"last\.ckpt: damaged: .*; going on from .*epoch=1\.ckpt"):
        resumed = fit(3, resume=str(last), fall_back=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.ckpt")
    with pytest.raises(InputError, match="not a Lightning checkpoint"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "w.ckpt")
    with pytest.raises(InputError, match="takes no `storage_options`"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "w.ckpt", storage_options={})


@pytest.fixture
def commands(class_folder, tmp_path, monkeypatch):
    """``tlprune fit`` for so many epochs, with ``last.ckpt`` in the folder ``run``."""
    monkeypatch.chdir(tmp_path)
    source = class_folder("source", {"a": 8, "b": 8})

    def fit(epochs, *more):
        arguments = ["--model=LitClassifier", "--model.backbone=resnet8_w8", "--data=PrunedSourceDataModule"]
        arguments += [
            f"--data.source={source}",
            "--data.image_size=32",
            "--data.batch_size=4",
            "--trainer.logger=false",
        ]
        arguments += ["--trainer.accelerator=cpu", f"--trainer.max_epochs={epochs}", "--trainer.devices=1"]
        arguments += ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.dirpath=run"]
        arguments += ["--trainer.callbacks.save_last=true", "--trainer.callbacks.save_top_k=-1"]
        return main(["fit", *arguments, "--trainer.enable_progress_bar=false", *more])

    return fit


@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")
def test_the_command_line_writes_whole_checkpoints_and_says_what_is_damaged(commands, capsys):
    assert commands(2) == 0
    [other] = Path("run").glob("epoch=1*.ckpt")
    for path in (other, Path("run/last.ckpt")):
        check_whole(path)
    damaged = bytearray(Path("run/last.ckpt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    Path("run/last.ckpt").write_bytes(damaged)
    capsys.readouterr()
    assert commands(3, "--ckpt_path=run/last.ckpt") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("tlprune: error: run/last.ckpt: damaged: its checksum does not match; the newest whole")
    assert str(other) in said
    os.utime("run/last.ckpt")
    with pytest.warns(UserWarning, match=r"damaged: its checksum does not match; going on from"):
        assert commands(3, "--ckpt_path=last") == 0
    assert torch.load("run/last.ckpt", weights_only=True)["epoch"] == 2
