"""Names of WordNet ids, of any part of ImageNet, which timm knows."""

import subprocess
import sys

import pytest
import torch

from tlprune import Selection
from tlprune.cli import main
from tlprune.data.datasets import TensorImages
from tlprune.wordnet import readable_names

TENCH, BIRD, MACHINE, MAILLOT, ORGANISM = "n01440764", "n02012849", "n03126707", "n03710637", "n00004475"
ANIMAL, DEVICE = "n02330245", "n03793489"

pytest.importorskip("timm")


def test_any_part_of_imagenet_has_names():
    assert readable_names([TENCH]) == ("tench",)
    assert readable_names([MAILLOT, TENCH]) == ("maillot", "tench")


def test_other_ids_of_imagenet_21k_have_names_too():
    assert readable_names([ORGANISM, TENCH]) == ("organism", "tench")


def test_equal_names_are_told_apart_by_their_ids():
    assert readable_names([BIRD, MACHINE]) == ("crane bird", "crane")
    assert readable_names([ANIMAL, TENCH, DEVICE]) == (f"mouse ({ANIMAL})", "tench", f"mouse ({DEVICE})")
    assert readable_names([DEVICE, TENCH]) == ("mouse", "tench")


def test_what_is_no_id_or_not_known_stays():
    assert readable_names([TENCH, "cat"]) == (TENCH, "cat")
    assert readable_names([TENCH, "n99999999"]) == ("tench", "n99999999")
    assert readable_names(["n99999999"]) == ("n99999999",)
    assert readable_names([]) == ()


def test_without_timm_ids_stay():
    code = "import sys; sys.modules['timm'] = None; from tlprune.wordnet import readable_names as names"
    code += "; print(names(['n01440764']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('n01440764',)"


def test_images_and_selections_show_names_and_keep_ids(tmp_path, capsys):
    images = TensorImages(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), [TENCH, BIRD])
    assert images.classes == (TENCH, BIRD)
    assert images.display_names == ("tench", "crane bird")
    votes, of_sample = torch.tensor([1.0, 3.0]), torch.tensor([0, 0, 1, 1])
    ballots = torch.tensor([0, 1, 1, 1])
    made = Selection("label_mapping", (TENCH, BIRD), torch.tensor([1, 0]), votes, votes * 0, of_sample, ballots)
    made.save(tmp_path / "s.safetensors")
    assert main(["show", str(tmp_path / "s.safetensors")]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "crane", "bird", BIRD, "3", "2"] in shown
    assert ["2", "tench", TENCH, "1", "2"] in shown
    assert Selection.load(tmp_path / "s.safetensors").unit("crane bird") == 1


@pytest.mark.parametrize("unit", ["tench", TENCH])
def test_a_class_is_found_by_name_and_by_id(unit):
    votes = torch.zeros(1)
    made = Selection("random", (TENCH,), torch.tensor([0]), votes, votes, torch.tensor([0]), torch.empty(0))
    assert made.unit(unit) == 0
