"""Feature Mapping, several targets, advice, audit and the other exports, through the command line."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import forked
from tlprune import Selection
from tlprune.cli import main


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def leaks():
    return list(csv.DictReader(Path("leaks.csv").read_text().splitlines()))


@pytest.fixture
def source(class_folder):
    return class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 10))


@pytest.fixture
def pets(class_folder):
    class_folder("pets/test", {"x": 2, "y": 2}, size=40, ending=".bmp")  # other pictures than those of 32 pixels
    class_folder("pets/val", {"x": 2, "y": 2})
    return class_folder("pets/train", {"x": 6, "y": 3}).parent


@pytest.fixture
def unlabelled(source):
    """The source's images in one folder."""
    Path("heap").mkdir()
    for file in source.rglob("*.png"):
        shutil.copy(file, f"heap/{file.parent.name}{file.name}")
    return "heap"


@pytest.fixture
def inputs(pets, surrogate_file):
    return [f"--target={pets}", f"--surrogate={surrogate_file(4)}", "--image_size=32", "--output=s.safetensors"]


def test_feature_mapping_on_a_folder_without_labels(unlabelled, inputs, capsys):
    options = ["--selector=FeatureMapping", "--selector.num_clusters=5"]
    assert main(["select", f"--source={unlabelled}", *inputs, *options, "--keep_units=2"]) == 0
    out = capsys.readouterr().out
    found = Selection.load("s.safetensors")
    assert "5 clusters, 40 source images" in out
    assert "9 images that vote" in out
    assert "images of 32 pixels, eval mode" in out
    assert f"KEPT       2 clusters, {len(found.keep(units=2))} images" in out
    best = int(found.ranking[0])
    assert main(["explain", "s.safetensors", f"--unit={best}", "--output=e.png"]) == 0
    assert f"cluster {best}: rank 1 of 5" in capsys.readouterr().out
    assert main(["export", "s.safetensors", "--format=paths", "--output=kept.txt", "--keep_units=2"]) == 0
    assert len(Path("kept.txt").read_text().splitlines()) == 1 + len(found.keep(units=2))
    assert main(["explain", "s.safetensors", "--unit=5"]) == 2
    assert "no unit '5': the clusters are numbered 0 to 4" in capsys.readouterr().err


def test_single_images_are_numbers_said_to_be_such_and_paths_where_the_source_is_given(source, capsys):
    for seed in (0, 1):
        single = ["--selector=RandomSelector", "--selector.unit=sample", f"--selector.seed={seed}"]
        assert main(["select", f"--source={source}", *single, f"--output={seed}.safetensors"]) == 0
    first, second = (Selection.load(f"{seed}.safetensors") for seed in (0, 1))
    paths = [str(path.relative_to(source)) for path in sorted(source.rglob("*.png"))]
    best = int(first.ranking[0])
    gained = sorted(set(second.keep(units=9).tolist()) - set(first.keep(units=9).tolist()))
    note = "this Selection holds no paths; images are numbered from 0 as the source lists them"
    for command, number, path in (
        (["show", "0.safetensors", "--top=1"], f"sample {best} ", paths[best]),
        (["explain", "0.safetensors", f"--unit={best}"], f"sample {best}: rank 1 of", f"{paths[best]}: rank 1 of"),
        (
            ["diff", "0.safetensors", "1.safetensors", "--keep_units=9"],
            f"+ sample {gained[0]}",
            f"+ {paths[gained[0]]}",
        ),
    ):
        capsys.readouterr()
        assert main(command) == 0
        out = capsys.readouterr().out
        assert number in out
        assert out.count(note) == 1
        assert main([*command, f"--source={source}"]) == 0
        out = capsys.readouterr().out
        assert path in out
        assert "sample" not in out.replace(note, "").replace("unit sample", "")
        assert note not in out
        (source / "extra").mkdir(exist_ok=True)
        shutil.copy(source / "ant/000.png", source / "extra/1.png")
        assert main([*command, f"--source={source}"]) == 2
        assert "this selection was made for another source" in capsys.readouterr().err
        shutil.rmtree(source / "extra")
    for unit in (paths[best], f"sample {best}"):
        assert main(["explain", "0.safetensors", f"--unit={unit}", f"--source={source}"]) == 0
        assert f"{paths[best]}: rank 1 of 40, 0 votes, score 0.00, 1 source image\n" in capsys.readouterr().out
    assert main(["explain", "0.safetensors", "--unit=ant/no.png", f"--source={source}"]) == 2
    assert "no image 'ant/no.png' in source" in capsys.readouterr().err


