import json
import time

import pytest

from tlprune import PrunedSourceDataModule, RandomSelector
from tlprune.cli import main
from tlprune.experiments.cells import Cells, full_steps
from tlprune.experiments.comparison import Arm
from tlprune.experiments.trial import Pretraining, Transfer


def test_progress_counts_every_image_that_is_trained_on(tmp_path):
    arms = (Arm("none", 0.0), Arm("random", 0.75), Arm("random", 0.75, "steps"))
    transfers = (Transfer("probe", 3, 0.1),)
    cells = Cells(tmp_path, "digits", 0, arms, 2, Pretraining("a", 5), Pretraining("b", 4), transfers, tmp_path)
    assert cells.images(1000, 10) == 2 * (5 * 1000 + 4 * (1000 + 250 + 1000) + 3 * 3 * 10)


def test_equal_steps_are_those_of_no_pruning(tmp_path, coloured):
    recipe = Pretraining("resnet8_w8", epochs=3)
    cells = Cells(tmp_path, "digits", 0, (), 1, recipe, recipe, (), tmp_path)
    data = PrunedSourceDataModule(coloured(4, 50), selector=RandomSelector(), prune_ratio=0.5, batch_size=32)
    data.setup()
    whole = PrunedSourceDataModule(coloured(4, 50), batch_size=32)
    whole.setup()
    assert full_steps(cells, data) == 3 * len(whole.train_dataloader()) == 15


@pytest.mark.slow
def test_quick_demo_finds_that_voting_beats_its_reverse(tmp_path, capsys):
    begin = time.perf_counter()
    assert main(["demo", "--quick", "--output", str(tmp_path / "out")]) == 0
    seconds = time.perf_counter() - begin
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    accuracy = {row["method"]: row["probe"]["test_accuracy"] for row in summary["arms"]}
    assert set(accuracy) == {"none", "label_mapping", "random", "reverse"}
    assert accuracy["label_mapping"] > accuracy["reverse"] + 5
    assert accuracy["none"] > 85
    assert summary["seconds"] < seconds
    for name in ("accuracy.png", "cost.png", "votes.png", "units.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "Winning subset by probe" in out
    assert "tlprune fit --config configs/source/drawn_pruned.yaml" in out
