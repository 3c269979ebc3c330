"""Input that cannot work, through `tlprune select`: one line, both numbers where there are two, exit 2, no artifact."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tlprune import FeatureMapping, PrunedSourceDataModule, RandomSelector, Selection
from tlprune.cli import main
from tlprune.errors import InputError

CLASSES = ("ant", "bee", "cat", "dog")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def given(class_folder, surrogate_file):
    """Arguments that work; a test replaces some of them by what does not."""
    source = class_folder("src", dict.fromkeys(CLASSES, 10))
    pets = class_folder("pets/train", {"x": 6, "y": 3}).parent
    named = {"source": source, "target": pets, "surrogate": surrogate_file(4), "image_size": 32}
    return {**named, "output": "s.safetensors", "cache": "own-cache"}


def select(given, **others):
    return main(["select", *(f"--{name}={value}" for name, value in (given | others).items())])


def refused(capsys, given, **others):
    """The one line that a wrong argument ends in; nothing is written but perhaps to the cache."""

    def files():
        return sorted(path for path in Path().rglob("*") if "own-cache" not in path.parts)

    before = files()
    capsys.readouterr()
    assert select(given, **others) == 2
    line = capsys.readouterr().err
    assert line.startswith("tlprune: error: ")
    assert line.count("\n") == 1
    assert files() == before
    return line


def cached(stage):
    folder = Path("own-cache", stage)
    return [path for path in folder.rglob("*") if path.suffix != ".lock"] if folder.is_dir() else []


def broken_surrogate(whole, path, change):
    """The weights of a surrogate, changed by somebody else: the checksum is left out as in files of others."""
    with safe_open(whole, "pt") as file:
        weights, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    change(weights)
    save_file(weights, path, {"backbone": metadata["backbone"], "classes": metadata["classes"]})
    return path


def spoil(name, value):
    def change(weights):
        weights[name].view(-1)[0] = value

    return change


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_damaged_image_of_the_target_says_what_can_be_done(given, capsys, policy, workers):
    photograph = given["target"] / "train" / "x" / "001.png"
    photograph.write_bytes(photograph.read_bytes()[:60])
    given["selector"] = "LabelMapping"
    line = refused(capsys, given, on_bad_image=policy, **{"selector.num_workers": workers})
    assert str(photograph) in line
    assert "repair or remove it" in line
    assert "of the source, not of a target" in line


VALUES = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("units", ["clusters", "classes"])
def test_features_that_are_no_numbers_name_samples_before_anything_is_clustered(given, capsys, value, units):
    change = spoil("backbone.network.stem.weight", value)
    surrogate = broken_surrogate(given["surrogate"], "broken.safetensors", change)
    line = refused(capsys, given, surrogate=surrogate, selector="FeatureMapping", **{"selector.units": units})
    assert "the surrogate's features are NaN or beyond 65504 for ant/000.png, ant/001.png" in line
    assert cached("features") == cached("clusters") == cached("selections") == []


@pytest.mark.parametrize("value", VALUES)
def test_logits_that_are_no_numbers_name_samples(given, capsys, value):
    surrogate = broken_surrogate(given["surrogate"], "broken.safetensors", spoil("head.bias", value))
    line = refused(capsys, given, surrogate=surrogate)
    assert "the surrogate gives NaN or infinity for target images x/" in line
    assert cached("selections") == []


@pytest.mark.parametrize("selector", ["Moderate", "EL2N", "GraNd"])
def test_other_selectors_name_samples_too(given, capsys, selector):
    def change(weights):
        spoil("backbone.network.stem.weight", float("nan"))(weights)
        spoil("head.bias", float("nan"))(weights)

    surrogate = broken_surrogate(given["surrogate"], "broken.safetensors", change)
    assert "ant/000.png" in refused(capsys, given, surrogate=surrogate, selector=selector)
    assert cached("selections") == []


def test_features_of_the_target_alone_that_are_no_numbers_stop_before_anything_is_clustered(points, tmp_path):
    target = points(torch.arange(8.0).view(4, 2), digest="target")
    target.points[3, 1] = float("nan")
    source = points(torch.arange(20.0).view(10, 2))
    with pytest.raises(InputError, match="features are NaN or beyond 65504 for point 3$"):
        FeatureMapping(num_clusters=2).select(source, target, torch.nn.Flatten(), cache=tmp_path / "own-cache")
    assert cached("features") != []
    assert cached("clusters") == []


@pytest.mark.parametrize("ratio", ["1", "-0.1", "1.1", "1e300", ".nan", ".inf"])
def test_a_ratio_out_of_range_names_what_was_given(given, capsys, ratio):
    line = refused(capsys, given, prune_ratio=ratio)
    assert f"`prune_ratio` must be in [0, 1), got {float(ratio.removeprefix('.'))}" in line


@pytest.mark.parametrize("ratio", ["nan", "inf", "half", "0,5"])
def test_a_ratio_that_is_no_number_names_its_key(given, capsys, ratio):
    assert "prune_ratio" in refused(capsys, given, prune_ratio=ratio)


@pytest.mark.parametrize("ratio", [1, -0.1, 1.1, float("nan")])
def test_the_datamodule_refuses_a_ratio_in_the_same_words(given, ratio):
    with pytest.raises(InputError, match=r"`prune_ratio` must be in \[0, 1\), got"):
        PrunedSourceDataModule(str(given["source"]), selector=RandomSelector(), prune_ratio=ratio)


@pytest.mark.parametrize("selector", ["LabelMapping", "FeatureMapping", "RandomSelector"])
def test_ratio_zero_keeps_all(given, capsys, selector):
    assert select(given, selector=selector, prune_ratio=0) == 0
    assert ", 40 images" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("KEPT"))
    assert Selection.load("s.safetensors").keep(ratio=0.0).tolist() == list(range(40))


def test_more_clusters_than_images_names_both_numbers(given, capsys):
    line = refused(capsys, given, selector="FeatureMapping", **{"selector.num_clusters": 41})
    assert "`num_clusters` is 41, the source has only 40 images" in line
    assert cached("features") == []


def test_more_clusters_than_distinct_points_ranks_those_that_there_are_and_says_so(given, capsys):
    """Forty images, three pictures: five clusters of eight are empty."""
    for number, path in enumerate(sorted(Path("src").rglob("*.png"))):
        Image.new("RGB", (32, 32), [(255, 0, 0), (0, 255, 0), (0, 0, 255)][number % 3]).save(path)
    with pytest.warns(UserWarning, match="k-means left 5 of 8 clusters without images, .*; ranked are the other 3"):
        assert select(given, selector="FeatureMapping", **{"selector.num_clusters": 8}) == 0
    found = Selection.load("s.safetensors")
    assert found.num_units == 3
    assert found.unit_sizes.sum() == 40
    assert (found.unit_sizes > 0).all()
    assert found.assignments.min() >= 0
    assert len(found.assignments) == 7


@pytest.mark.parametrize("outputs", [1, 3, 5])
def test_a_surrogate_with_another_head_names_both_numbers(given, surrogate_file, capsys, outputs):
    other = surrogate_file(outputs, "other.safetensors")
    line = refused(capsys, given, surrogate=other)
    assert f"its head has {outputs} outputs, the source has 4 classes" in line
    assert "a selector that needs features alone: FeatureMapping, NearestImages" in line
    assert select(given, surrogate=other, selector="FeatureMapping") == 0  # which looks at features alone


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("keep_units", 5, "`keep_units` is 5, the source has 4 units"),
        ("keep_units", 0, "`keep_units` must be at least 1, got 0"),
        ("keep_images", 9, "`keep_images` is 9, the best unit alone has 10 images"),
        ("keep_images", -1, "`keep_images` must be at least 1, got -1"),
        ("vote_coverage", 0, "`vote_coverage` must be in (0, 1], got 0.0"),
        ("vote_coverage", 1.01, "`vote_coverage` must be in (0, 1], got 1.01"),
        ("vote_coverage", ".nan", "`vote_coverage` must be in (0, 1], got nan"),
    ],
)
def test_other_budgets_name_both_numbers(given, capsys, option, value, message):
    assert message in refused(capsys, given, **{option: value})


def test_a_class_without_images_is_named(given, capsys):
    Path("src/bat").mkdir()
    assert "src/bat: a class without images (.bmp, " in refused(capsys, given)
    Path("src/bat/readme.txt").touch()
    assert "src/bat: a class without images" in refused(capsys, given, on_bad_image="skip")
    Path("src/bat").rename("pets/train/bat")
    Path("pets/train/bat/readme.txt").unlink()
    assert "pets/train/bat: a class without images" in refused(capsys, given)


def test_a_class_without_votes_is_ranked_behind_those_with(given, capsys):
    """A surrogate that says 'bee' of everything: the others come by score."""

    def change(weights):
        weights["head.bias"][1] = 99

    surrogate = broken_surrogate(given["surrogate"], "bee.safetensors", change)
    assert select(given, surrogate=surrogate, prune_ratio=0.5) == 0
    assert "NOTE       only 1 of the 2 kept units have votes; the rest are by score alone" in capsys.readouterr().out
    found = Selection.load("s.safetensors")
    assert found.votes.tolist() == [0, 7, 0, 0]
    assert found.ranking[0] == 1
    assert sorted(found.ranking.tolist()) == [0, 1, 2, 3]
    assert len(found.keep(units=4)) == 40


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Path("none").mkdir(), "none: no folder 'train' in it"),
        (lambda: Path("none/train").mkdir(parents=True), "none/train: no class folders in it"),
        (lambda: Path("none/train/x").mkdir(parents=True), "none/train/x: a class without images"),
        (lambda: Path("none").touch(), "none"),
        (lambda: None, "none"),
    ],
    ids=["empty", "no classes", "no images", "a file", "missing"],
)
def test_an_empty_target_is_named(given, capsys, make, message):
    make()
    assert message in refused(capsys, given, target="none")


def test_a_target_of_one_image_has_one_voter(given):
    for path in sorted(Path("pets").rglob("*.png"))[1:]:
        path.unlink()
    Path("pets/train/y").rmdir()
    assert select(given) == 0
    assert len(Selection.load("s.safetensors").assignments) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "source none: no such folder"),
        (lambda: Path("none").mkdir(), "none: neither class folders nor images in it"),
        (lambda: Path("none").touch(), "source none: a file, but none of .csv, .tsv, .txt"),
        (lambda: Path("none").symlink_to("nowhere"), "source none: no such folder"),
        (lambda: Path("none").symlink_to("none"), "source none: "),
        (lambda: os.mkfifo("none"), "source none: a file, but none of"),
    ],
    ids=["missing", "empty", "a file", "a link to nowhere", "a link to itself", "a pipe"],
)
def test_a_root_that_is_no_source_is_named(given, capsys, make, message):
    make()
    assert message in refused(capsys, given, source="none")


def test_a_root_that_may_not_be_read_is_named(given, tmp_path_factory, capsys):
    if os.getuid() == 0:
        pytest.skip("to the superuser no folder is unreadable; tests/faults/test_odd_folders.py gives these rights up")
    Path("src").chmod(0)
    try:
        assert "src: Permission denied" in refused(capsys, given)
    finally:
        Path("src").chmod(0o755)
