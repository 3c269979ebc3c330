import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from tlprune import Selection
from tlprune.cli import main
from tlprune.data.sources import open_source
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.models.weights import load_backbone
from tlprune.preprocessing import Preprocessing
from tlprune.selection.features import SourceFeatures


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def source(class_folder):
    return class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 10))


@pytest.fixture
def selected(source, class_folder, surrogate_file, tmp_path):
    class_folder("pets/train", {"x": 6, "y": 3})
    inputs = [f"--source={source}", f"--target={tmp_path / 'pets'}", f"--surrogate={surrogate_file(4)}"]
    assert main(["select", *inputs, "--image_size=32", "--output=s.safetensors"]) == 0
    return Selection.load("s.safetensors")


def test_select_votes_and_show_says_what_is_kept(selected, capsys):
    assert selected.method == "label_mapping"
    assert selected.votes.sum() == 7  # a fifth of the nine training images is held out for validation
    assert main(["show", "s.safetensors", "--keep_units=2", "--top=1"]) == 0
    out = capsys.readouterr().out
    assert f"digest {selected.digest[:12]}" in out
    assert "KEPT       2 classes, 20 images" in out
    assert "4 classes, 40 source images" in out
    assert selected.unit_names[int(selected.ranking[0])] in out


def test_selectors_and_their_options_are_named(source, capsys):
    arguments = ["select", f"--source={source}", "--selector=RandomSelector", "--selector.seed=3"]
    assert main([*arguments, "--output=r.safetensors", "--prune_ratio=0.5"]) == 0
    assert "method     random (seed 3, unit class)" in capsys.readouterr().out
    assert Selection.load("r.safetensors").config["options"] == {"seed": 3, "unit": "class"}


@pytest.mark.usefixtures("selected")
def test_an_exact_number_of_images_is_shown_as_it_is_kept(capsys):
    capsys.readouterr()
    assert main(["show", "s.safetensors", "--keep_exactly=15"]) == 0
    assert "KEPT       2 classes, 15 images" in capsys.readouterr().out
    assert main(["advise", "s.safetensors", "--keep_exactly=15"]) == 0
    assert re.search(r"as you say +2 +50\.0% +15 ", capsys.readouterr().out)


def test_soft_balanced_votes_are_saved(source, selected, class_folder, surrogate_file, tmp_path):
    inputs = [f"--source={source}", f"--target={tmp_path / 'pets'}", f"--surrogate={surrogate_file(4)}"]
    soft = ["--selector=LabelMapping", "--selector.votes=soft", "--selector.balance=true"]
    assert main(["select", *inputs, *soft, "--image_size=32", "--output=soft.safetensors"]) == 0
    found = Selection.load("soft.safetensors")
    assert found.votes.tolist() == found.scores.tolist()
    assert float(found.votes.sum()) == pytest.approx(7)


def test_how_the_surrogate_expects_images_is_given_and_shown(source, selected, surrogate_file, tmp_path, capsys):
    inputs = [f"--source={source}", f"--target={tmp_path / 'pets'}", f"--surrogate={surrogate_file(4)}"]
    said = ["--mean", "0.5", "0.5", "0.5", "--std", "0.5", "0.25", "0.5", "--crop_share=0.9", "--interpolation=bicubic"]
    capsys.readouterr()
    assert main(["select", *inputs, *said, "--image_size=24", "--output=half.safetensors"]) == 0
    line = "seen as    images of 24 pixels, mean 0.5, 0.5, 0.5, std 0.5, 0.25, 0.5, crop share 0.9, bicubic, eval mode"
    assert line in capsys.readouterr().out
    assert main(["show", "half.safetensors"]) == 0
    assert line in capsys.readouterr().out
    assert main(["show", "s.safetensors"]) == 0
    assert "seen as    images of 32 pixels, eval mode" in capsys.readouterr().out
    assert main(["select", *inputs, "--mean", "124", "116", "104", "--output=x.safetensors"]) == 2
    assert capsys.readouterr().err.count("`mean` must be three numbers in [0, 1], got [124.0, 116.0, 104.0]") == 1


