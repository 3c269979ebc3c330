"""Sweeps whose batches include images of the target, and methods that draw by weights in place of pruning."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tlprune import cli
from tlprune.experiments.page.conclusions import conclusion
from tlprune.experiments.page.findings import accuracy_rows, leader, winning_rows
from tlprune.experiments.page.rendering import render_page
from tlprune.experiments.results import Results
from tlprune.experiments.sweep_plan import methods_of

DRAWN = {"class_path": "ImportanceResampling", "init_args": {"of": {"class_path": "FeatureMapping"}}}
DRAWN["init_args"]["of"]["init_args"] = {"num_clusters": 3}
METHODS = {"drawn": {"selector": DRAWN, "sampling": "weighted"}, "random": "RandomSelector"}


def write_images(images, root):
    for index in range(len(images)):
        path = root / images.classes[int(images.labels[index])] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index][0].permute(1, 2, 0).numpy()).save(path)


@pytest.fixture
def place(tmp_path, coloured, monkeypatch):
    """A source of four colours, two targets, and configs of training without labels, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_images(coloured(4, 8), Path("source"))
    for part, seed in (("train", 1), ("val", 2), ("test", 3)):
        write_images(coloured(2, 3, seed), Path("target") / part)
        write_images(coloured(3, 3, seed), Path("other") / part)
    network = {"backbone": "resnet8_w8", "hidden_dim": 8, "output_dim": 8}

    def config(name, data=None, **options):
        given = {"image_size": 32, "augment": "simclr_small", "batch_size": 8, "in_memory": True, "val_share": 0}
        given |= {"include_target": 0.25} | options
        content = {
            "model": {"class_path": "LitSSL", "init_args": network},
            "data": {"class_path": "PrunedSourceDataModule", "init_args": given},
            "trainer": {"max_epochs": 1, "accelerator": "cpu", "logger": False, "limit_val_batches": 0},
        }
        content["trainer"]["enable_checkpointing"] = False
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))

    config("pretrain")
    config("surrogate")

    def write(**changes):
        sweep = {"source": "source", "targets": ["target", "other"], "surrogate": "surrogate.yaml"}
        sweep |= {"pretrain": "pretrain.yaml", "transfers": {"knn": {"num_neighbours": 3}}, "controls": False}
        sweep |= {"methods": METHODS, "seeds": 1, "ratios": [0.5], "output": "out", "workers": 1}
        Path("sweep.yaml").write_text(yaml.safe_dump(sweep | changes))
        return ["sweep", "--config", "sweep.yaml"]

    write.config = config
    return write


def stages(pattern):
    return sorted(Path("out/stages").glob(f"{pattern}/done.json"))


def options_of(stage):
    return yaml.safe_load((stage.parent / "fit.yaml").read_text())["data"]["init_args"]


def results_of(stage):
    return json.loads(stage.read_text())["content"]["result"]


