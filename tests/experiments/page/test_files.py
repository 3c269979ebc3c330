import csv
import io

import pytest
from scipy.stats import sem, t

from sweeps import made_results
from tlprune.experiments.page.files import cells_csv, summary_csv
from tlprune.experiments.results import Group


@pytest.fixture
def results():
    return made_results()


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_every_cell_and_mode_is_a_row(results):
    rows = rows_of(cells_csv(results))
    assert len(rows) == 2 * len(results.cells)
    for row, (one, mode) in zip(rows, [(c, m) for c in results.cells for m in results.modes], strict=True):
        assert (row["target"], row["method"], int(row["seed"])) == (one.target, one.method, one.seed)
        assert float(row["test_accuracy"]) == one.scores[mode].test
        assert float(row["val_accuracy"]) == one.scores[mode].val
        assert float(row["pretraining_seconds"]) == one.pretraining_seconds


def test_the_summary_is_what_a_statistician_would_compute(results):
    rows = rows_of(summary_csv(results))
    for row in rows:
        group = Group(row["target"], row["method"], float(row["ratio"]), row["equal"])
        values = [one.scores[row["mode"]].test for one in results.of(group)]
        mean = sum(values) / len(values)
        low, high = t.interval(0.95, len(values) - 1, mean, sem(values))
        assert [float(row[name]) for name in ("test_accuracy", "low_95", "high_95")] == pytest.approx([mean, low, high])
        assert row["seeds"] == "3"
    assert len({(row["target"], row["method"], row["ratio"], row["equal"], row["mode"]) for row in rows}) == len(rows)
    one = next(row for row in rows if row["method"] == "label_mapping" and row["ratio"] == "0.5")
    assert float(one["saving"]) == pytest.approx(1 - 56 / 101)
    assert one["minus_random_verdict"] == "better"


def test_one_seed_has_no_interval():
    rows = rows_of(summary_csv(made_results(seeds=1)))
    assert {row["low_95"] for row in rows} == {""}
