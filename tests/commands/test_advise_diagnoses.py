"""Diagnostics of Selections in ``tlprune advise`` and from Python."""

import re
import shutil
from dataclasses import asdict, replace

import pytest
import torch

import tlprune
from tlprune import InputError, Selection
from tlprune.cli import main
from tlprune.data.datasets import TensorImages


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def selections(class_folder, surrogate_file):
    """Three Selections of one source, of which the last knows neither target nor surrogate."""
    class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 6))
    class_folder("pets/train", {"x": 6, "y": 3})
    options = {"surrogate": surrogate_file(4), "image_size": 32}
    tlprune.select("src", "pets", output="lm.safetensors", **options)
    tlprune.select("src", "pets", selector=tlprune.NearestImages(), output="near.safetensors", **options)
    tlprune.select("src", selector=tlprune.RandomSelector(unit="sample"), image_size=32, output="random.safetensors")
    return ["lm.safetensors", "near.safetensors", "random.safetensors"]


def rows(out, name):
    """Cells of the rows of that name, which columns of at least two spaces part."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    return [cells for first, *cells in lines if first == name]


def shown(found):
    numbers = found.kept if isinstance(found, tlprune.diagnosing.Diagnosis) else found
    cells = [f"{numbers.similarity:.3f}", f"{numbers.divergence:.3f}"]
    return [*cells, f"{numbers.spread:.1f}", f"{numbers.duplicates:.1%}"]


def test_selections_are_compared_side_by_side(selections, surrogate_file, capsys):
    assert main(["advise", *selections, "--prune_ratio=0.5"]) == 0
    out = capsys.readouterr().out
    assert "What `prune_ratio` 0.5 keeps, held against 7 training images of " in out
    assert "KL(target || kept) in nats over 5 clusters" in out
    for path in selections:
        found = tlprune.diagnose(path, "src", "pets", surrogate_file(4), ratio=0.5, image_size=32)
        [row] = rows(out, path.removesuffix(".safetensors"))
        assert row == ["12", *shown(found)]
        [row] = rows(out, "random images")
        assert row == ["12", *shown(found.random)]
        assert "suggested" not in out


def test_one_selection_is_diagnosed_below_its_advice(selections, capsys):
    assert main(["advise", "near.safetensors", "--diagnose", "--keep_images=3"]) == 0
    assert "similarity: --keep_images" not in capsys.readouterr().out  # it falls at no number of so few images
    near = Selection.load("near.safetensors")
    near.metadata["suggested_images"] = 10
    near.save("near.safetensors")
    assert main(["advise", "near.safetensors", "--diagnose", "--keep_images=3"]) == 0
    out = capsys.readouterr().out
    assert out.index("suggested: --prune_ratio") < out.index("held against 7 training images")
    assert "suggested by similarity: --keep_images 10 " in out
    [row] = [line.split() for line in out.splitlines() if line.strip().startswith("by similarity")]
    assert row[2] == "10"
    assert main(["show", "near.safetensors"]) == 0
    assert "suggested  --keep_images 10: similarity falls beyond it" in capsys.readouterr().out


def test_a_selection_without_votes_is_diagnosed_for_any_target(selections, class_folder, surrogate_file, capsys):
    class_folder("birds/train", {"z": 5})
    options = ["--diagnose", "--prune_ratio=0.5", "--target", "birds", "pets", f"--surrogate={surrogate_file(4)}"]
    assert main(["advise", "random.safetensors", *options]) == 0
    out = capsys.readouterr().out
    assert "no suggestion: a selection by 'random' has no votes" in out
    assert "held against 4 training images of " in out  # a fifth of the folder is for validation
    assert len(rows(out, "random images")) == 2


def test_two_targets_of_one_name_both_count(selections, class_folder, surrogate_file, capsys):
    class_folder("a/pets/train", {"x": 5})
    class_folder("b/pets/train", {"x": 10})
    both = {"target": ["a/pets", "b/pets"], "surrogate": surrogate_file(4), "image_size": 32}
    tlprune.select("src", output="both.safetensors", **both)
    assert main(["advise", "both.safetensors", "--diagnose", "--prune_ratio=0.5"]) == 0
    out = capsys.readouterr().out
    assert "held against 4 training images of pets" in out
    assert "held against 8 training images of pets" in out


def test_advice_is_as_it_was_without_diagnosing(selections, capsys):
    shutil.rmtree("src")
    assert main(["advise", "lm.safetensors", "--prune_ratio=0.5"]) == 0
    out = capsys.readouterr().out
    assert "as you say" in out
    assert "similarity" not in out


REFUSED = {
    "lm near": "say how much is kept: one of --prune_ratio",
    "lm --diagnose": "say how much is kept: one of --prune_ratio",
    "lm near --prune_ratio=0.5 --output=x.png": "--output goes with one Selection, 2 are given",
    "lm --target=pets": "--target goes with --diagnose",
    "lm near lm --prune_ratio=0.5": "lm.safetensors: given twice",
    "near lm --keep_units=5": "lm.safetensors: `keep_units` is 5, the source has 4 units",
    "random --diagnose --prune_ratio=0.5": "no Selection says which surrogate it was made with; give --surrogate",
    "random --diagnose --prune_ratio=0.5 --surrogate=surrogate.safetensors": "no Selection names a target",
    "lm --diagnose --prune_ratio=0.5 --surrogate=none.pt": "surrogate none.pt: no such file",
    "lm --diagnose --prune_ratio=0.5 --target=none": "unknown target 'none'",
    "lm --diagnose --prune_ratio=0.5 --source=pets/train": "made for another source",
    "lm other --prune_ratio=0.5": "other.safetensors: made for another source than lm.safetensors",
    "lm birds --prune_ratio=0.5": "birds.safetensors: made for other target images than lm.safetensors",
    "lm none --prune_ratio=0.5": "none.safetensors: no such selection",
    "random --diagnose --keep_images=5 --output=x.png --surrogate=surrogate.safetensors --target=pets": "has no votes",
}


def test_what_does_not_go_together_is_refused(selections, tmp_path, capsys):
    lm = Selection.load("lm.safetensors")
    replace(lm, config=lm.config | {"source_digest": "0" * 64}).save("other.safetensors")
    replace(lm, config=lm.config | {"targets": [{"digest": "0" * 64, "images": 7}]}).save("birds.safetensors")
    capsys.readouterr()
    for command, message in REFUSED.items():
        words = [word if word.startswith("--") else f"{word}.safetensors" for word in command.split()]
        assert main(["advise", *words]) == 2, command
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


def test_data_sets_and_networks_are_diagnosed_from_python(coloured):
    source, target = coloured(6, 5), coloured(2, 4, seed=3)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    order = torch.arange(6)
    selection = Selection("mine", source.classes, order, torch.zeros(6), torch.zeros(6), source.labels, torch.empty(0))
    made = replace(selection, config={"source_digest": source.fingerprint()})
    right = tlprune.diagnose(made, source, target, network, units=2)
    wrong = tlprune.diagnose(replace(made, ranking=order.flip(0)), source, target, network, units=2)
    assert right.images == wrong.images == 10
    assert right.random == wrong.random
    assert right.kept.similarity > 0.99 > wrong.kept.similarity  # colours are told apart by their mean alone
    assert right.kept.divergence < wrong.kept.divergence
    assert set(asdict(right.kept)) == {"similarity", "divergence", "spread", "duplicates"}
    other = TensorImages(source.pixels[:6], source.labels[:6], source.classes)
    with pytest.raises(InputError, match="this selection was made for another source"):
        tlprune.diagnose(made, other, target, network, units=2)
    with pytest.raises(InputError, match="give exactly one of"):
        tlprune.diagnose(made, source, target, network)
