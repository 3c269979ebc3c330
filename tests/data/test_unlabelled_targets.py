"""A folder of images without labels is a target: all of its images vote, and what needs labels refuses it."""

import csv
import json
from pathlib import Path

import pytest
import torch

import tlprune
from tlprune import DownstreamDataModule, InputError, LabelMapping, PrunedSourceDataModule, select
from tlprune.callbacks.knn_probe import KNNProbe
from tlprune.cli import main
from tlprune.data.target_splits import absolute_target, check_target, open_target
from tlprune.models.weights import load_classifier
from tlprune.selection.selection import Selection


@pytest.fixture
def source(class_folder):
    return str(class_folder("src", {"ant": 4, "bee": 4, "cat": 4}))


@pytest.fixture
def surrogate(surrogate_file):
    return str(surrogate_file(["ant", "bee", "cat"]))


@pytest.mark.parametrize("counts", [{".": 7}, {"2021/may": 3, "2022/june/trip": 4}, {"train": 7}])
def test_a_folder_without_class_folders_has_no_labels(class_folder, counts):
    root = class_folder("heap", {folder: count for folder, count in counts.items() if folder != "."})
    if "." in counts:
        root = class_folder("other", {"heap": 7}) / "heap"
    target = open_target(str(root))
    assert (len(target.train), len(target.val), target.test, target.classes) == (7, 0, None, ())
    assert target.name == "heap"


def test_parts_without_class_folders_keep_their_images_apart(class_folder):
    target = open_target(str(class_folder("heap", {"train": 4, "val": 2, "test": 3})))
    assert (len(target.train), len(target.val), len(target.test), target.classes) == (4, 2, 3, ())
    assert target.split == "folders train, val, test, no class folders"


def test_the_prefix_takes_every_image(class_folder, monkeypatch, tmp_path):
    class_folder("albums", {"may": 3, "june/train": 2})
    monkeypatch.chdir(tmp_path)
    assert len(open_target("unlabelled:albums").train) == 5
    assert absolute_target("unlabelled:albums") == f"unlabelled:{tmp_path}/albums"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("albums", "got june, may; if its images have no labels, give unlabelled:albums$"),
        ("almost", "no folder 'train' in it .*; got test, training$"),
        ("empty", "no folder 'train' in it .*or images without folders.*; got none, and no image .*jpg"),
        ("unlabelled:", "which folder"),
        ("unlabelled:nowhere", "target unlabelled:nowhere: no such folder"),
        ("unlabelled:empty", "no images in it, nor in folders in it"),
    ],
)
def test_what_may_have_labels_is_refused(class_folder, monkeypatch, tmp_path, target, message):
    class_folder("albums", {"may": 1, "june": 1})
    class_folder("almost", {"training/cat": 1, "test/cat": 1})
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        check_target(target)
        open_target(target)


def test_every_image_votes_as_the_surrogate_sees_it(class_folder, source, surrogate):
    heap = class_folder("photos", {"2021/may": 5, "2022/june": 6})
    found = select(source, str(heap), surrogate=surrogate, image_size=32)
    images = open_target(str(heap)).train
    pixels = torch.stack([images[index][0] for index in range(11)]).float() / 255
    mean, std = (torch.tensor(rgb)[:, None, None] for rgb in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        logits = load_classifier(surrogate)[0].eval()((pixels - mean) / std)
    assert found.assignments.tolist() == logits.argmax(1).tolist()


@pytest.mark.parametrize("selector", ["FeatureMapping", "NearestImages", "ImportanceResampling"])
def test_every_selector_with_a_target_takes_it(class_folder, source, surrogate, selector):
    heap = class_folder("photos", {"2021/may": 5})
    chosen = tlprune.FeatureMapping(num_clusters=3) if selector == "FeatureMapping" else selector
    found = select(source, str(heap), surrogate=surrogate, selector=chosen, image_size=32)
    assert [one["images"] for one in found.config["targets"]] == [5]
    assert sorted(found.ranking.tolist()) == list(range(3 if selector == "FeatureMapping" else 12))


def test_a_datamodule_selects_with_it(class_folder, source, surrogate):
    heap = str(class_folder("photos", {"2021/may": 5}))
    options = {"surrogate": surrogate, "keep_units": 1, "image_size": 32, "val_share": 0.0}
    data = PrunedSourceDataModule(source, heap, **options)
    data.setup()
    assert len(data.selection.assignments) == 5


@pytest.mark.parametrize(
    "balanced", [LabelMapping(balance=True), tlprune.ImportanceResampling(LabelMapping(balance=True))]
)
def test_balance_needs_labels(class_folder, source, surrogate, balanced):
    heap = str(class_folder("photos", {"2021/may": 5}))
    with pytest.raises(InputError, match="`balance: true` .* the target has no labels"):
        select(source, heap, surrogate=surrogate, selector=balanced, image_size=32)


def test_transfers_need_labels(class_folder):
    heap = str(class_folder("photos", {"2021/may": 5}))
    with pytest.raises(InputError, match="DownstreamDataModule needs labels, and its 5 images have none"):
        DownstreamDataModule(heap).check_inputs()
    with pytest.raises(InputError, match="KNNProbe needs labels"):
        KNNProbe(heap).setup(None, None, "fit")


def test_commands_name_images_in_place_of_classes(class_folder, source, surrogate, tmp_path, capsys):
    heap = class_folder("photos", {"2021/may": 5})
    made, listed = str(tmp_path / "made.safetensors"), tmp_path / "listed.csv"
    given = ["--source", source, "--target", str(heap), "--surrogate", surrogate, "--image_size", "32"]
    assert main(["select", *given, "--output", made]) == 0
    best = Selection.load(made)
    unit = best.name(int(best.ranking[0]))
    capsys.readouterr()
    assert main(["explain", made, "--unit", unit, "--output", str(tmp_path / "why.png")]) == 0
    said = capsys.readouterr().out
    assert f"{int(best.votes.max())} images of photos, without labels: 2021/may/00" in said
    assert main(["audit", made, "--output", str(listed)]) == 0
    assert "of 5 images without labels lie within" in capsys.readouterr().out
    rows = list(csv.DictReader(listed.read_text().splitlines()))
    # images that the source and the target of this test have in common
    same = {(row["test image"], row["kept source image"]) for row in rows if row["look alike"] == "yes"}
    assert ("2021/may/000.png", "ant/000.png") in same
    assert main(["report", made, "--output", str(tmp_path / "page")]) == 0
    assert "Votes are not split by the classes of photos: its images have no labels." in capsys.readouterr().out


def test_sweeps_need_labels(class_folder, source, tmp_path, capsys):
    heap, configs = str(class_folder("photos", {"2021/may": 5})), Path(__file__).parents[2] / "configs"
    plan = {"source": source, "targets": [heap], "methods": {"random": "RandomSelector"}, "ratios": [0.5]}
    plan |= {"pretrain": str(configs / "source/drawn_pruned.yaml"), "output": str(tmp_path / "run")}
    plan |= {"transfers": {"probe": {"solver": "lbfgs"}}}
    (tmp_path / "sweep.yaml").write_text(json.dumps(plan))
    assert main(["sweep", "--config", str(tmp_path / "sweep.yaml")]) == 2
    assert "target photos: a sweep needs labels, and its 5 images have none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
