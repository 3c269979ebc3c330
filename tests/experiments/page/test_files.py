import csv
import io

import pytest
from scipy.stats import sem, t

from sweeps import made_results
from tlprune.experiments.claims import winning
from tlprune.experiments.page.files import cells_csv, latex_tables, latex_text, summary_csv
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
    assert "\\pm" not in latex_tables(made_results(seeds=1))


def test_latex_has_the_numbers_and_balanced_tables(results):
    text = latex_tables(results)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == text.count(r"\toprule") == 2 + 2 * 2
    found = results.accuracy(Group("digits", "label_mapping", 0.5), "probe")
    line = next(line for line in text.splitlines() if line.startswith("    LM & 50 & $"))
    assert f"${found.mean:.1f} \\pm {found.half_width:.1f}$" in line
    claim = winning(results, "digits", "label_mapping", "probe").claim
    assert f"50\\,\\% (${claim.mean:+.1f}\\,[{claim.low:+.1f}, {claim.high:+.1f}]$)" in text
    for block in text.split(r"\begin{tabular}")[1:]:
        head, *lines = [line for line in block.splitlines() if "&" in line]
        assert {line.replace(r"\&", "").count("&") for line in lines} == {head.replace(r"\&", "").count("&")}


@pytest.mark.parametrize("count", [5, 6])
def test_the_latex_caption_names_intervals_only_where_the_table_has_them(count):
    results = made_results(targets=tuple(f"t{number}" for number in range(count)), ablations=False, seeds=2)
    table = latex_tables(results).partition(r"\end{table}")[0]
    assert ("with the 95" in table) == (r"\,[" in table) == (count == 6)
    assert ("without intervals, since fewer than 6 targets" in table) == (count == 5)


def test_latex_takes_any_name_as_text():
    assert latex_text("50% of $x_1$ & #2 {a}\\b~^\n\x07") == (
        r"50\% of \$x\_1\$ \& \#2 \{a\}\textbackslash{}b\textasciitilde{}\textasciicircum{}"
    )
    assert latex_text("a\udcffb") == r"a\textbackslash{}udcffb"
