"""embed(), and Selections from features: those that the images give, and usable with the images."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import forked
import tlprune
from tlprune import FeatureSet, InputError, PrunedSourceDataModule, Selection, embed, embedding, prune, select
from tlprune.cli import main
from tlprune.data.feature_files import open_features
from tlprune.models.weights import load_backbone
from tlprune.selection import features, registry

CLASSES = ("ant", "bee", "cat", "dog", "eel")
COUNTS = dict(zip(CLASSES, (9, 7, 8, 6, 10), strict=True))
FORMATS = ("npy", "npz", "safetensors", "parquet")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def source(class_folder):
    return str(class_folder("src", COUNTS, size=16))


@pytest.fixture
def pets(class_folder):
    class_folder("pets/test", {"x": 2, "y": 2}, size=20)
    class_folder("pets/val", {"x": 2, "y": 2}, size=18)
    return str(class_folder("pets/train", {"x": 6, "y": 3}, size=24).parent)


@pytest.fixture
def options(surrogate_file):
    return {"surrogate": str(surrogate_file(list(CLASSES))), "image_size": 16}


@pytest.fixture
def both(source, pets, options):
    """Features of a source and of a target, in files."""
    return (
        embed(source, output="source.safetensors", **options),
        embed(target=pets, output="target.npz", **options),
    )


OF_FEATURES = {
    "FeatureMapping": [{"num_clusters": 6}, {"units": "classes"}, {"center": True, "balance": True}],
    "NearestImages": [{}, {"num_anchors": 3}, {"center": "each"}],
    "Moderate": [{}, {"unit": "class"}],
    "ImportanceResampling": [{"of": tlprune.FeatureMapping(num_clusters=5)}],
    "TypicalImages": [
        {"of": tlprune.FeatureMapping(units="classes")},
        {"of": tlprune.RandomSelector(seed=3)},
    ],
    "ReverseSelector": [{"of": tlprune.FeatureMapping(num_clusters=5)}],
}
SELECTORS = [(name, more) for name, each in OF_FEATURES.items() for more in each]


def test_every_selector_of_features_is_tried_here():
    needing = {name for name in registry.selector_names() if "backbone" in getattr(tlprune, name).needs}
    assert needing <= set(OF_FEATURES)


@pytest.mark.parametrize(("name", "more"), SELECTORS, ids=lambda given: str(given)[:40])
def test_features_give_the_order_that_images_give(name, more, source, pets, options, both):
    def selector():
        return getattr(tlprune, name)(**more)

    of_images = select(source, pets, selector=selector(), cache="other", **options)
    of_features = select(*both, selector=selector())
    for field in ("ranking", "votes", "scores", "unit_of_sample", "assignments", "asked_by"):
        assert torch.equal(getattr(of_features, field), getattr(of_images, field)), field
    assert of_features.unit_names == of_images.unit_names
    for key in ("source_digest", "targets", "surrogate_digest", "view"):
        assert of_features.config[key] == of_images.config[key], key
    for key in ("source", "targets", "surrogates", "image_size"):
        assert of_features.metadata[key] == of_images.metadata[key], key
    assert select(*both, selector=selector()).metadata["cached"]


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_one_selection(ending, source, options, both):
    again = embed(source, output=f"again.{ending}", **options)
    chosen = [select(one, both[1], selector=tlprune.NearestImages()).digest for one in (both[0], again)]
    assert chosen[0] == chosen[1]


def test_an_embedding_is_float16_with_what_it_was_made_from(source, pets, options, both):
    found, target = map(open_features, both)
    assert str(found.rows.dtype) == "float16"
    assert found.paths[0] == "ant/000.png"
    assert (found.classes, len(found)) == (CLASSES, 40)
    assert (found.embedding.role, found.embedding.name) == ("source", source)
    assert (target.embedding.role, target.embedding.name) == ("target", pets)
    assert target.paths == tuple(
        [f"x/{n:03}.png" for n in range(6)] + [f"y/{n:03}.png" for n in range(3)]
    )  # train only
    backbone = load_backbone(options["surrogate"]).eval()
    images = tlprune.PrunedSourceDataModule(source, image_size=16)._split()[0]
    pixels = torch.stack([images[index][0] for index in range(4)]).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = backbone((pixels - mean) / std)
    torch.testing.assert_close(found.read_features(range(4)), expected, atol=2e-3, rtol=2e-3)


def test_a_selection_of_features_is_used_with_the_images(source, both):
    made = select(*both, selector=tlprune.FeatureMapping(units="classes"), output="s.safetensors")
    data = PrunedSourceDataModule(source, selection="s.safetensors", prune_ratio=0.8, val_share=0, image_size=16)
    data.setup()
    assert data.images_kept == len(made.keep(ratio=0.8))
    assert main(["show", "s.safetensors"]) == 0
    assert main(["export", "s.safetensors", "--format=paths", "--output=kept.txt", "--prune_ratio=0.8"]) == 0
    kept = [line for line in Path("kept.txt").read_text().splitlines() if not line.startswith("#")]
    paths = sorted(str(path) for path in Path(source).rglob("*.png"))
    assert kept == [paths[index] for index in made.keep(ratio=0.8).tolist()]
    assert main(["explain", "s.safetensors", "--unit=ant", "--output=why.png"]) == 0
    assert main(["audit", "s.safetensors", "--output=leaks.csv", "--prune_ratio=0.6"]) == 0


def test_other_images_than_those_embedded_are_refused(source, both, class_folder):
    made = select(*both, selector=tlprune.NearestImages())
    other = str(class_folder("other", COUNTS | {"ant": 8}, size=16))
    data = PrunedSourceDataModule(other, selection=made, prune_ratio=0.5, image_size=16)
    with pytest.raises(InputError, match="made for another source"):
        data.setup()


class Theirs:
    """Features that another program computed, in the order of the source."""

    def __init__(self, source, total=40):
        self.paths = sorted(str(path.relative_to(source)) for path in Path(source).rglob("*.png"))
        self.labels = [path.split("/")[0] for path in self.paths]
        self.features = np.random.default_rng(1).standard_normal((total, 8)).astype("f4")

    def save(self, file="theirs.npz", **changed):
        given = {"features": self.features, "paths": self.paths, "labels": self.labels} | changed
        np.savez(file, **{name: values for name, values in given.items() if values is not None})
        return f"features:{file}"


@pytest.fixture
def theirs(source):
    return Theirs(source)


@pytest.fixture
def voting():
    np.save("voting.npy", np.random.default_rng(2).standard_normal((7, 8)))
    return "features:voting.npy"


@pytest.mark.parametrize("before", ["", "train/", "/somewhere/else/train/"])
def test_foreign_features_with_paths_fit_the_images_of_these_paths(before, theirs, source, voting, capsys):
    name = theirs.save(paths=[before + path for path in theirs.paths])
    made = select(name, voting, selector=tlprune.FeatureMapping(units="classes"), output="s.safetensors")
    data = PrunedSourceDataModule(source, selection="s.safetensors", prune_ratio=0.6, val_share=0, image_size=16)
    data.setup()
    assert data.images_kept == len(made.keep(ratio=0.6))
    export = ["export", "s.safetensors", "--format=paths", "--output=kept.txt", "--prune_ratio=0.6"]
    assert main([*export, f"--source={source}"]) == 0
    assert main(export) == 2  # the features are known, and no folder
    assert "this source is not made of files" in capsys.readouterr().err
    assert main(["export", "s.safetensors", "--format=indices", "--output=kept.txt", "--prune_ratio=0.6"]) == 0
    assert main(["explain", "s.safetensors", "--unit=ant"]) == 0
    assert main(["report", "s.safetensors", "--output=page"]) == 0


def test_a_folder_less_than_the_images_have_fits_too(theirs, source, voting, class_folder):
    inner = Path("outer/src")
    inner.parent.mkdir()
    shutil.copytree(source, inner)
    made = select(theirs.save(labels=None), voting, selector=tlprune.NearestImages())
    data = PrunedSourceDataModule("unlabelled:outer", selection=made, keep_images=5, val_share=0, image_size=16)
    data.setup()
    assert data.images_kept == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda paths: [*paths[:7], "x/odd.png", *paths[8:]],
            "40 rows; here are 40 images; 1 paths differ, first row 7",
        ),
        (
            lambda paths: paths[::-1],
            "40 rows; here are 40 images; 40 paths differ, first row 0: 'eel/009.png', here 'ant/000.png'",
        ),
        (lambda paths: paths[:39], "39 rows; here are 40 images$"),
    ],
)
def test_foreign_features_of_other_paths_are_refused_by_name(change, message, theirs, source, voting):
    paths = change(theirs.paths)
    name = theirs.save(paths=paths, features=theirs.features[: len(paths)], labels=None)
    made = select(name, voting, selector=tlprune.NearestImages())
    data = PrunedSourceDataModule(source, selection=made, prune_ratio=0.5, image_size=16)
    with pytest.raises(InputError, match=f"the source at hand: this selection was made from features:.*, {message}"):
        data.setup()
    Path("theirs.npz").unlink()  # whoever has the Selection alone is refused as well
    with pytest.raises(InputError, match=f"{len(paths)} rows; here are 40 images, in another order or of other paths"):
        PrunedSourceDataModule(source, selection=made, prune_ratio=0.5, image_size=16).setup()


def test_foreign_features_without_paths_or_of_other_classes_are_refused(theirs, source, voting):
    made = select(theirs.save(paths=None), voting, selector=tlprune.NearestImages())
    with pytest.raises(InputError, match="do not say which images they are of; give them paths"):
        PrunedSourceDataModule(source, selection=made, prune_ratio=0.5, image_size=16).setup()
    assert len(prune(range(40), made, images=9)) == 9  # who knows the order has the indices
    labels = [*theirs.labels[:9], "cat", *theirs.labels[10:]]
    made = select(theirs.save(labels=labels), voting, selector=tlprune.FeatureMapping(units="classes"))
    with pytest.raises(InputError, match=r"where bee/000.png has class number 2; here it has 1"):
        PrunedSourceDataModule(source, selection=made, prune_ratio=0.5, image_size=16).setup()


def test_changed_features_are_selected_from_again(theirs, voting):
    first = select(theirs.save(), voting, selector=tlprune.NearestImages())
    again = select(theirs.save(features=theirs.features[::-1]), voting, selector=tlprune.NearestImages())
    assert "cached" not in again.metadata
    assert again.digest != first.digest


def test_features_in_memory_are_a_source_and_a_target(theirs, voting):
    """Without a file, and by a selector alone."""
    source = FeatureSet(theirs.features, labels=theirs.labels, paths=theirs.paths)
    target = FeatureSet(torch.from_numpy(np.load("voting.npy")))
    made = select(source, target, selector=tlprune.NearestImages())
    by_name = select(theirs.save(), voting, selector=tlprune.NearestImages())
    assert torch.equal(made.ranking, by_name.ranking)
    assert made.config == by_name.config
    alone = tlprune.NearestImages().select(source, target)
    assert torch.equal(alone.ranking, made.ranking)


def test_many_more_rows_than_a_shard_holds(tmp_path, monkeypatch):
    """Against distances to all rows at once."""
    monkeypatch.setattr("tlprune.selection.features.SHARD_SIZE", 64)
    rng = np.random.default_rng(3)
    source, target = rng.standard_normal((500, 6)), rng.standard_normal((3, 6))
    np.save("a.npy", source)
    np.save("b.npy", target)
    made = select("features:a.npy", "features:b.npy", selector=tlprune.NearestImages(center="none"))
    source, target = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (source, target))
    best = (target @ source.T).argmax(1)
    assert set(made.ranking[:3].tolist()) == set(best.tolist())
    assert made.assignments.tolist() == best.tolist()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "LabelMapping needs a classifier and images, .*; FeatureMapping, NearestImages, Moderate need no more"),
        ({"selector": tlprune.EL2N()}, "EL2N needs a classifier and images"),
        ({"selector": tlprune.ImportanceResampling()}, "ImportanceResampling needs a classifier and images"),
        (
            {"selector": tlprune.NearestImages(), "surrogate": "s.safetensors"},
            "so `surrogate` has no use; leave it out",
        ),
        ({"selector": tlprune.NearestImages(), "surrogate_backbone": "resnet18"}, "so `surrogate_backbone` has no use"),
        ({"selector": tlprune.NearestImages(), "on_bad_image": "skip"}, "so `on_bad_image: skip` has no use"),
        (
            {"selector": tlprune.NearestImages(), "target": "digits"},
            "theirs.npz is given as features, and the target as",
        ),
        ({"selector": tlprune.NearestImages(), "target": None}, "NearestImages needs `target`"),
        ({"selector": tlprune.NearestImages(), "target": "features:none.npy"}, "features:none.npy: no such file"),
    ],
)
def test_what_features_are_not_enough_for_is_refused(asked, message, theirs, voting):
    save_file({}, "s.safetensors")
    with pytest.raises(InputError, match=message):
        select(theirs.save(), **{"target": voting} | asked)


def test_images_and_features_do_not_go_together(source, voting, options):
    said = r"voting.npy is given as features, and the source as images; .* tlprune embed --source"
    with pytest.raises(InputError, match=said):
        select(source, voting, selector=tlprune.NearestImages(), **options)
    with pytest.raises(InputError, match=said):
        PrunedSourceDataModule(
            source, voting, tlprune.NearestImages(), options["surrogate"], prune_ratio=0.5, image_size=16
        ).setup()


def test_features_of_other_widths_networks_and_sizes_are_refused(theirs, both, pets, options, surrogate_file):
    nearest = tlprune.NearestImages()
    with pytest.raises(InputError, match=r"theirs.npz has 8, features:.*target.npz has 32"):
        select(theirs.save(), both[1], selector=nearest)
    larger = embed(target=pets, output="larger.npy", **options | {"image_size": 20})
    with pytest.raises(InputError, match=r"source.safetensors as EvalView of 16 pixels, .* as EvalView of 20 pixels"):
        select(both[0], larger, selector=nearest)
    network = load_backbone(options["surrogate"])
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    other = embed(target=pets, output="other.npy", surrogate=network, image_size=16)
    with pytest.raises(InputError, match="features of two surrogates: .*source.safetensors by .*, .*other.npy by "):
        select(both[0], other, selector=nearest)


def test_an_embedding_that_was_changed_is_refused(source, options, both):
    name = embed(source, output="s.npy", **options)
    rows = np.load("s.npy")
    rows[3] += 1
    np.save("s.npy", rows)
    with pytest.raises(InputError, match="damaged or changed: not what tlprune embed wrote; embed again"):
        select(name, both[1], selector=tlprune.NearestImages())
    embed(source, output="s.npy", **options)
    select(name, both[1], selector=tlprune.NearestImages())


def test_features_are_no_source_to_train_on_and_no_target_to_transfer_to(both):
    with pytest.raises(InputError, match="features cannot be trained on; give the images, and the Selection"):
        PrunedSourceDataModule(both[0])
    with pytest.raises(InputError, match="features can vote for a source and no more"):
        tlprune.DownstreamDataModule(both[1])


def test_skipped_images_are_noted_and_left_out_again(class_folder, pets, options):
    source = class_folder("many", {"ant": 60, "bee": 60}, size=16)
    (source / "ant/007.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="ant/007.png"):
        embed(str(source), output="s.npz", **options)
    assert not Path("s.npz").exists()
    with pytest.warns(UserWarning, match="1 of 120 images cannot be decoded"):
        name = embed(str(source), output="s.npz", on_bad_image="skip", **options)
    made = select(name, embed(target=pets, output="t.npz", **options), selector=tlprune.NearestImages())
    assert made.skipped == ("ant/007.png",)
    skipping = {"on_bad_image": "skip", "image_size": 16, "val_share": 0}
    data = PrunedSourceDataModule(str(source), selection=made, keep_images=9, **skipping)
    with pytest.warns(UserWarning, match="cannot be decoded"):
        data.setup()
    assert data.images_kept == 9


def test_a_call_that_was_stopped_goes_on_to_the_same_file(source, options, monkeypatch):
    monkeypatch.setattr("tlprune.selection.features.SHARD_SIZE", 64)
    embed(source, output="whole.safetensors", cache="one", **options)

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(embedding, "write_features", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed(source, output="again.safetensors", cache="two", **options)
    assert not Path("again.safetensors").exists()
    computed = []
    real = features._features

    def counted(backbone, images, batches, *more):
        computed.append(len(batches))
        return real(backbone, images, batches, *more)

    monkeypatch.setattr(features, "_features", counted)
    embed(source, output="again.safetensors", cache="two", **options)
    assert Path("again.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert sum(computed) == 0  # what was computed is not computed again
    embed(source, output="again.safetensors", cache="two", fresh=True, **options)
    assert sum(computed) == 1


def test_ranks_share_the_work_and_write_what_one_process_writes(class_folder, options):
    source = class_folder("many", {"ant": 40, "bee": 40}, size=16)
    embed(str(source), output="one.safetensors", cache="one", **options)
    Path("run.py").write_text(
        "import sys, torch\nfrom tlprune.cli import main\nfrom tlprune.selection import features\n"
        "torch.set_num_threads(1)\nfeatures.SHARD_SIZE = 64\nsys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "run.py", "embed", f"--source={source}", f"--surrogate={options['surrogate']}"]
    command += ["--image_size=16", "--accelerator=cpu", "--cache=two", "--output=two.safetensors"]
    forked.run_ranks(2, command, Path.cwd())
    assert Path("two.safetensors").read_bytes() == Path("one.safetensors").read_bytes()


def test_a_foundation_model_embeds_as_it_expects_images(source, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False, num_classes=4).eval()
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 32, 32], "interpolation": "bicubic"}
    half |= {"crop_pct": 1.0, "crop_mode": "center", "num_classes": 4}
    config = {"architecture": "resnet18", "num_classes": 4, "pretrained_cfg": half}
    (folder / "config.json").write_text(json.dumps(config))
    found = open_features(embed(source, surrogate=f"timm:local-dir:{folder}", output="s.npz"))
    assert found.width == 512
    seen = {"view": "EvalView", "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    assert found.transform_config == seen | {"crop_share": 1.0}


def test_the_command_says_what_it_wrote_and_select_takes_it(source, pets, options, capsys):
    given = [f"--surrogate={options['surrogate']}", "--image_size=16", "--accelerator=cpu"]
    assert main(["embed", f"--source={source}", *given, "--output=a.safetensors"]) == 0
    assert "a.safetensors: 40 images of" in (said := capsys.readouterr().out)
    assert "32 features each, 5 classes" in said
    assert "select with --source features:a.safetensors" in said
    assert main(["embed", f"--target={pets}", *given, "--output=b.npy"]) == 0
    assert "b.npy: 9 training images of" in capsys.readouterr().out
    select_from = ["select", "--source=features:a.safetensors", "--target=features:b.npy", "--accelerator=cpu"]
    assert main([*select_from, "--selector=NearestImages", "--output=s.safetensors"]) == 0
    said = capsys.readouterr().out
    assert f"source     {source}, digest" in said
    assert f"features   features:{Path('a.safetensors').absolute()}, features:{Path('b.npy').absolute()}" in said
    assert Selection.load("s.safetensors").num_units == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--output=a.npy", "give --source or --target, got neither"),
        ("--source=src --target=digits --output=a.npy", "not both"),
        ("--source=src --output=a.txt", "cannot write a.txt: features are written to .npy, .npz"),
        ("--source=none --output=a.npy", "source none: no such folder"),
        ("--source=features:a.npy --output=b.npy", "features:a.npy: these are features already"),
        ("--target=digits --on_bad_image=skip --output=a.npy", "`on_bad_image` is for sources"),
        ("--source=src --output=a.npy --num_workers=-1", "`num_workers` must be at least 0"),
    ],
)
def test_wrong_commands_end_in_a_line_and_write_nothing(arguments, message, source, options, capsys):
    before = sorted(os.listdir())
    command = ["embed", f"--surrogate={options['surrogate']}", "--accelerator=cpu", *arguments.split()]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert sorted(os.listdir()) == before
