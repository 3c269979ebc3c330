"""``~`` means the home folder in every path that a command, yaml or a constructor takes."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from tlprune import (
    CountForgetting,
    DownstreamDataModule,
    ExportBackbone,
    Forgetting,
    ListSelector,
    LitClassifier,
    PrunedSourceDataModule,
    RandomSelector,
    Selection,
    TransferModule,
)
from tlprune.checkpoint_io import AtomicCheckpointIO
from tlprune.cli import main
from tlprune.data.named_targets import data_root
from tlprune.data.sources import absolute_source, check_source, open_source, source_classes
from tlprune.data.target_splits import absolute_target, open_target
from tlprune.errors import InputError
from tlprune.experiments.demo import demo
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.sweep_plan import MethodSpec, Sweep
from tlprune.models.weights import load_classifier, read_weights
from tlprune.storage.cache import cache_root
from tlprune.storage.paths import expanded, user_path

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder, and another one to work in."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    yield home
    assert not Path("~").exists()


@pytest.fixture
def sets(home, class_folder):
    """A source, a target, and a surrogate's weights in the home folder."""
    class_folder("home/src", {"ant": 8, "bee": 8, "cat": 8})
    class_folder("home/pets/train", {"ant": 6, "bee": 6})
    class_folder("home/pets/test", {"ant": 2, "bee": 2})


@pytest.fixture
def surrogate(home, sets, surrogate_file):
    shutil.move(surrogate_file(["ant", "bee", "cat"]), home / "surrogate.safetensors")
    return "~/surrogate.safetensors"


@pytest.fixture
def selection(sets):
    """A Selection in the home folder, of classes."""
    options = ["--source=~/src", "--selector=RandomSelector", "--output=~/s.safetensors"]
    assert main(["select", *options]) == 0
    return "~/s.safetensors"


def test_what_is_no_home_folder_stays_as_it_is(home):
    assert user_path("~/a") == home / "a"
    for path in ("a/~", "~nobody-of-that-name/a", "torchvision:resnet18", "s3://x//y", "-"):
        assert expanded(path) == path


def test_sources(home, sets, class_folder):
    (home / "list.csv").write_text("path\nsrc/ant/000.png\n")
    for source, count in (("~/src", 24), ("linked:~/src", 24), ("unlabelled:~/src", 24), ("~/list.csv", 1)):
        check_source(source)
        assert len(open_source(source)[0]) == count
        assert absolute_source(source) == source.replace("~", str(home))
    assert source_classes("~/src") == ("ant", "bee", "cat")
    assert len(open_source("torchvision:ImageFolder:~/src")[0]) == 24


def test_targets(home, sets, monkeypatch):
    assert len(open_target("~/pets").train) == 10
    assert absolute_target("~/pets") == str(home / "pets")
    DownstreamDataModule("~/pets").setup()
    with pytest.raises(InputError, match=f"{home}/pets"):
        open_target("oxford_pets:~/pets")
    monkeypatch.setenv("TLPRUNE_DATA", "~/pets")
    assert data_root() == home / "pets"
    monkeypatch.setenv("TLPRUNE_CACHE", "~/kept")
    assert cache_root() == home / "kept"
    assert cache_root("~/other") == home / "other"


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "~nobody-of-that-name/x.csv"])
def test_a_home_folder_of_nobody_is_named(path, capsys):
    assert main(["select", f"--source={path}", "--selector=RandomSelector", "--output=s.safetensors"]) == 2
    assert f"source {path}: no such" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such folder"):
        open_target(path)
    with pytest.raises(InputError, match="No such file"):
        ListSelector(path)


def test_weights(home, surrogate):
    assert read_weights(surrogate).path == home / "surrogate.safetensors"
    load_classifier(surrogate)
    TransferModule(weights=surrogate)


def test_a_selection_is_made_shown_and_used(home, sets, surrogate, selection, capsys):
    assert (home / "s.safetensors").is_file()
    options = ["--source=~/src", "--target", "~/pets", f"--surrogate={surrogate}", "--image_size=32", "--cache=~/kept"]
    assert main(["select", *options, "--output=~/lm.safetensors"]) == 0
    made = "~/lm.safetensors"
    assert Selection.load(made).metadata["source"] == str(home / "src")
    assert Selection.load(made).metadata["surrogates"] == [str(home / "surrogate.safetensors")]
    commands = [
        ["show", made],
        ["explain", made, "--unit=ant", "--keep_units=1", "--output=~/why.png", "--source=~/src", "--target", "~/pets"],
        ["diff", made, selection, "--keep_units=1"],
        ["advise", made, "--output=~/advice.png"],
        ["audit", made, "--output=~/leaks.csv", "--picture=~/leaks.png", f"--surrogate={surrogate}"],
        ["report", made, "--output=~/page"],
        *(
            ["export", made, f"--format={form}", "--keep_units=1", f"--output=~/kept-{form}"]
            for form in ("paths", "indices", "symlinks", "webdataset")
        ),
        ["configs", "~/configs"],
    ]
    for command in commands:
        assert main(command) == 0, command
    written = {path.name for path in home.iterdir()}
    assert {"why.png", "advice.png", "leaks.csv", "leaks.png", "page", "kept-paths", "kept-symlinks", "kept"} <= written
    assert main(["report", made]) == 0
    assert (home / "lm-report").is_dir()
    data = PrunedSourceDataModule("~/src", selection=made, images_like=selection, keep_units=1, image_size=32)
    data.setup()
    assert data.images_kept > 0


