"""``tlprune apply``, as a user runs it."""

import csv
import io

import pytest
import torch

from shards import samples, write_parquet, write_tar
from tlprune.cli import main
from tlprune.models.weights import load_classifier, read_weights, save_classifier

NAMES = ["ant", "bee", "cat"]
ROWS = [(label, number) for number in range(6) for label in range(3)]


@pytest.fixture
def selection(class_folder, surrogate_file, tmp_path, monkeypatch, capsys):
    """A Selection of clusters, or of classes, made by the command; the working folder has shards."""
    monkeypatch.chdir(tmp_path)
    class_folder("src", dict.fromkeys(NAMES, 10))
    class_folder("pets/train", {"x": 4, "y": 4})
    class_folder("pets/test", {"x": 1, "y": 1})
    surrogate_file(NAMES)
    for number in range(2):
        write_tar(tmp_path / "tars" / f"s-{number}.tar", samples(ROWS[9 * number : 9 * number + 9], NAMES))
        write_tar(tmp_path / "bare" / f"s-{number}.tar", samples(ROWS[9 * number : 9 * number + 9]))

    def make(*options):
        arguments = ["select", "--source=src", "--target=pets", "--surrogate=surrogate.safetensors", "--image_size=32"]
        assert main([*arguments, "--accelerator=cpu", "--output=s.safetensors", *options]) == 0
        capsys.readouterr()
        return "s.safetensors"

    return make


def clustered(selection):
    return selection("--selector=FeatureMapping", "--selector.num_clusters=4")


def run(capsys, *arguments):
    status = main(["apply", *arguments, "--accelerator=cpu"])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_clusters_of_tars(selection, capsys, tmp_path):
    status, said = run(
        capsys, clustered(selection), "--source=webdataset:bare/s-{0..1}.tar", "--output=out", "--keep_units=2"
    )
    assert status == 0, said
    rows = [
        row
        for path in sorted((tmp_path / "out" / "lists").iterdir())
        for row in csv.DictReader(io.StringIO(path.read_text()))
    ]
    assert f"out: lists of the {len(rows)} images KEPT of 18 in 2 shards" in said
    assert "2 clusters kept of 4, found by centroids: cluster " in said
    assert {"key", "unit", "distance"} == set(rows[0])


def test_new_shards_are_named_as_a_source(selection, capsys, tmp_path):
    status, said = run(
        capsys, selection(), "--source=webdataset:tars", "--output=out", "--keep_units=1", "--write=shards"
    )
    assert status == 0, said
    assert "1 class kept of 3, found by labels: " in said
    assert "6 images KEPT of 18 in 2 shards" in said
    source = next(line for line in said.splitlines() if line.startswith("train on")).split()[-1]
    status = main(["select", f"--source={source}", "--selector=RandomSelector", "--output=r.safetensors"])
    assert status == 0
    assert "1 class, 6 source images" in capsys.readouterr().out


def test_classes_that_only_one_side_has_are_said(selection, capsys, tmp_path):
    pytest.importorskip("pyarrow")
    write_parquet(tmp_path / "other.parquet", [(0, 1), (1, 1), (2, 1)], ["bee", "wasp", "wasp"])
    status, said = run(capsys, selection(), "--source=parquet:other.parquet", "--output=out", "--prune_ratio=0")
    assert status == 0, said
    assert "1 images KEPT of 3 in 1 shards" in said
    assert "absent     2 of these without an image here, first " in said
    assert "unknown    2 images of 1 classes that the selection does not have: wasp 2" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source=webdataset:none.tar", "--keep_units=1"], "no such file (shard 1 of 1)"),
        (
            ["--source=webdataset:text.tar", "--keep_units=1"],
            "text.tar: a shard without images; it has txt, and images",
        ),
        (
            ["--source=webdataset:bare", "--keep_units=1", "--surrogate=other.safetensors"],
            "is not that of the selection",
        ),
        (["--source=webdataset:bare", "--keep_units=9"], "`keep_units` is 9, the source has 4 units"),
        (["--source=webdataset:bare", "--keep_exactly=9"], "give another budget than --keep_exactly"),
        (["--source=webdataset:bare"], "say how much is kept: one of --prune_ratio"),
        (
            ["--source=webdataset:bare", "--keep_units=1", "--by=labels"],
            "ranks clusters, and `by` 'labels' needs classes",
        ),
        (["--source=bare", "--keep_units=1", "--write=shards"], "bare: "),
        (["--source=src", "--keep_units=1", "--write=shards"], "`write` 'shards' needs a source in shards"),
        (["--source=classes:names.txt", "--keep_units=1"], "has class names and no images"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(selection, capsys, tmp_path, arguments, said):
    clustered(selection)
    write_tar(tmp_path / "text.tar", [("a.txt", b"x")])
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    network, _ = load_classifier(read_weights("surrogate.safetensors"))
    with torch.no_grad():
        next(network.backbone.parameters()).add_(1)
    save_classifier("other.safetensors", "resnet8_w8", network.backbone, network.head, NAMES)
    status, told = run(capsys, "s.safetensors", "--output=out", *arguments)
    assert status == 2
    assert told.startswith("tlprune: error: ")
    assert told.count("\n") == 1
    assert said in told
    assert not (tmp_path / "out").exists()


def test_other_commands_read_a_selection_with_centroids(selection, capsys, tmp_path):
    path = clustered(selection)
    for arguments in (
        ["show", path, "--keep_units=2"],
        ["explain", path, "--unit=cluster 0", "--keep_units=2"],
        ["diff", path, path, "--keep_units=2"],
        ["export", path, "--format=paths", "--output=kept.txt", "--keep_units=2"],
    ):
        assert main(arguments) == 0, arguments


def test_keys_of_a_webdataset_source_are_exported(selection, surrogate_file, capsys, tmp_path):
    surrogate_file(["ant", "bee", "cat"])
    arguments = ["--source=webdataset:tars", "--target=pets", "--surrogate=surrogate.safetensors", "--image_size=32"]
    assert main(["select", *arguments, "--accelerator=cpu", "--output=w.safetensors"]) == 0
    export = ["export", "w.safetensors", "--format=webdataset", "--keep_units=1", "--output=keys.txt"]
    assert main(export) == 0, capsys.readouterr().err
    keys = (tmp_path / "keys.txt").read_text().splitlines()[1:]
    assert len(keys) == 6
    assert len({key.partition("-")[0] for key in keys}) == 1