def test_audit_compares_features_of_images_seen_as_when_selected(source, class_folder, surrogate_file, tmp_path):
    for part in ("train", "test"):
        class_folder(f"same/{part}", {"ant": 4, "bee": 4}, size=40)
    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 24, 1.0, "bicubic")
    inputs = [f"--source={source}", f"--target={tmp_path / 'same'}"]
    inputs += [f"--surrogate={surrogate_file(4, preprocessing=half)}"]
    assert main(["select", *inputs, "--output=half.safetensors"]) == 0
    assert main(["audit", "half.safetensors", "--threshold=0", "--output=leaks.csv"]) == 0
    selection = Selection.load("half.safetensors")
    view = EvalTransform(24, Preprocessing.from_transform_config(selection.config["view"]))
    seen = TransformedDataset(open_source(str(source), None)[0], view)
    assert SourceFeatures(load_backbone(surrogate_file(4)), seen, tmp_path / "cache").missing == []


def test_a_selector_from_another_package_works(source, monkeypatch, tmp_path):
    (tmp_path / "theirs.py").write_text(
        "import torch\n"
        "from dataclasses import replace\n"
        "from tlprune import RandomSelector\n\n"
        "class Backward(RandomSelector):\n"
        "    method = 'backward'\n\n"
        "    def order(self, source, target, surrogate, cache):\n"
        "        found = super().order(source, target, surrogate, cache)\n"
        "        return replace(found, method=self.method, ranking=torch.arange(len(source.classes)).flip(0))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["select", f"--source={source}", "--selector=theirs.Backward", "--output=b.safetensors"]
    assert main(arguments) == 0
    found = Selection.load("b.safetensors")
    assert (found.method, found.ranking.tolist()) == ("backward", [3, 2, 1, 0])


def test_exported_indices_are_those_of_imagefolder(selected, source):
    assert main(["export", "s.safetensors", "--format=indices", "--output=kept.txt", "--keep_units=2"]) == 0
    assert Path("kept.txt").read_text().startswith("# tlprune lists what is KEPT: indices of 20 of 40 source images")
    kept = {selected.unit_names[unit] for unit in selected.ranking[:2].tolist()}
    theirs = ImageFolder(source)
    expected = [index for index, (_, label) in enumerate(theirs.samples) if theirs.classes[label] in kept]
    assert np.loadtxt("kept.txt", dtype=int).tolist() == expected


def test_exported_paths_and_links_are_the_same_images(selected, source):
    assert main(["export", "s.safetensors", "--format=paths", "--output=kept.txt", "--prune_ratio=0.5"]) == 0
    heading, *paths = Path("kept.txt").read_text().splitlines()
    assert (
        heading == "# tlprune lists what is KEPT: paths of 20 of 40 source images, in the order of the source's listing"
    )
    assert main(["export", "s.safetensors", "--format=symlinks", "--output=links", "--prune_ratio=0.5"]) == 0
    linked = ImageFolder("links")
    assert [os.path.realpath(path) for path, _ in linked.samples] == [os.path.realpath(path) for path in paths]
    assert linked[0][0].size == (32, 32)
    assert "links of 20 of 40" in Path("links/KEPT.txt").read_text()


def test_explain_says_who_voted_and_draws_it(selected, capsys):
    best, worst = (selected.unit_names[int(selected.ranking[place])] for place in (0, -1))
    capsys.readouterr()
    assert main(["explain", "s.safetensors", f"--unit={best}", "--output=e.png", "--keep_units=1"]) == 0
    out = capsys.readouterr().out
    votes = int(selected.votes.max())
    assert f"{best}: rank 1 of 4, {votes} votes" in out
    assert "KEPT: the budget keeps 1 of 4, the last kept one has" in out
    assert sum(int(line.split()[0]) for line in out.splitlines() if " of class " in line) == votes
    with Image.open("e.png") as picture:
        assert picture.width > 1000
    assert main(["explain", "s.safetensors", f"--unit={worst}", "--keep_units=1"]) == 0
    assert "dropped: the budget keeps 1 of 4" in capsys.readouterr().out
    assert main(["explain", "s.safetensors", "--unit=bea"]) == 2
    assert "no unit 'bea': did you mean 'bee'?" in capsys.readouterr().err


def test_other_voters_are_refused(selected, class_folder, capsys):
    class_folder("birds/train", {"x": 6, "y": 4})
    capsys.readouterr()
    assert main(["explain", "s.safetensors", "--unit=bee", "--target=birds"]) == 2
    assert "target birds: not the images that voted" in capsys.readouterr().err


def test_diff_says_what_is_gained_and_lost(source, capsys):
    for seed in (0, 1):
        select = ["select", f"--source={source}", "--selector=RandomSelector", f"--selector.seed={seed}"]
        assert main([*select, f"--output={seed}.safetensors"]) == 0
    first, second = (Selection.load(f"{seed}.safetensors") for seed in (0, 1))
    capsys.readouterr()
    assert main(["diff", "0.safetensors", "1.safetensors", "--keep_units=2"]) == 0
    out = capsys.readouterr().out
    mine, theirs = (set(one.ranking[:2].tolist()) for one in (first, second))
    for unit in range(4):
        assert (f"+ {first.unit_names[unit]}" in out) == (unit in theirs - mine)
        assert (f"- {first.unit_names[unit]}" in out) == (unit in mine - theirs)
    assert f"gained: {len(theirs - mine)} class" in out
    assert f", {10 * len(theirs - mine)} images" in out


def test_changed_source_is_refused(selected, source, capsys):
    (source / "ant" / "000.png").rename(source / "ant" / "zzz.png")
    capsys.readouterr()
    assert main(["export", "s.safetensors", "--format=paths", "--output=kept.txt", "--keep_units=1"]) == 2
    assert "this selection was made for another source" in capsys.readouterr().err
    assert not Path("kept.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "none.safetensors"], "none.safetensors: no such selection"),
        (["show", "r.safetensors", "--vote_coverage=1.5"], "`vote_coverage` must be in (0, 1], got 1.5"),
        (["show", "r.safetensors", "--vote_coverage=0.5"], "`vote_coverage` needs votes"),
        (["show", "r.safetensors", "--keep_units=9"], "`keep_units` is 9, the source has 4 units"),
        (["show", "r.safetensors", "--keep_units=1", "--prune_ratio=0.1"], "give exactly one of"),
        (["diff", "r.safetensors", "r.safetensors"], "say how much is kept: one of --prune_ratio"),
        (["export", "r.safetensors", "--format=csv", "--output=x"], "csv"),
        (
            ["export", "r.safetensors", "--format=indices", "--output=src/ant/000.png/x", "--keep_units=1"],
            "cannot write",
        ),
        (["export", "r.safetensors", "--format=symlinks", "--output=src", "--keep_units=1"], "src: exists already"),
        (["select", "--source=src", "--output=x.safetensors"], "LabelMapping needs `target`"),
        (["select", "--source=none", "--output=x.safetensors"], "source none: no such folder"),
        (["select", "--source=src"], "output"),
        (["select", "--source=src", "--selector=Randm", "--output=x"], "no class 'Randm': "),
        (
            ["select", "--source=src", "--selector.balance=true", "--output=x"],
            "--selector.balance: an option of which class? give --selector NAME before it",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_2(source, capsys, arguments, message):
    assert main(["select", f"--source={source}", "--selector=RandomSelector", "--output=r.safetensors"]) == 0
    capsys.readouterr()
    before = sorted(Path().rglob("*"))
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert sorted(Path().rglob("*")) == before