def test_a_selection_is_saved_by_python(home, sets):
    data = PrunedSourceDataModule("~/src", "~/pets", RandomSelector(), keep_units=1, image_size=32, cache="~/kept")
    data.setup()
    data.selection.save("~/deep/er.safetensors")
    assert torch.equal(Selection.load("~/deep/er.safetensors").ranking, data.selection.ranking)


def test_lists_and_counts(home, coloured):
    (home / "order.txt").write_text("colour01\n")
    assert ListSelector("~/order.txt").named == ["colour01"]
    torch.save(torch.tensor([1, 0]), home / "kept.indices")
    assert ListSelector("~/kept.indices", "sample").named == ["1", "0"]
    callbacks = [CountForgetting("~/counts.safetensors"), ExportBackbone("~/model.safetensors")]
    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=1, callbacks=callbacks, **QUIET)
    trainer.fit(LitClassifier("resnet8_w8"), datamodule=PrunedSourceDataModule(coloured(3, 8), batch_size=8))
    assert (home / "model.safetensors").is_file()
    assert Forgetting("~/counts.safetensors").counts.epochs == 1


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_fit_goes_on_and_evaluates(home, sets, surrogate, capsys):
    config = {
        "model": {"class_path": "tlprune.TransferModule", "init_args": {"weights": surrogate}},
        "data": {"class_path": "tlprune.DownstreamDataModule", "init_args": {"target": "~/pets", "image_size": 32}},
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "default_root_dir": "~/run",
            "enable_progress_bar": False,
            "callbacks": [
                {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "~/run", "filename": "last"}},
                {"class_path": "tlprune.ExportBackbone", "init_args": {"path": "~/run/model.safetensors"}},
            ],
        },
    }
    (home / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config=~/fit.yaml"]) == 0
    assert (home / "run" / "model.safetensors").is_file()
    capsys.readouterr()
    assert main(["fit", "--config", "~/fit.yaml"]) == 0
    assert "this run ended on" in capsys.readouterr().out
    surrogate_file = home / "surrogate.safetensors"  # what a run depends on is looked at behind `~` too
    shutil.copy(home / "run" / "model.safetensors", surrogate_file)
    assert main(["fit", "--config=~/fit.yaml"]) == 0
    assert "this run ended on" not in capsys.readouterr().out
    checkpoint = next(path.name for path in (home / "run").glob("*.ckpt"))
    for command in ("validate", "test", "predict"):
        assert main([command, "--config=~/fit.yaml", f"--ckpt_path=~/run/{checkpoint}"]) == 0
    assert main(["fit", "--config=~/fit.yaml", "--trainer.max_epochs=2", f"--ckpt_path=~/run/{checkpoint}"]) == 0
    assert "state_dict" in AtomicCheckpointIO().load_checkpoint(f"~/run/{checkpoint}")


def test_sweeps(home, surrogate):
    recipe = {
        "model": {"class_path": "tlprune.LitClassifier", "init_args": {"backbone": "resnet8_w8"}},
        "data": {"class_path": "tlprune.PrunedSourceDataModule", "init_args": {"image_size": 32}},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    }
    (home / "pretrain.yaml").write_text(yaml.safe_dump(recipe))
    assert Recipe.read("~/pretrain.yaml", "PrunedSourceDataModule").config == recipe
    transfer = recipe | {
        "model": {"class_path": "tlprune.TransferModule", "init_args": {"mode": "probe"}},
        "data": {"class_path": "tlprune.DownstreamDataModule", "init_args": {"image_size": 32}},
    }
    (home / "probe.yaml").write_text(yaml.safe_dump(transfer))
    sweep = Sweep(
        name="s",
        source="~/src",
        targets=("~/pets",),
        surrogate=surrogate,
        pretrain=Recipe.read("~/pretrain.yaml", "PrunedSourceDataModule"),
        transfers={"probe": Recipe.read("~/probe.yaml", "DownstreamDataModule")},
        methods={"a": MethodSpec(None, "a"), "b": MethodSpec(None, "b", "~/other.yaml")},
        ratios=(0.5,),
        match_budget=("epochs",),
        seeds=1,
        search="grid",
        output=home / "out",
    )
    assert sweep.surrogate_of("a") == str(home / "surrogate.safetensors")
    assert sweep.surrogate_of("b") == str(home / "other.yaml")
    options = ["--source=~/src", "--targets=[~/pets]", f"--surrogate={surrogate}", "--ratios=[0.5]", "--seeds=1"]
    options += ["--pretrain=~/pretrain.yaml", "--transfers={probe: ~/probe.yaml}", "--output=~/sweep", "--dry_run"]
    assert main(["sweep", *options]) == 0


def test_demo_and_frames(home, capsys):
    (home / "file").write_text("")
    with pytest.raises(InputError, match=f"cannot write to {home}/file/deeper"):
        demo(output="~/file/deeper")
    assert main(["frames", "~/videos", "~/frames"]) == 2
    assert f"{home}/videos" in capsys.readouterr().err