@pytest.mark.slow
def test_every_arm_includes_its_own_target_and_weighted_methods_run_at_full_length(place, capsys):
    assert cli.main(place()) == 0
    said = capsys.readouterr().out
    found = Results.load(Path("out"))
    arms = [(cell.target, cell.method, cell.ratio) for cell in found.cells]
    expected = {(name, *arm) for name in ("target", "other") for arm in (("none", 0), ("drawn", 0), ("random", 0.5))}
    assert set(arms) == expected
    assert len(arms) == len(expected)
    # nothing is shared by targets, surrogates included
    assert len(stages("pretrain-*")) == 6
    assert len(stages("surrogate-*")) == 2
    for stage in stages("pretrain-*"):
        assert options_of(stage)["include_target"] == 0.25
    assert {options_of(stage)["target"] for stage in stages("pretrain-none-*")} == {"target", "other"}
    assert {options_of(stage)["target"] for stage in stages("surrogate-*")} == {"target", "other"}
    # images of the target are not counted, and a draw by weights has the images and the steps of no pruning
    by_method = {cell.method: cell for cell in found.cells if cell.target == "target"}
    assert [by_method[name].images_kept for name in ("none", "drawn", "random")] == [32, 32, 16]
    assert by_method["drawn"].selection is not None
    steps = {name: results_of(stages(f"pretrain-{name}-*")[0])["steps"] for name in ("none", "drawn", "random")}
    assert steps == {"none": 5, "drawn": 5, "random": 2}
    assert {options_of(stage).get("sampling") for stage in stages("pretrain-drawn-*")} == {"weighted"}
    # what the report says
    assert found.methods["drawn"].label == "importance resampling, weighted"
    assert [row for row in said.splitlines() if "weighted" in row and "nothing" in row and "steps" in row]
    assert [name for name, _ in winning_rows(found)] == ["random"]
    assert leader(found, "target", "knn") is None
    rows = {row.group.method: row for row in accuracy_rows(found, "target", "knn")}
    assert (rows["drawn"].images_kept, rows["drawn"].to_none is not None) == (32, True)
    assert "importance resampling, weighted, from the whole source in as many steps" in conclusion(found, "target")
    page = render_page(found, [], [], "a sweep")
    assert "Of each pretraining batch 25% are training images of the target, without labels, for every method" in page


@pytest.mark.slow
def test_without_it_no_pruning_is_trained_once_for_all_targets(place):
    for name in ("pretrain", "surrogate"):
        place.config(name, include_target=None)
    assert cli.main(place(equal=["steps"])) == 0
    assert len(stages("pretrain-none-*")) == 1
    assert len(stages("surrogate-*")) == 1
    assert len(stages("pretrain-drawn-*")) == 2
    cells = Results.load(Path("out")).cells
    assert {(cell.method, cell.ratio, cell.match_budget) for cell in cells} == {
        ("none", 0.0, "epochs"),
        ("drawn", 0.0, "epochs"),
        ("random", 0.5, "steps"),
    }


def test_a_dry_run_counts_what_is_trained_for_each_target(place, capsys):
    assert cli.main([*place(), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "6 cells left" in said
    assert not [row for row in said.splitlines() if row.startswith((" target", " other")) and "*" in row]
    for name in ("pretrain", "surrogate"):
        place.config(name, include_target=None)
    assert cli.main([*place(), "--dry-run"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len([row for row in rows if row.startswith(" other") and "*" in row]) == 2  # none and random


@pytest.mark.parametrize(
    ("pretrain", "surrogate", "sweep", "message"),
    [
        ({"augment": "shift"}, {}, {}, "pretrain.yaml: `include_target` needs an `augment` of two views"),
        ({"include_target": 2.0}, {}, {}, "pretrain.yaml: `include_target` must be in (0, 1), got 2.0"),
        ({}, {"include_target": 0.01}, {}, "surrogate.yaml: `include_target` is 0.01, which is 0 of the 8 images"),
        (
            {"selection": {"target_seed": 4}},
            {},
            {},
            "transfer 'knn' splits targets by seed 0, pretrain.yaml includes images by `selection.target_seed` 4",
        ),
        ({}, {}, {"methods": {"m": {"selector": "Moderate", "sampling": "weighted"}}}, "method 'm' has none"),
        ({}, {}, {"methods": {"m": {"selector": DRAWN, "sampling": "often"}}}, "'once' or 'weighted', got 'often'"),
        ({}, {}, {"match_images": "drawn"}, "`match_images` names no method that prunes, 'drawn'"),
    ],
)
def test_what_could_not_be_trained_is_refused_before_anything_is(place, capsys, pretrain, surrogate, sweep, message):
    place.config("pretrain", **pretrain)
    place.config("surrogate", **surrogate)
    assert cli.main(place(**sweep)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("out/stages").exists()


def test_labels_of_weighted_methods_say_so():
    methods = methods_of({"a": {"selector": DRAWN, "sampling": "weighted"}, "b": DRAWN}, controls=False)
    assert [one.label for one in methods.values()] == [
        "no pruning",
        "importance resampling, weighted",
        "importance resampling",
    ]
