"""apply(): images of another source, kept by the units of a Selection."""

import csv
import io
import json
import shutil
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tlprune
from forked import run_ranks
from shards import picture, samples, write_tar
from tlprune import InputError, Selection, apply, select
from tlprune.data import blocks
from tlprune.data.datasets import TensorImages
from tlprune.models.weights import load_backbone, load_classifier, read_weights

NAMES = ["ant", "bee", "cat", "dog"]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A source and a target of plain colours, in class folders."""
    root = tmp_path_factory.mktemp("colours")
    for label, name in enumerate(NAMES):
        (root / "src" / name).mkdir(parents=True)
        for number in range(25):
            (root / "src" / name / f"{number:02}.png").write_bytes(picture(label, number))
    for part, first in (("train", 100), ("test", 200)):
        for label in (1, 2):
            (root / "target" / part / NAMES[label]).mkdir(parents=True)
            for number in range(first, first + 6):
                (root / "target" / part / NAMES[label] / f"{number}.png").write_bytes(picture(label, number))
    return root


@pytest.fixture
def made(folder, surrogate_file, tmp_path):
    """A Selection of the source by name of the selector, saved to a file."""

    def make(selector, names=None):
        surrogate = str(surrogate_file(names or NAMES))
        how = {"surrogate": surrogate, "image_size": 32, "device": "cpu", "selector": selector}
        return select(str(folder / "src"), str(folder / "target"), output=tmp_path / "s.safetensors", **how)

    return make


@pytest.fixture
def clusters(made):
    return made(tlprune.FeatureMapping(num_clusters=5))


@pytest.fixture
def classes(made):
    return made(tlprune.LabelMapping())


def rows_of(count, first=0):
    rng = np.random.default_rng(first)
    return [(int(rng.integers(0, 4)), 1000 + first + number) for number in range(count)]


def shards_of(folder, each=20, count=3, names=NAMES):
    for number in range(count):
        write_tar(folder / f"s-{number}.tar", samples(rows_of(each, number * each), names))
    return f"webdataset:{folder}/*.tar"


def listed(applied):
    """Rows of all lists, in the order of their names."""
    found = []
    for path in applied.lists:
        with path.open(newline="") as file:
            found += csv.DictReader(file)
    return found


def outputs(rows, surrogate, head):
    """What the surrogate gives for pictures, computed by the plain network."""
    saved = read_weights(surrogate)
    network = load_classifier(saved)[0].eval() if head else load_backbone(saved).eval()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = np.stack([np.array(Image.open(io.BytesIO(picture(*row)))) for row in rows]) / 255
    with torch.inference_mode():
        return network(torch.tensor((pixels - mean) / std).permute(0, 3, 1, 2).float())


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_nearest_centroids_equal_brute_force(clusters, tmp_path):
    source = shards_of(tmp_path / "in", names=None)
    applied = apply(clusters, source, tmp_path / "out", units=2, device="cpu")
    rows = [row for number in range(3) for row in rows_of(20, 20 * number)]
    features = outputs(rows, clusters.metadata["surrogates"][0], head=False).double().numpy()
    distances = np.array(
        [[np.sqrt(((row - centre) ** 2).sum()) for centre in clusters.centroids.double().numpy()] for row in features]
    )
    kept = set(clusters.ranking[:2].tolist())
    expected = [
        (f"{label}-{number}", f"cluster {unit}")
        for (label, number), unit in zip(rows, distances.argmin(1), strict=True)
        if unit in kept
    ]
    found = listed(applied)
    assert [(row["key"], row["unit"]) for row in found] == expected
    nearest = [distance for distance, unit in zip(distances.min(1), distances.argmin(1), strict=True) if unit in kept]
    assert [float(row["distance"]) for row in found] == pytest.approx(nearest, abs=5e-3)
    assert (applied.kept, applied.images, applied.by, applied.blocks) == (len(expected), 60, "centroids", 3)
    assert Counter(row["unit"] for row in found) == {name: n for name, n in applied.kept_units.items() if n}


def test_predictions_equal_the_plain_network(classes, tmp_path):
    source = shards_of(tmp_path / "in", names=None)
    applied = apply(classes, source, tmp_path / "out", units=2, device="cpu")
    rows = [row for number in range(3) for row in rows_of(20, 20 * number)]
    probabilities = outputs(rows, classes.metadata["surrogates"][0], head=True).softmax(1).numpy()
    kept = set(classes.ranking[:2].tolist())
    expected = [
        f"{label}-{number}" for (label, number), unit in zip(rows, probabilities.argmax(1), strict=True) if unit in kept
    ]
    found = listed(applied)
    assert applied.by == "prediction"
    assert [row["key"] for row in found] == expected
    best = [row.max() for row in probabilities if row.argmax() in kept]
    assert [float(row["probability"]) for row in found] == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("selector", [tlprune.FeatureMapping(num_clusters=5), tlprune.LabelMapping()])
def test_the_same_source_is_kept_as_the_selection_keeps_it(made, folder, tmp_path, selector, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 64)
    selection = made(selector)
    images = tlprune.data.sources.open_source(str(folder / "src"))[0]
    expected = [str(folder / "src" / images.paths[index]) for index in selection.keep(units=2).tolist()]
    applied = apply(selection, str(folder / "src"), tmp_path / "out", units=2, device="cpu")
    assert [row["path"] for row in listed(applied)] == expected
    assert applied.blocks == 2
    again, _ = tlprune.data.sources.open_source(str(applied.lists[0]))  # a list is a source
    assert [str(again.root / path) for path in again.paths] == expected[: len(again)]


def test_labels_are_compared_by_name_and_decode_nothing(classes, tmp_path):
    members = [
        ("a.png", b"no image"),
        ("a.cls", b"bee"),
        ("b.png", b""),
        ("b.cls", b"wasp"),
        ("c.png", b"x"),
        ("c.cls", b"bee"),
    ]
    write_tar(tmp_path / "s-0.tar", members)
    write_tar(tmp_path / "s-1.tar", [("d.png", b"x"), ("d.cls", b"hornet")])
    best = classes.unit_names[int(classes.ranking[0])]
    classes = replace(classes, ranking=torch.tensor([1, 2, 0, 3]))
    applied = apply(classes, f"webdataset:{tmp_path}", tmp_path / "out", units=2)
    assert listed(applied) == [{"key": key, "unit": "bee", "label": "bee"} for key in ("a", "c")]
    assert applied.unknown == {"wasp": 1, "hornet": 1}
    assert (applied.kept_units, applied.absent) == ({"bee": 2, "cat": 0}, ["cat"])
    assert best in NAMES


def test_numbers_are_classes_by_a_list_of_names(classes, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("dog\nbee\nwasp\n")
    write_tar(tmp_path / "s.tar", samples([(0, 1), (1, 1), (2, 1), (1, 2)], ["0", "1", "2"]))
    source = f"webdataset:{tmp_path}/s.tar"
    classes = replace(classes, ranking=torch.tensor([1, 2, 0, 3]))
    applied = apply(classes, source, tmp_path / "out", units=1, class_names=str(names))
    assert [(row["key"], row["label"]) for row in listed(applied)] == [("1-1", "bee"), ("1-2", "bee")]
    assert applied.unknown == {"wasp": 1}
    with pytest.raises(
        InputError, match=r"the source has '0', '1', '2' \(3 in all\), the selection 'ant', 'bee', 'cat'"
    ):
        apply(classes, source, tmp_path / "other", units=1)
    names.write_text("dog\nbee\n")
    with pytest.raises(InputError, match=r"label '2' of s.tar/0-1 is not from 0 to 1 \(`class_names`\)"):
        apply(classes, source, tmp_path / "other", units=1, class_names=str(names))
    assert not (tmp_path / "other").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_new_tars_are_read_by_webdataset(classes, tmp_path):
    import webdataset

    source = shards_of(tmp_path / "in")
    applied = apply(classes, source, tmp_path / "out", units=2, write="shards")
    tars = sorted(str(path) for path in (tmp_path / "out" / "shards").iterdir())
    assert [Path(path).name for path in tars] == ["s-0.tar", "s-1.tar", "s-2.tar"]
    kept = {classes.unit_names[unit] for unit in classes.ranking[:2].tolist()}
    read = [
        (one["__key__"], one["png"], one["cls"].decode()) for one in webdataset.WebDataset(tars, shardshuffle=False)
    ]
    rows = [row for number in range(3) for row in rows_of(20, 20 * number) if NAMES[row[0]] in kept]
    assert read == [(f"{label}-{number}", picture(label, number), NAMES[label]) for label, number in rows]
    assert len(read) == applied.kept
    again, _ = tlprune.data.sources.open_source(f"webdataset:{tmp_path}/out/shards")
    assert set(again.classes) == kept


def test_new_parquet_files_are_read_by_datasets(classes, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES[::-1])})
    rows = rows_of(30)
    table = {"image": [{"bytes": picture(*row), "path": None} for row in rows], "label": [3 - row[0] for row in rows]}
    (tmp_path / "in").mkdir()
    datasets.Dataset.from_dict(table, features=kinds).to_parquet(tmp_path / "in" / "s.parquet", batch_size=8)
    applied = apply(classes, f"parquet:{tmp_path}/in", tmp_path / "out", units=2, write="shards")
    kept = set(classes.ranking[:2].tolist())
    expected = [number for number, row in enumerate(rows) if row[0] in kept]
    assert [int(row["row"]) for row in listed(applied)] == expected
    again = datasets.load_dataset("parquet", data_files=str(tmp_path / "out" / "shards" / "s.parquet"), split="train")
    assert again.features == kinds
    assert again["label"][:] == [3 - rows[number][0] for number in expected]
    assert np.array_equal(np.array(again[0]["image"]), np.array(Image.open(io.BytesIO(picture(*rows[expected[0]])))))


def test_any_number_of_processes_writes_the_same_bytes(clusters, tmp_path):
    source = shards_of(tmp_path / "in", each=70, count=4)
    for name, workers in (("one", 0), ("workers", 2)):
        apply(clusters, source, tmp_path / name, units=2, write="shards", num_workers=workers, device="cpu")
    script = [sys.executable, HERE / "apply_on_ranks.py", 3, 0]
    said = run_ranks(3, [*script, tmp_path / "s.safetensors", source, tmp_path / "three"], tmp_path)
    assert len(set(said)) == 1, said
    assert " of 280>" in said[0]
    one = contents(tmp_path / "one")
    assert len([name for name in one if name.startswith("shards/")]) > 1
    assert contents(tmp_path / "three") == contents(tmp_path / "workers") == one


def test_a_call_that_was_stopped_goes_on(clusters, tmp_path, monkeypatch):
    source = shards_of(tmp_path / "in", count=5)
    whole = tmp_path / "whole"
    apply(clusters, source, whole, units=2, write="shards", device="cpu")
    opened = []
    real = blocks.ShardBlocks.open

    def stopping(self, number):
        opened.append(number)
        if len(opened) == 6:  # three are looked at beforehand
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(blocks.ShardBlocks, "open", stopping)
    with pytest.raises(KeyboardInterrupt):
        apply(clusters, source, tmp_path / "out", units=2, write="shards", device="cpu")
    assert not (tmp_path / "out" / "applied.json").exists()
    assert opened[3:] == [0, 1, 2]
    opened[:] = range(10, 20)
    apply(clusters, source, tmp_path / "out", units=2, write="shards", device="cpu")
    assert opened[13:] == [2, 3, 4]
    assert contents(tmp_path / "out") == contents(whole)
    del opened[3:]
    write_tar(tmp_path / "in" / "s-5.tar", samples(rows_of(20, 500), NAMES))  # a new shard, and one that changed
    write_tar(tmp_path / "in" / "s-1.tar", samples(rows_of(22, 300), NAMES))
    opened[:] = range(10, 20)
    applied = apply(clusters, source, tmp_path / "out", units=2, write="shards", device="cpu")
    assert opened[13:] == [1, 5]
    assert (applied.blocks, applied.images) == (6, 122)


def test_images_that_cannot_be_decoded(clusters, tmp_path):
    members = samples(rows_of(150), None)
    members[7] = (members[7][0], b"no image")
    write_tar(tmp_path / "s.tar", members)
    source, name = f"webdataset:{tmp_path}/s.tar", members[7][0].removesuffix(".png")
    with pytest.raises(InputError, match=f"s.tar/{name}: not an image that can be read"):
        apply(clusters, source, tmp_path / "out", units=5, device="cpu")
    applied = apply(clusters, source, tmp_path / "out", units=5, device="cpu", on_bad_image="skip")
    assert (applied.kept, applied.images) == (149, 150)
    assert (applied.damaged.count, applied.damaged.first) == (1, f"s.tar/{name}")
    assert name not in [row["key"] for row in listed(applied)]
    write_tar(tmp_path / "s.tar", [*members, *((f"x{number}.png", b"") for number in range(9))])
    with pytest.raises(InputError, match=r"10 of 159 images cannot be decoded, more than 1%; first s.tar/"):
        apply(clusters, source, tmp_path / "other", units=5, device="cpu", on_bad_image="skip")
    assert not (tmp_path / "other" / "applied.json").exists()


def test_features_in_place_of_images(clusters, folder, tmp_path):
    kept = apply(clusters, str(folder / "src"), tmp_path / "images", units=2, device="cpu")
    surrogate = clusters.metadata["surrogates"][0]
    how = {"surrogate": surrogate, "image_size": 32, "device": "cpu"}
    features = tlprune.embed(str(folder / "src"), output=tmp_path / "f.safetensors", **how)
    applied = apply(clusters, features, tmp_path / "out", units=2)
    assert [row["unit"] for row in listed(applied)] == [row["unit"] for row in listed(kept)]
    narrow = tlprune.FeatureSet(np.ones((4, 3), np.float32), where="mine")
    with pytest.raises(InputError, match=r"features differ in width: mine has 3, the centroids of the selection \d+"):
        apply(clusters, narrow, tmp_path / "narrow", units=2)
    with pytest.raises(InputError, match="features already, so `surrogate` .* has no use"):
        apply(clusters, features, tmp_path / "narrow", units=2, surrogate=surrogate)


def test_a_selection_from_features_is_applied_to_images_of_the_same_surrogate(made, folder, surrogate_file, tmp_path):
    surrogate = str(surrogate_file(NAMES))
    how = {"surrogate": surrogate, "image_size": 32, "device": "cpu"}
    source = tlprune.embed(str(folder / "src"), output=tmp_path / "source.safetensors", **how)
    target = tlprune.embed(target=str(folder / "target"), output=tmp_path / "target.safetensors", **how)
    selection = select(source, target, selector=tlprune.FeatureMapping(num_clusters=5))
    by_images = made(tlprune.FeatureMapping(num_clusters=5))
    assert torch.equal(selection.centroids, by_images.centroids)
    tars = shards_of(tmp_path / "in")
    found = [
        listed(apply(one, tars, tmp_path / name, units=2, device="cpu"))
        for name, one in (("a", selection), ("b", by_images))
    ]
    assert found[0] == found[1] != []


@pytest.mark.parametrize("of", ["clusters", "classes"])
def test_a_surrogate_of_another_fingerprint_is_refused(request, of, surrogate_file, tmp_path):
    selection = request.getfixturevalue(of)
    source = shards_of(tmp_path / "in", names=None)
    other = surrogate_file(NAMES, "other.safetensors")
    saved = read_weights(other)
    network, _ = load_classifier(saved)
    with torch.no_grad():
        next(network.backbone.parameters()).add_(1)
    said = r"is not that of the selection: its weights have the fingerprint \w{12}, the selection names \w{12}$"
    with pytest.raises(InputError, match=f"surrogate Classifier {said}"):
        apply(selection, source, tmp_path / "out", units=2, surrogate=network)
    moved = Path(selection.metadata["surrogates"][0])
    shutil.move(moved, tmp_path / "moved.safetensors")
    with pytest.raises(InputError, match="no such file; say with `surrogate` where it is now"):
        apply(selection, source, tmp_path / "out", units=2)
    assert not (tmp_path / "out").exists()
    assert apply(selection, source, tmp_path / "out", units=2, surrogate=tmp_path / "moved.safetensors").images == 60


def test_a_head_without_classes_of_the_selection_is_refused(surrogate_file, folder, tmp_path):
    selection = select(str(folder / "src"), selector=tlprune.RandomSelector(seed=1))
    source = shards_of(tmp_path / "in", names=None)
    few = surrogate_file(["ant", "bee", "wasp"], "few.safetensors")
    said = r"its head has 3 classes, such as 'ant'; 2 of the 4 of the selection are not among them, first 'cat'"
    with pytest.raises(InputError, match=said):
        apply(selection, source, tmp_path / "out", units=2, surrogate=few)
    with pytest.raises(InputError, match="its head has 3 outputs, the selection has 4 classes"):
        apply(selection, source, tmp_path / "out", units=2, surrogate=surrogate_file(3, "nameless.safetensors"))
    with pytest.raises(InputError, match="names 0 surrogates, and one is needed: give `surrogate`"):
        apply(selection, source, tmp_path / "out", units=2)
    assert not (tmp_path / "out").exists()
    other = surrogate_file(
        ["wasp", *NAMES[::-1]], "more.safetensors", tlprune.Preprocessing(image_size=32)
    )  # more classes, in another order
    applied = apply(selection, source, tmp_path / "out", units=4, surrogate=other, device="cpu")
    predicted = outputs(rows_of(20), other, head=True).argmax(1).tolist()
    first = [row["unit"] for row in listed(applied) if int(row["key"].partition("-")[2]) < 1020]
    assert first == [["wasp", *NAMES[::-1]][output] for output in predicted if output]


def test_what_cannot_be_applied_is_refused_by_name(made, clusters, classes, tmp_path):
    source = shards_of(tmp_path / "in")
    refused = {
        "ranks single images, which no other source has; make one by": (made("NearestImages"), {}),
        "holds no centroids: made by an older tlprune": (replace(clusters, centroids=torch.empty(0, 0)), {}),
        "ranks clusters, and `by` 'labels' needs classes": (clusters, {"by": "labels"}),
        "`by` 'label': did you mean 'labels'": (classes, {"by": "label"}),
        "`write` 'tars': did you mean 'shards'": (classes, {"write": "tars"}),
        "`class_names` is for labels of the source, and units are found by prediction": (
            classes,
            {"by": "prediction", "class_names": "imagenet1k"},
        ),
    }
    for said, (selection, options) in refused.items():
        with pytest.raises(InputError, match=said):
            apply(selection, source, tmp_path / "out", units=2, **options)
    pixels = TensorImages(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), NAMES[:2])
    with pytest.raises(InputError, match="`write` 'shards' needs a source in shards"):
        apply(classes, pixels, tmp_path / "out", units=2, write="shards")
    with pytest.raises(InputError, match="`units` is 9, the source has 5 units"):
        apply(clusters, source, tmp_path / "out", units=9)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_or_of_other_settings_is_left_alone(clusters, classes, tmp_path):
    source = shards_of(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="out: a folder with files of others; give a new one"):
        apply(classes, source, tmp_path / "out", units=2)
    (tmp_path / "out" / "mine.txt").unlink()
    apply(classes, source, tmp_path / "out", units=2)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="written with budget `units` 2, and now `units` 1; give a new folder"):
        apply(classes, source, tmp_path / "out", units=1)
    with pytest.raises(InputError, match=r"written with selection \w{12}"):
        apply(clusters, source, tmp_path / "out", units=2)
    assert contents(tmp_path / "out") == before
    assert set(apply(classes, source, tmp_path / "out", units=1, fresh=True).kept_units) < set(NAMES)
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["budget"] == "`units` 1"


def test_memory_does_not_grow_with_the_number_of_shards(classes, tmp_path):
    """Of further shards no more is held than their paths."""
    shard = write_tar(
        tmp_path / "first.tar", [(f"{number}.{end}", b"bee") for number in range(150) for end in ("png", "cls")]
    )
    most = {}
    for count in (8, 8, 32):  # the first call imports
        (tmp_path / str(count)).mkdir(exist_ok=True)
        for number in range(count):
            if not (path := tmp_path / str(count) / f"{number:03}.tar").exists():
                shutil.copy(shard, path)
        tracemalloc.start()
        apply(classes, f"webdataset:{tmp_path}/{count}", tmp_path / f"out {count}", units=4, fresh=True)
        most[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most[32] < 1.5 * most[8]  # what is held of every image would take four times as much


def test_selections_hold_centroids_beside_the_order(clusters, classes, tmp_path):
    clusters.save(tmp_path / "c.safetensors")
    again = Selection.load(tmp_path / "c.safetensors")
    assert torch.equal(again.centroids, clusters.centroids)
    assert again.centroids.shape[0] == clusters.num_units
    without = replace(clusters, centroids=torch.empty(0, 0))
    without.save(tmp_path / "old.safetensors")
    assert Selection.load(tmp_path / "old.safetensors").digest == clusters.digest  # it is that of the order
    with pytest.raises(InputError, match="`centroids` of a selection of 5 units has 2 rows"):
        replace(clusters, centroids=torch.zeros(2, 3))
    with pytest.raises(InputError, match="centroids of a selection must be finite"):
        replace(clusters, centroids=torch.full((5, 3), torch.nan))
    assert len(classes.centroids) == 0
