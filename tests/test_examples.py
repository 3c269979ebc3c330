"""Training scripts of others, as they are and changed in one place: both run, and the page shows the difference."""

import argparse
import difflib
import importlib.util
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forked import run
from tlprune.cli import main

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs/examples.md").read_text()
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/after.py"))
CONTEXT = 3
SMALL = {
    "lightly_simclr": "--data data/heap --input-size 32 --batch-size 8 --epochs 1 --workers 0",
    "timm_lightning": "--img-size 32 --batch-size 8 --epochs 1 --workers 0",
    "torchvision_reference": "--device cpu --train-crop-size 32 --val-resize-size 36 --val-crop-size 32 "
    "--batch-size 8 --epochs 1 --workers 0",
}
"""Arguments with which a script trains for seconds: six classes of eight images in batches of eight, at 32 pixels."""


def difference(name, context):
    before, after = (EXAMPLES / name / f"{which}.py" for which in ("before", "after"))
    names = [str(path.relative_to(ROOT)) for path in (before, after)]
    lines = [path.read_text().splitlines(keepends=True) for path in (before, after)]
    return list(difflib.unified_diff(*lines, *names, n=context))


def write_images(folder, classes, each):
    for label in classes:
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            rng = np.random.default_rng([label, each, number])
            pixels = rng.integers(0, 60, (40, 40, 3)) + np.array([35 * label, 190 - 35 * label, 90])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{label}" / f"{number}.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A catalogue of six classes with validation images, and a target that looks like two of them."""
    write_images(tmp_path / "data/catalogue/train", range(6), 8)
    write_images(tmp_path / "data/catalogue/val", range(6), 3)
    write_images(tmp_path / "data/defects/train", (1, 4), 5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


@pytest.fixture
def train(folder):
    """Runs a script: ``train("timm_lightning", "before")`` gives what it printed."""

    def start(name, which, more=""):
        command = [sys.executable, EXAMPLES / name / f"{which}.py", *SMALL[name].split(), *more.split()]
        done = run(command, cwd=folder)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return start


def select(surrogate):
    """As on the page, with images of the size of these."""
    line = f"--source data/catalogue --target data/defects --surrogate {surrogate} --image_size 32"
    assert main(["select", *line.split(), "--output", "defects.safetensors"]) == 0


def load(path):
    return torch.load(path, weights_only=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_difference(name):
    shown = [block for block in re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL) if f"examples/{name}/" in block]
    assert shown == ["".join(difference(name, CONTEXT))]
    for which in ("before", "after"):
        assert f"](../examples/{name}/{which}.py)" in PAGE


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_changed_in_one_place_beside_its_import(name):
    lines = difference(name, 0)[2:]
    places = "".join(lines).split("@@ -")[1:]
    added = [[line[1:].strip() for line in place.splitlines() if line.startswith("+")] for place in places]
    assert len(added) == 2
    assert [line for line in added[0] if line] == ["import tlprune"]
    assert len(added[1]) <= 9
    assert [line for line in lines if line.startswith("-")] == []


@pytest.mark.skipif(importlib.util.find_spec("pytorch_lightning") is None, reason="lightly's tutorials import it")
@pytest.mark.slow
def test_simclr_of_lightly(folder, train):
    """Its images lie in one folder, without classes."""
    (folder / "data/heap").mkdir()
    for path in (folder / "data/catalogue/train").glob("*/*.png"):
        path.rename(folder / "data/heap" / f"{path.parent.name}_{path.name}")
    said = train("lightly_simclr", "before", "--output surrogate.ckpt")
    assert "48 images, 6 steps an epoch" in said
    said = train("lightly_simclr", "after")
    assert "24 images, 3 steps an epoch" in said
    before, after = load("surrogate.ckpt"), load("simclr.ckpt")
    assert (before["global_step"], after["global_step"]) == (6, 3)
    assert before["state_dict"].keys() == after["state_dict"].keys()


def test_a_module_of_timm(folder, train):
    pytest.importorskip("timm")
    train("timm_lightning", "before", "--output surrogate.ckpt")
    select("surrogate.ckpt")
    train("timm_lightning", "after")
    before, after = load("surrogate.ckpt"), load("timm.ckpt")
    assert (before["global_step"], after["global_step"]) == (6, 3)
    assert (before["hyper_parameters"]["num_classes"], after["hyper_parameters"]["num_classes"]) == (6, 3)
    assert after["state_dict"]["model.fc.weight"].shape == (3, 512)
    assert after["datamodule_hyper_parameters"] == before["datamodule_hyper_parameters"]


def test_a_loop_like_torchvisions(folder, train):
    said = train("torchvision_reference", "before", "--output-dir runs/surrogate")
    assert "48 images of 6 classes" in said
    assert "Test:  18 images" in said
    select("runs/surrogate/checkpoint.pth")
    said = train("torchvision_reference", "after")
    assert "24 images of 3 classes" in said
    assert "[0/3]" in said
    assert "Test:  9 images" in said
    assert load("runs/reference/checkpoint.pth")["model"]["fc.weight"].shape == (3, 512)
    assert sorted(path.name for path in Path("runs/reference").iterdir()) == ["checkpoint.pth", "model_0.pth"]

    sizes = {"train_crop_size": 32, "val_resize_size": 36, "val_crop_size": 32}
    args = argparse.Namespace(interpolation="bilinear", **sizes)
    folders = ("data/catalogue/train", "data/catalogue/val", args)
    before, after = (
        runpy.run_path(str(EXAMPLES / "torchvision_reference" / f"{which}.py"))["load_data"](*folders)
        for which in ("before", "after")
    )
    for whole, pruned, each in zip(before[:2], after[:2], (8, 3), strict=True):
        assert repr(pruned.transform) == repr(whole.transform)
        classes = [whole.classes[whole.targets[index]] for index in pruned.indices]
        assert [pruned.classes[pruned[place][1]] for place in range(len(pruned))] == classes
        assert sorted(pruned.targets) == sorted([*range(3)] * each)
