"""The demo is a sweep: what it compares, how it counts its progress, that it goes on."""

import json
import time
from dataclasses import replace

import pytest
import yaml

from tlprune.cli import main
from tlprune.experiments.demo import images_left
from tlprune.experiments.demo_plan import demo_sweep
from tlprune.experiments.results import Cell, Group, Results, Score
from tlprune.experiments.sweep import begin


def config(sweep, part):
    """A recipe as it lies in the folder."""
    return yaml.safe_load((sweep.output / "recipes" / f"{part}.yaml").read_text())


def test_label_mapping_is_compared_at_three_ratios_and_once_at_equal_steps(tmp_path):
    sweep = demo_sweep("digits", "lm", False, None, tmp_path)
    groups = [(one.method, one.ratio, one.match_budget) for one in sweep.groups()]
    assert len(groups) == len(set(groups)) == 1 + 3 * 3 + 2
    assert [one for one in groups if one[2] == "steps"] == [("label_mapping", 0.7, "steps"), ("random", 0.7, "steps")]
    assert (sweep.seeds, sweep.match_images) == (4, None)
    assert sweep.methods["random"].selector["init_args"] == {"unit": "class"}
    assert sweep.methods["reverse"].selector["init_args"] == {"of": {"class_path": "LabelMapping"}}
    surrogate, pretrain = config(sweep, "surrogate"), config(sweep, "pretrain")
    assert (surrogate["model"]["init_args"]["backbone"], surrogate["trainer"]["max_epochs"]) == ("resnet8_w8", 6)
    assert (pretrain["model"]["init_args"]["backbone"], pretrain["trainer"]["max_epochs"]) == ("resnet8_w16", 12)
    assert pretrain["model"]["init_args"]["optimizer"]["init_args"]["nesterov"] is True
    probe, finetune = config(sweep, "probe"), config(sweep, "finetune")
    assert (probe["trainer"]["max_epochs"], finetune["trainer"]["max_epochs"]) == (50, 20)
    assert (probe["data"]["init_args"]["augment"], finetune["data"]["init_args"]["augment"]) == ("none", "shift")


def test_feature_mapping_uses_no_label_and_its_controls_keep_as_many_images(tmp_path):
    sweep = demo_sweep("photos", "fm", False, None, tmp_path)
    assert (sweep.seeds, sweep.match_images, sweep.ratios) == (3, "feature_mapping", (0.5, 0.65, 0.8))
    assert sweep.methods["random"].selector["init_args"] == {"unit": "sample"}
    assert list(sweep.transfers) == ["knn", "probe", "finetune"]
    assert sweep.transfers["knn"].as_json == {"num_neighbours": 20, "temperature": 0.1}
    for part in ("surrogate", "pretrain"):
        made = config(sweep, part)
        assert made["model"]["class_path"] == "LitSSL"
        assert made["data"]["init_args"]["val_share"] == 0
    assert {one.label for one in sweep.methods.values()} == {"no pruning", "FM", "random", "reverse"}


def test_quick_is_one_ratio_and_shorter(tmp_path):
    sweep = demo_sweep("digits", "lm", True, None, tmp_path, cache=str(tmp_path / "elsewhere"))
    assert [one.ratio for one in sweep.groups()] == [0.0, 0.7, 0.7, 0.7]
    assert sweep.seeds == 2
    assert demo_sweep("digits", "lm", True, 5, tmp_path).seeds == 5
    assert sweep.pretrain.config["trainer"]["max_epochs"] == 8
    assert sweep.pretrain.data["cache"] == str(tmp_path / "elsewhere")


@pytest.mark.usefixtures("drawn_cached")
def test_progress_counts_every_image_that_is_trained_on(tmp_path):
    sweep = demo_sweep("digits", "lm", True, 2, tmp_path)
    results = begin(sweep, "")
    cells = 9000 * (1 + 3 * 0.3) * 8 + 4 * (50 + 20) * 200
    assert images_left(sweep, results) == round(2 * (cells + 6 * 9000))
    counts = {"units_total": 1, "units_kept": 1, "images_total": 1, "images_kept": 1}
    seconds = {"surrogate_seconds": 0.0, "selection_seconds": 0.0, "pretraining_seconds": 1.0}
    done = [
        Cell(**vars(group), seed=0, **counts, **seconds, source_accuracy=None, scores={"probe": Score(1, 1, 1)})
        for group in sweep.groups()
    ]
    assert images_left(sweep, replace(results, cells=done)) == round(cells + 6 * 9000)
    longer = replace(sweep, extra_groups=(Group("digits", "random", 0.7, "steps"),), seeds=1)
    assert images_left(longer, replace(results, cells=done)) == 9000 * 8 + 70 * 200 + 6 * 9000


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_cached")
@pytest.mark.parametrize("seeds", [["--seeds=1"], []], ids=["one", "all"])
def test_quick_demo_finds_that_voting_beats_its_reverse_and_goes_on_where_it_stopped(seeds, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["demo", "--quick", *seeds, "--output", str(out)]
    started = time.perf_counter()
    assert main(command) == 0
    seconds = time.perf_counter() - started
    summary = json.loads((out / "summary.json").read_text())
    accuracy = {row["method"]: row["probe"]["test_accuracy"] for row in summary["arms"]}
    assert set(accuracy) == {"none", "label_mapping", "random", "reverse"}
    assert accuracy["label_mapping"] > accuracy["reverse"]  # by fifteen points or so, on any processor by some
    assert accuracy["none"] > 60  # of ten digits
    assert summary["seconds"] < seconds
    assert {row["images_kept"] for row in summary["arms"]} == {9000, 2700}
    for name in ("accuracy.png", "cost.png", "votes.png", "units.png"):
        assert (out / name).stat().st_size > 10_000
    for name in ("selection", "pruned", "full"):
        assert (out / f"{name}.safetensors").stat().st_size > 1000
    text = capsys.readouterr().out
    assert "By linear probe: LM is not shown to stay within 1 point of no pruning: at 70% pruned it is at" in " ".join(
        text.split()
    )
    assert "One or two seeds decide nothing: run --seeds 3 or more." in text
    assert "tlprune fit --config configs/source/drawn_pruned.yaml" in text
    cells = Results.load(out).cells
    weights = next((out / "stages").glob("pretrain-random-*-0-*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="changed or removed since it was made"):
        assert main(command) == 0
    again = Results.load(out)
    assert again.provenance["reused"] == len(cells) - 1
    scores = {(one.group, one.seed): one.scores for one in cells}
    assert {(one.group, one.seed): one.scores for one in again.cells} == scores
    text = capsys.readouterr().out
    assert f"{len(cells) - 1} of {len(cells)} runs are finished; --fresh runs them again" in text
    # the report reads what the demo wrote
    assert main(["report", str(out)]) == 0
    assert "By linear probe" in capsys.readouterr().out
