"""What `tlprune fit` says of itself: how much it keeps of the source, and which files it wrote."""

import re

import pytest

from tlprune.cli import main
from tlprune.lightning_cli import run


@pytest.fixture
def fit(class_folder, tmp_path, monkeypatch):
    """The arguments of a training of two steps that exports its backbone."""
    monkeypatch.chdir(tmp_path)
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 10))

    def arguments(*options):
        model = ["--model=LitClassifier", "--model.backbone=resnet8_w8"]
        data = ["--data=PrunedSourceDataModule", f"--data.source={source}", "--data.image_size=32"]
        data += ["--data.batch_size=8", "--data.val_share=0.2", "--data.augment=shift"]
        trainer = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.max_epochs=1"]
        trainer += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        export = ["--trainer.callbacks+=ExportBackbone", "--trainer.callbacks.path=out/backbone.safetensors"]
        return ["fit", *model, *data, *trainer, *export, *options]

    return arguments


BEST = ["ModelCheckpoint", "dirpath=best", "monitor=val/accuracy", "mode=max", "filename=best"]
PRUNED = ["--data.selector=RandomSelector", "--data.prune_ratio=0.5"]


def said(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("tlprune: ")]


def test_a_run_says_what_it_keeps_and_what_it_wrote(fit, tmp_path, capsys):
    best = ["--trainer.callbacks+=ModelCheckpoint", *(f"--trainer.callbacks.{option}" for option in BEST[1:])]
    assert main(fit(*best, *PRUNED)) == 0
    keeps, wrote = said(capsys)
    assert keeps == "tlprune: keeps 2 of 4 classes, 16 images to train on"
    files = dict(re.findall(r"(\S+\.(?:ckpt|safetensors))(?: \(([^)]*)\))?", wrote))
    assert files.keys() == {f"{tmp_path}/best/best.ckpt", "out/backbone.safetensors"}
    assert re.fullmatch(r"val/accuracy [01](\.\d+)?", files[f"{tmp_path}/best/best.ckpt"])
    assert files["out/backbone.safetensors"] == ""
    assert main(fit(*best, *PRUNED)) == 0
    [again] = said(capsys)
    assert "this run ended on" in again


def test_a_run_without_checkpoints_says_what_it_wrote(fit, capsys):
    assert main(fit("--trainer.enable_checkpointing=false", "--trainer.logger=false")) == 0
    assert said(capsys) == ["tlprune: wrote out/backbone.safetensors"]


def test_a_training_of_a_sweep_says_nothing(fit, capsys):
    run(fit("--trainer.logger=false", *PRUNED), save_config=False)
    assert said(capsys) == []


def test_a_module_that_python_does_not_find_is_named(fit, capsys):
    assert main(["fit", "--model=nowhere.Net", *fit()[3:]]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "nowhere.Net: Python finds no module 'nowhere'; give PYTHONPATH=. before the command" in line