def test_listings_of_classes_say_nothing_of_paths(source, capsys):
    assert main(["select", f"--source={source}", "--selector=RandomSelector", "--output=s.safetensors"]) == 0
    assert main(["show", "s.safetensors", f"--source={source}"]) == 0
    out = capsys.readouterr().out
    assert "no paths" not in out
    assert " ant " in out


def test_several_targets_are_named_and_their_coverage_reported(source, pets, class_folder, surrogate_file, capsys):
    class_folder("birds/train", {"z": 5})
    class_folder("birds/val", {"z": 1})
    both = ["--target", str(pets), "birds", "--surrogate", str(surrogate_file(4)), "--image_size=32"]
    assert main(["select", f"--source={source}", *both, "--output=s.safetensors", "--vote_coverage=0.5"]) == 0
    out = capsys.readouterr().out
    assert "combined   worst case" in out
    found = Selection.load("s.safetensors")
    units = len(found.keep(coverage=0.5)) // 10
    for place, name in enumerate((str(pets), str(Path("birds").absolute()))):
        assert f"{found.covered_by_target[place, units - 1]:.1%} of the votes of {name}" in out
    assert found.covered_by_target[:, units - 1].min() >= 0.5
    best = found.unit_names[int(found.ranking[0])]
    assert main(["explain", "s.safetensors", f"--unit={best}"]) == 0
    out = capsys.readouterr().out
    assert " of pets" in out or " of birds" in out
    assert "every target counts the same" in out
    weighted = ["--combine=weighted_sum", "--target_weights", "0", "1", "--output=w.safetensors"]
    assert main(["select", f"--source={source}", *both, *weighted]) == 0
    assert Selection.load("w.safetensors").config["several_targets"]["weights"] == [0.0, 1.0]


