"""What tlprune says where a package is missing that an extra installs, and which extras there are."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from tlprune import InputError, KNNProbe
from tlprune.cli import main
from tlprune.data import built_in_targets
from tlprune.data.mat_files import read_mat
from tlprune.data.sources import open_source
from tlprune.experiments.demo import demo
from tlprune.experiments.frozen_transfers import Labelled
from tlprune.experiments.linear_probe import LinearProbe
from tlprune.experiments.statistics import estimate, student

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture
def without(monkeypatch):
    """Hides packages from import."""

    def hide(*modules: str) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        built_in_targets._all_digits.cache_clear()
        student.cache_clear()

    return hide


def test_the_digits_name_their_extra_and_nothing_is_written(without, class_folder, surrogate_file, tmp_path, capsys):
    without("sklearn")
    source = class_folder("src", {"cat": 2, "dog": 2})
    inputs = [f"--source={source}", "--target=digits", f"--surrogate={surrogate_file(2)}", "--image_size=32"]
    assert main(["select", *inputs, f"--output={tmp_path / 's.safetensors'}"]) == 2
    said = capsys.readouterr().err
    assert said == "tlprune: error: the target 'digits' needs scikit-learn: pip install 'tlprune[sweep]'\n"
    assert not (tmp_path / "s.safetensors").exists()


def test_a_sweep_is_refused_before_it_begins(without, tmp_path, monkeypatch, capsys):
    without("scipy")
    monkeypatch.chdir(ROOT)
    assert main(["sweep", "--config=configs/experiment/drawn.yaml", f"--output={tmp_path / 'swept'}"]) == 2
    assert capsys.readouterr().err == "tlprune: error: a sweep needs scipy: pip install 'tlprune[sweep]'\n"
    assert not (tmp_path / "swept" / "results.json").exists()


def test_the_demo_is_refused_before_it_draws(without, tmp_path):
    without("sklearn")
    with pytest.raises(InputError, match=r"^the demo needs scikit-learn: pip install 'tlprune\[demo\]'$"):
        demo(output=str(tmp_path / "demo"))
    assert not (tmp_path / "demo").exists()


def test_neighbours_are_refused_before_training(without):
    without("sklearn")
    with pytest.raises(InputError, match=r"^KNNProbe needs scikit-learn: pip install 'tlprune\[sweep\]'$"):
        KNNProbe("digits").setup(None, None, "fit")


def test_a_converged_probe_names_its_extra(without):
    without("sklearn")
    part = Labelled(torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"^the solver 'lbfgs' needs scikit-learn: pip install 'tlprune\[sweep\]'$"):
        LinearProbe().classify(part, part, part)


def test_intervals_name_their_extra(without):
    without("scipy")
    with pytest.raises(InputError, match=r"^an interval over seeds needs scipy: pip install 'tlprune\[sweep\]'$"):
        estimate([0.1, 0.2])


def test_labels_in_matlab_files_name_their_extra(without, tmp_path):
    without("scipy")
    file = tmp_path / "imagelabels.mat"
    with pytest.raises(InputError, match=rf"^{file}: reading it needs scipy: pip install 'tlprune\[mat\]'$"):
        read_mat(file, "labels", int)
    with pytest.raises(InputError, match=r"^source torchvision:SVHN: reading it needs scipy: pip .*\[mat\]'$"):
        open_source(f"torchvision:SVHN:{tmp_path}")


def test_every_extra_that_is_named_exists_and_all_has_them():
    named = set()
    for path in (ROOT / "tlprune").rglob("*.py"):
        text = path.read_text()
        named |= {*re.findall(r"tlprune\[(\w+)\]", text)}
        named |= {*re.findall(r'(?:require_extra|require_packages)\([^)\n]*"(\w+)"\)', text)}
    assert {"sweep", "mat", "demo", "parquet", "timm"} <= named <= EXTRAS.keys()
    [everything] = EXTRAS["all"]
    apart = {"all", "bolts", "test", "docs", "notebooks", "dev"}
    assert {*re.search(r"\[(.*)\]", everything).group(1).split(",")} == EXTRAS.keys() - apart
