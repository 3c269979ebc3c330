import json
import time
from dataclasses import replace
from queue import SimpleQueue

import pytest

from tlprune import PrunedSourceDataModule, RandomSelector
from tlprune.cli import main
from tlprune.experiments.cells import Cells, full_steps, run_cells
from tlprune.experiments.comparison import Arm
from tlprune.experiments.trial import Neighbours, Pretraining, Transfer


def test_progress_counts_every_image_that_is_trained_on(tmp_path):
    arms = (Arm("none", 0.0), Arm("random", 0.75), Arm("random", 0.75, "steps"))
    transfers = (Transfer("probe", 3, 0.1),)
    cells = Cells(tmp_path, "digits", 0, arms, 2, Pretraining("a", 5), Pretraining("b", 4), transfers, tmp_path)
    assert cells.images(arms, 1000, 10) == 4 * (1000 + 250 + 1000) + 3 * 3 * 10
    assert cells.images((), 1000, 10) == 0


def test_equal_steps_are_those_of_no_pruning(tmp_path, coloured):
    recipe = Pretraining("resnet8_w8", epochs=3)
    cells = Cells(tmp_path, "digits", 0, (), 1, recipe, recipe, (), tmp_path)
    data = PrunedSourceDataModule(coloured(4, 50), selector=RandomSelector(), prune_ratio=0.5, batch_size=32)
    data.setup()
    whole = PrunedSourceDataModule(coloured(4, 50), batch_size=32)
    whole.setup()
    assert full_steps(cells, data) == 3 * len(whole.train_dataloader()) == 15


@pytest.fixture
def unlabelled(tmp_path, coloured, target, monkeypatch):
    """Cells of Feature Mapping on a small folder, and what they ran to."""
    from PIL import Image

    from tlprune.experiments import cells as module

    source = coloured(6, 60)
    for index in range(len(source)):
        path = tmp_path / "source" / source.classes[int(source.labels[index])] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source[index][0].permute(1, 2, 0).numpy()).save(path)
    monkeypatch.setattr(module, "_target", lambda name, seed: target)
    monkeypatch.setattr(module, "CLUSTERS", 12)
    arms = (Arm("none", 0.0), *(Arm(one, 0.5) for one in ("feature_mapping", "random", "reverse")))
    recipe = Pretraining("resnet8_w8", 1, method="simclr", augment="simclr_small", batch_size=32)
    transfers = (Neighbours(3), Transfer("probe", 2, 0.1, 8, 1), Transfer("finetune", 1, 0.01, 8, 1))
    cells = Cells(tmp_path / "source", "colours", 0, arms, 1, recipe, recipe, transfers, tmp_path)
    seconds = module._train_surrogate(cells, 0, SimpleQueue())
    return cells, {arm.method: module._run_cell(cells, arm, 0, seconds, SimpleQueue()) for arm in arms}


def test_controls_of_feature_mapping_see_as_many_images(unlabelled):
    runs = unlabelled[1]
    kept = {method: run.images_kept for method, run in runs.items()}
    assert kept["none"] == 360
    assert kept["random"] == kept["feature_mapping"] < 360
    assert 0 < kept["reverse"] <= kept["feature_mapping"]
    for method, run in runs.items():
        assert set(run.scores) == {"knn", "probe", "finetune"}
        assert run.source_accuracy is None
        assert (run.surrogate_seconds > 0) == (method in ("feature_mapping", "reverse"))


def test_cells_that_are_finished_are_not_run_again(unlabelled):
    cells, runs = unlabelled
    again = replace(cells)
    assert again.finished == list(runs.values())
    assert again.left(0) == []
    assert list(run_cells(again)) == []
    weights = cells.weights(Arm("random", 0.5), 0)
    weights.write_bytes(weights.read_bytes()[:-1])
    damaged = replace(cells)
    with pytest.warns(UserWarning, match="changed or removed since it was made"):
        assert damaged.left(0) == [Arm("random", 0.5)]
    other = replace(cells, transfers=(Neighbours(4),))
    assert other.left(0) == list(cells.arms)
    assert other.stage(None, 0).done is not None
    assert replace(cells, surrogate=replace(cells.surrogate, epochs=2)).stage(None, 0).done is None


@pytest.mark.usefixtures("drawn_cached")
@pytest.mark.parametrize("seeds", [["--seeds=1"], pytest.param([], marks=pytest.mark.slow)], ids=["one", "all"])
def test_quick_demo_finds_that_voting_beats_its_reverse(seeds, tmp_path, capsys):
    begin = time.perf_counter()
    assert main(["demo", "--quick", *seeds, "--output", str(tmp_path / "out")]) == 0
    seconds = time.perf_counter() - begin
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    accuracy = {row["method"]: row["probe"]["test_accuracy"] for row in summary["arms"]}
    assert set(accuracy) == {"none", "label_mapping", "random", "reverse"}
    assert accuracy["label_mapping"] > accuracy["reverse"]  # by fifteen points or so, on any processor by some
    assert accuracy["none"] > 60  # of ten digits
    assert summary["seconds"] < seconds
    for name in ("accuracy.png", "cost.png", "votes.png", "units.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "Winning subset by probe" in out
    assert "tlprune fit --config configs/source/drawn_pruned.yaml" in out