def test_advice_forecasts_the_saving(source, inputs, capsys):
    assert main(["select", f"--source={source}", *inputs]) == 0
    capsys.readouterr()
    assert main(["advise", "s.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "no forecast: give --backbone and --epochs, or --full_seconds" in out
    assert "suggested: --prune_ratio" in out
    seconds = ["--full_seconds=1000", "--surrogate_seconds=100"]
    assert main(["advise", "s.safetensors", *seconds, "--keep_units=1", "--output=a.png"]) == 0
    out = capsys.readouterr().out
    assert "S, the surrogate: 100.0 s (10.0% of T)" in out
    [row] = [line for line in out.splitlines() if "as you say" in line]
    assert row.split()[3:6] == ["1", "75.0%", "10"]
    once, again = (float(row.split()[place].removesuffix("%")) for place in (-2, -1))
    assert 64 < once <= 65  # less what the vote took here
    assert 74 < again <= 75
    with Image.open("a.png") as picture:
        assert picture.width > 500
    assert main(["advise", "s.safetensors", "--backbone=resnet8_w8", "--epochs=3", "--batch_size=4"]) == 0
    assert "T, resnet8_w8 on the whole source" in capsys.readouterr().out


def test_audit_finds_test_images_in_the_kept_source(source, pets, inputs, capsys):
    Image.open(pets / "test" / "y" / "001.bmp").save(source / "dog" / "leak.jpg", quality=95)
    assert main(["select", f"--source={source}", *inputs]) == 0
    capsys.readouterr()
    audit = ["audit", "s.safetensors", "--output=leaks.csv", "--picture=leaks.png"]
    assert main([*audit, "--prune_ratio=0"]) == 0
    assert "1 of them look alike too" in capsys.readouterr().out
    [found] = [row for row in leaks() if row["look alike"] == "yes"]
    assert (found["test image"], found["kept source image"]) == ("y/001.bmp", "dog/leak.jpg")
    assert float(found["feature distance"]) == min(float(row["feature distance"]) for row in leaks())
    with Image.open("leaks.png") as picture:
        assert picture.width > 1000
    found = Selection.load("s.safetensors")
    dropped = {found.unit_names[unit] for unit in found.ranking[1:].tolist()}
    assert main([*audit, "--keep_units=1"]) == 0
    assert not {row["kept source image"].split("/")[0] for row in leaks()} & dropped


def test_audit_compares_with_training_images_of_the_target_where_these_are_included(source, pets, inputs, capsys):
    """A test image lies among the training images; validation images are the same as training images."""
    shutil.copy(pets / "test/y/001.bmp", pets / "train/y/leak.bmp")
    assert main(["select", f"--source={source}", *inputs]) == 0
    audit = ["audit", "s.safetensors", "--output=leaks.csv", "--prune_ratio=0.5"]
    assert main(audit) == 0
    assert "part" not in Path("leaks.csv").read_text().splitlines()[0]
    assert not [row for row in leaks() if row["look alike"] == "yes"]
    capsys.readouterr()
    assert main([*audit, "--include_target"]) == 0
    said = capsys.readouterr().out
    assert "test images lie within" in said
    assert "validation images lie within" in said
    found = {
        (row["part"], row["test image"], row["kept source image"], row["trained on"])
        for row in leaks()
        if row["look alike"] == "yes"
    }
    assert ("test", "y/001.bmp", "y/leak.bmp", "pets") in found
    assert ("val", "x/000.png", "x/000.png", "pets") in found
    assert {row["trained on"] for row in leaks()} <= {"source", "pets"}
    assert all(row["part"] == "test" for row in leaks() if row["trained on"] == "source")


def test_parquet_and_webdataset_keys_name_the_same_images(source, inputs):
    from pyarrow import parquet

    assert main(["select", f"--source={source}", *inputs]) == 0
    for kind in ("parquet", "webdataset", "indices"):
        assert main(["export", "s.safetensors", f"--format={kind}", f"--output=kept.{kind}", "--keep_units=2"]) == 0
    table = parquet.read_table("kept.parquet").to_pydict()
    assert [path.removesuffix(".png") for path in table["path"]] == Path("kept.webdataset").read_text().splitlines()[1:]
    assert [str(index) for index in table["index"]] == Path("kept.indices").read_text().splitlines()[1:]
    assert table["label"] == table["unit"] == [path.split("/")[0] for path in table["path"]]


@pytest.mark.parametrize(
    "selector",
    [
        ["--selector=Moderate"],
        ["--selector=EL2N"],
        ["--selector=GraNd", "--selector.unit=class"],
        ["--selector=ListSelector", "--selector.path=list.txt"],
        ["--selector=ReverseSelector", "--selector.of=FeatureMapping", "--selector.of.num_clusters=3"],
    ],
    ids=" ".join,
)
def test_every_control_has_a_name_on_the_command_line(source, inputs, selector, capsys):
    Path("list.txt").write_text("dog\n")
    assert main(["select", f"--source={source}", *inputs, *selector, "--keep_images=12"]) == 0
    assert "KEPT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--selector=FeatureMapping", "--selector.num_clusters=0"], "`num_clusters` must be at least 1, got 0"),
        (["--selector=FeatureMapping", "--selector.num_clusters=41"], "`num_clusters` is 41, the source has only 40"),
        (
            ["--selector=FeatureMapping", "--source=heap", "--selector.units=classes"],
            "FeatureMapping needs a labelled source",
        ),
        (["--source=heap"], "LabelMapping needs a labelled source, and this one has no labels"),
        (["--vote_coverage=1.1"], "`vote_coverage` must be in (0, 1], got 1.1"),
        (["--combine=average"], "combine"),
        (["--target", "digits", "--target", "photos"], "--target is given twice"),
        (["--target", "digits", "digits"], "target digits is named twice"),
        (["--selector=LabelMapping", "--selector.num_workers=-1"], "`num_workers` must be at least 0, got -1"),
        (["--image_size=0"], "`image_size` must be from 1 to 4096, got 0"),
        (["--image_size=1000000"], "`image_size` must be from 1 to 4096"),
        (["--image_size=2"], "the surrogate cannot be run on images of 3 x 2 x 2"),
        (["--keep_images=9"], "`keep_images` is 9, the best unit alone has 10 images"),
        (["--selector=RandomSelector", "--selector.seed=99999999999999999999"], "`seed` must be from 0 to"),
        (["--selector=FeatureMapping", "--selector.seed=9999999999"], "`seed` must be from 0 to 2147483647"),
        (["--output=src"], "cannot write src: it is a folder"),
        (["--output=src/ant/000.png/x"], "cannot write src/ant/000.png/x: "),
        (["--surrogate=http://there/s.ckpt"], "read from local files only"),
        (["--source="], "the source has no name"),
        (["--prune=0.5"], "prune"),
        (["--target_weights", "1", "2"], "`target_weights` go with `combine: weighted_sum`"),
        (["--selector=ListSelector", "--selector.path=none.txt"], "list none.txt: No such file"),
        (["--selector=Forgetting", "--selector.counts=none.safetensors"], "no such file of forgetting counts"),
        (
            ["--selector=FeatureMapping", "--surrogate=broken.safetensors"],
            "features are NaN or beyond 65504 for ant/000",
        ),
        (["--surrogate=broken.safetensors"], "NaN or infinity for target images x/000.png"),
        (["--target=empty"], "empty/train: no class folders in it"),
        (["--target=nobody"], "nobody"),
        (["--keep_units=5"], "`keep_units` is 5, the source has 4 units"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_exit_2_and_no_file(
    source, unlabelled, inputs, surrogate_file, capsys, arguments, message
):
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    whole = surrogate_file(4, "whole.safetensors")
    with safe_open(whole, "pt") as file:
        weights, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    weights["backbone.network.stem.weight"] = torch.full_like(weights["backbone.network.stem.weight"], float("nan"))
    save_file(weights, "broken.safetensors", {"backbone": metadata["backbone"], "classes": metadata["classes"]})
    Path("empty/train").mkdir(parents=True)
    before = sorted(Path().rglob("*"))
    named = {one.split("=")[0]: one for one in [f"--source={source}", *inputs]}
    given = [one for name, one in named.items() if name not in {other.split("=")[0] for other in arguments}]
    assert main(["select", *given, *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path for path in Path().rglob("*") if "cache" not in path.parts) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["advise", "r.safetensors"], "'random' has no votes"),
        (["advise", "s.safetensors", "--backbone=resnet18"], "give --epochs beside --backbone"),
        (["advise", "s.safetensors", "--backbone=resnt18", "--epochs=1"], "did you mean 'resnet18'"),
        (["advise", "s.safetensors", "--full_seconds=0"], "must be above 0"),
        (["advise", "s.safetensors", "--backbone=resnet18", "--full_seconds=1"], "not both"),
        (
            ["advise", "s.safetensors", "--backbone=resnet8_w8", "--epochs=1", "--batch_size=0"],
            "`batch_size` must",
        ),
        (
            ["advise", "s.safetensors", "--backbone=resnet8_w8", "--epochs=1", "--image_size=0"],
            "`image_size` must",
        ),
        (
            ["advise", "s.safetensors", "--backbone=vit_b_16", "--epochs=1"],
            "vit_b_16 cannot be trained on",
        ),
        (["show", "s.safetensors", "--top=-1"], "`top` must be at least 0, got -1"),
        (["show", "src"], "src: a folder, not a selection"),
        (["explain", "s.safetensors", "--unit=ant", "--source=heap"], "made for another source"),
        (
            ["export", "s.safetensors", "--format=indices", "--source=heap", "--output=x", "--keep_units=1"],
            "another source",
        ),
        (["diff", "s.safetensors", "o.safetensors", "--keep_units=1"], "made for different sources"),
        (
            ["diff", "s.safetensors", "i.safetensors", "--keep_units=1"],
            "the other single images; 'tlprune advise' with both",
        ),
        (["advise", "s.safetensors", "--full_seconds=9", "--epochs=0"], "`epochs` must be at least 1, got 0"),
        (["audit", "r.safetensors", "--output=x.csv"], "does not say which surrogate"),
        (["audit", "r.safetensors", "--output=x.csv", "--surrogate=surrogate.safetensors"], "does not name a target"),
        (["audit", "s.safetensors", "--output=x.csv", "--threshold=-1"], "`threshold` must be at least 0, got -1"),
        (["audit", "s.safetensors", "--output=x.csv", "--source=heap"], "made for another source"),
        (
            ["explain", "s.safetensors", "--unit=ant", "--target", "a", "b"],
            "voted for this selection: 1; --target names 2",
        ),
        (
            ["export", "s.safetensors", "--format=parquet", "--source=heap", "--output=x", "--keep_units=1"],
            "another source",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_questions_are_one_line_exit_2_and_no_file(source, unlabelled, inputs, capsys, arguments, message):
    assert main(["select", f"--source={source}", *inputs]) == 0
    random = ["select", "--selector=RandomSelector"]
    assert main([*random, f"--source={source}", "--output=r.safetensors"]) == 0
    assert main([*random, f"--source={source}", "--selector.unit=sample", "--output=i.safetensors"]) == 0
    shutil.copytree(source, "other")
    Path("other/ant/000.png").write_bytes(b"")
    assert main([*random, "--source=other", "--output=o.safetensors"]) == 0
    capsys.readouterr()
    before = sorted(Path().rglob("*"))
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_cached")
def test_every_config_selects(surrogate_file):
    from tlprune.data.synthetic import synthetic_classes

    Path("runs/drawn").mkdir(parents=True)
    Path("runs/ssl").mkdir()
    for folder in ("drawn", "ssl"):
        surrogate_file([drawn.name for drawn in synthetic_classes()], f"runs/{folder}/surrogate.safetensors")
    configs = sorted((Path(__file__).parents[2] / "configs" / "select").glob("*.yaml"))
    for config in configs:
        assert config.read_text().startswith("# ")
        assert main(["select", f"--config={config}"]) == 0
        found = Selection.load(f"runs/selections/{config.stem}.safetensors")
        assert found.num_units == 100
    assert len(configs) == 4


def test_the_command_line_beats_the_config_and_bad_configs_are_named(source, capsys):
    Path("c.yaml").write_text(f"source: {source}\nselector: RandomSelector\noutput: a.safetensors\n")
    assert main(["select", "--config=c.yaml", "--output=b.safetensors"]) == 0
    assert not Path("a.safetensors").exists()
    assert Selection.load("b.safetensors").method == "random"
    capsys.readouterr()
    for text, message in (
        ("source: [", "not valid yaml"),
        ("3", "must hold keys such as 'source'"),
        ("sorce: x", "sorce"),
    ):
        Path("c.yaml").write_text(text)
        assert main(["select", "--config=c.yaml", "--output=c.safetensors"]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert message in err
    assert main(["select", "--config", "none.yaml"]) == 2
    assert "--config none.yaml: no such file" in capsys.readouterr().err


def test_names_are_printed_as_they_are(class_folder, capfd):
    names = [
        ":car:",
        "[bold]x",
        "[red]a[blue]",
        "a rather long name of a class that does not fit into eighty columns at all",
    ]
    root = class_folder("odd", dict.fromkeys(names, 3))
    assert main(["select", f"--source={root}", "--selector=RandomSelector", "--output=o.safetensors"]) == 0
    assert main(["show", "o.safetensors"]) == 0
    out = capfd.readouterr().out
    assert all(out.count(name) == 2 for name in names)


def test_names_that_are_no_text_do_no_harm(class_folder, capfd):
    root = class_folder("odd", {"a": 3, "b": 3})
    os.rename(os.fsencode(root / "a" / "000.png"), os.fsencode(root / "a") + b"/\xff.png")
    os.rename(os.fsencode(root / "b"), os.fsencode(root) + b"/b\xfe")
    select = [sys.executable, "-m", "tlprune", "select", f"--source={root}", "--selector=RandomSelector"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([*select, "--output=o.safetensors"], env=strict, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert main(["export", "o.safetensors", "--format=paths", "--output=p.txt", "--keep_units=2"]) == 0
    assert b"\xff.png" in Path("p.txt").read_bytes()
    assert main(["export", "o.safetensors", "--format=parquet", "--output=p.parquet", "--keep_units=2"]) == 2
    assert "export indices instead" in capfd.readouterr().err


def test_warnings_are_for_people(source, class_folder, capfd):
    (source / "ant" / "000.png").rename(source / "stray.png")
    select = [sys.executable, "-m", "tlprune", "select", f"--source={source}", "--selector=RandomSelector"]
    done = forked.run([*select, "--output=o.safetensors"])
    said = f"tlprune: warning: {source}: 1 images beside the class folders are skipped"
    assert [line for line in done.stdout.splitlines() if "warning:" in line.lower()] == [said]


def test_an_order_without_votes_can_be_audited(source, pets, surrogate_file, capsys):
    surrogate = surrogate_file(4)
    select = ["select", f"--source={source}", "--selector=RandomSelector", "--image_size=32", "--output=r.safetensors"]
    assert main(select) == 0
    capsys.readouterr()
    audit = ["audit", "r.safetensors", f"--surrogate={surrogate}", f"--target={pets}", "--output=l.csv"]
    assert main([*audit, "--keep_units=2"]) == 0
    assert "of 4 test images lie within" in capsys.readouterr().out
