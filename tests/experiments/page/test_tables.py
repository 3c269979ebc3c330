from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sweeps import made_results
from tlprune.experiments.claims import winning
from tlprune.experiments.page.markup import latex_tables, latex_text, markdown_tables, markdown_text
from tlprune.experiments.page.tables import report_tables, table_ratios
from tlprune.experiments.results import Group


@pytest.fixture
def results():
    return made_results()


def methods_and_targets(results, ratio=None, mode="linear probe"):
    """The two tables of methods and targets: to random and to no pruning."""
    return [
        table
        for table in report_tables(results, ratio)
        if table.headings[0] == "target" and f"by {mode}," in table.caption
    ]


@pytest.mark.parametrize(("seeds", "ratio"), [(1, None), (2, None), (3, None), (3, 0.75)])
def test_methods_and_targets_have_the_differences_that_a_statistician_would_compute(seeds, ratio):
    results = made_results(seeds=seeds)
    chosen = 0.5 if ratio is None else ratio
    compared = 0
    for other, table in zip(("random", "none"), methods_and_targets(results, ratio), strict=True):
        assert f"at {100 * chosen:g} % pruned" in table.caption
        assert ("with the 95 % interval of Student's t" in table.caption) == (seeds == 3)
        for target, *cells in table.rows[:-1]:
            for label, cell in zip(table.headings[1:], cells, strict=True):
                name, _, equal = label.partition(", ")
                method = {"LM": "label_mapping"}.get(name, name)
                group = Group(target, method, chosen, "steps" if equal else "epochs")
                control = replace(group, method=other) if other == "random" else Group(target, "none")
                pairs = [[one.scores["probe"].test for one in results.of(side)] for side in (group, control)]
                points = np.subtract(*pairs)
                expected = f"{points.mean():+.1f}"
                if seeds > 2:
                    low, high = stats.t.interval(0.95, seeds - 1, points.mean(), stats.sem(points))
                    expected += f" [{low:+.1f}, {high:+.1f}]"
                assert cell == expected
                compared += 1
    assert compared == 2 * ((3 if chosen == 0.5 else 2) + (5 if chosen == 0.5 else 3))


@pytest.mark.parametrize("count", [1, 5, 6])
def test_the_last_row_is_over_all_targets_with_an_interval_where_there_are_enough(count):
    results = made_results(targets=tuple(f"t{number}" for number in range(count)), ablations=False)
    table, _ = methods_and_targets(results)
    assert len(table.rows) == count + (count > 1)
    assert (table.rows[-1][0] == f"all {count} targets") == ("Last row" in table.caption) == (count > 1)
    assert ("two-way bootstrap" in table.caption) == (count == 6)
    if count > 1:
        found = results.pooled(Group("", "label_mapping", 0.5), Group("", "random", 0.5), "probe")
        interval = f" [{found.low:+.1f}, {found.high:+.1f}]" if count == 6 else ""
        assert table.rows[-1][1] == f"{found.mean:+.1f}{interval}"


def test_a_mean_over_some_of_the_targets_says_over_how_many():
    results = made_results(ablations=False)
    cells = [one for one in results.cells if one.target == "digits" or one.ratio != 0.25]
    some = replace(results, cells=cells)
    table, _ = methods_and_targets(some, 0.25)
    assert [row[0] for row in table.rows] == ["digits", "all 2 targets"]
    assert table.rows[1][1][1:] == ("over 1 of 2 targets",)
    assert "Unequal" not in table.caption
    assert not any(isinstance(cell, tuple) for cell in methods_and_targets(some, 0.5)[0].rows[-1])
    pooled = report_tables(some)[0].rows
    noted = {row[1]: [place for place, cell in enumerate(row) if isinstance(cell, tuple)] for row in pooled}
    assert noted == {"0": [], "25": [], "50": [], "75": []}  # the row says it
    accuracy = some.accuracy(Group("digits", "label_mapping", 0.25), "probe").mean
    row = f"| LM, over 1 of 2 targets | 25 | epochs | linear probe | {accuracy:.1f} |"
    assert row in markdown_tables(report_tables(some))


def test_unequal_images_and_a_sweep_that_has_not_ended_are_said(results):
    assert not any("Unequal" in table.caption for table in report_tables(results))
    cells = [replace(one, images_kept=one.images_kept - 1) if one.method == "random" else one for one in results.cells]
    to_random, to_none = methods_and_targets(replace(results, cells=cells))
    assert all(cell[1] == "unequal" for row in to_random.rows for cell in row[1:])
    assert "Unequal: images or steps differ by more than 1 %." in to_random.caption
    assert "Unequal" not in to_none.caption
    partial = replace(results, provenance=results.provenance | {"cells_planned": 10_000})
    assert all("the sweep has not ended" in table.caption for table in report_tables(partial)[:6])


def test_the_middle_ratio_is_shown_or_the_chosen_one(results):
    assert table_ratios(results) == [0.25, 0.5, 0.75]
    whole = replace(results, cells=[one for one in results.cells if one.method == "none"])
    assert table_ratios(whole) == []
    assert methods_and_targets(whole) == []


@pytest.mark.parametrize(("count", "widths"), [(1, [1]), (2, [2]), (6, [6]), (7, [4, 3]), (20, [5, 5, 5, 5])])
def test_accuracies_are_by_method_and_ratio_with_targets_beside_each_other(count, widths):
    names = tuple(f"t{number}" for number in range(count))
    results = made_results(names, ablations=False)
    results.cells = [one for one in results.cells if (one.target, one.method, one.ratio) != ("t0", "random", 0.25)]
    tables = [one for one in report_tables(results) if one.caption.startswith("Test accuracy by linear probe in perc")]
    assert [len(table.headings) - 2 for table in tables] == widths
    assert [name for table in tables for name in table.headings[2:]] == list(names)
    for table in tables:
        assert [row[:2] for row in table.rows][:2] == [["no pruning", "0"], ["LM", "25"]]
        for name, pruned, *cells in table.rows:
            method = {"LM": "label_mapping", "no pruning": "none"}.get(label := name.partition(", ")[0], label)
            length = "steps" if "equal steps" in name else "epochs"
            for target, cell in zip(table.headings[2:], cells, strict=True):
                scores = results.accuracies(Group(target, method, int(pruned) / 100, length), "probe")
                if not scores:
                    assert (cell, target, name, pruned) == ("-", "t0", "random", "25")
                    continue
                half = stats.t.ppf(0.975, 2) * np.std(scores, ddof=1) / 3**0.5
                assert cell == f"{np.mean(scores):.1f} ± {half:.1f}"


def test_markdown_has_the_words_and_numbers_of_latex():
    for results in (made_results(), made_results(targets=tuple("abcdef"), seeds=2)):
        tables = report_tables(results)
        latex, markdown = latex_tables(tables), markdown_tables(tables)
        plain = [line.replace(r"\,", " ").replace("--", "-").replace(r"\pm", "±") for line in latex.splitlines()]
        rows = [line[4:-3].replace("$", "").replace("\\", "") for line in plain if line.endswith(r" \\")]
        told = [line[2:-2] for line in markdown.splitlines() if line.startswith("| ") and "---" not in line]
        assert [" & ".join(line.split(" | ")) for line in told] == rows
        for table in tables:
            assert {line.count(" | ") for line in markdown_tables([table]).splitlines() if line.startswith("|")} == {
                len(table.headings) - 1
            }


def test_one_seed_has_no_interval():
    text = latex_tables(report_tables(made_results(seeds=1)))
    assert r"\pm" not in text
    assert "over seeds" not in text.replace("over targets and seeds", "")


def test_markdown_takes_any_name_as_text():
    assert markdown_text("a|b_c*<i>\n`x` [y](z)\\") == r"a\|b\_c\*\<i\> \`x\` \[y\](z)\\"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("#1 of a/b#2", "#<!-- -->1 of a/b#<!-- -->2"),
        ("@name", "@<!-- -->name"),
        ("me@mail.org", "me@<!-- -->mail.org"),
        ("https://a.org www.b.org", "https:<!-- -->//a.org www<!-- -->.b.org"),
        (":tada: :+1:", ":<!-- -->tada: :<!-- -->+1:"),
        ("gh-12", "gh<!-- -->-12"),
        ("# @ a: 50, imagenet1k:/data", "# @ a: 50, imagenet1k:/data"),
    ],
)
def test_no_name_in_markdown_becomes_a_link_a_mention_or_a_picture(name, text):
    """Backslashes do not help: sites look for these in what is left of a text once escapes are gone."""
    assert markdown_text(name) == text


def test_latex_has_the_numbers_and_balanced_tables(results):
    text = latex_tables(report_tables(results))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == text.count(r"\toprule") == 2 + 2 * 2 + 2 + 2
    found = results.accuracy(Group("digits", "label_mapping", 0.5), "probe")
    line = next(line for line in text.splitlines() if line.startswith("    LM & 50 & $") and "\\pm" in line)
    assert f"& ${found.mean:.1f} \\pm {found.half_width:.1f}$ &" in line
    claim = winning(results, "digits", "label_mapping", "probe").claim
    assert f"$50\\,\\%$ $({claim.mean:+.1f}\\,[{claim.low:+.1f}, {claim.high:+.1f}])$" in text
    for block in text.split(r"\begin{tabular}")[1:]:
        head, *lines = [line for line in block.splitlines() if "&" in line]
        assert {line.replace(r"\&", "").count("&") for line in lines} == {head.replace(r"\&", "").count("&")}


@pytest.mark.parametrize("count", [5, 6])
def test_the_latex_caption_names_intervals_only_where_the_table_has_them(count):
    results = made_results(targets=tuple(f"t{number}" for number in range(count)), ablations=False, seeds=2)
    table = latex_tables(report_tables(results)).partition(r"\end{table}")[0]
    assert ("with the 95" in table) == (r"\,[" in table) == (count == 6)
    assert ("without intervals, since fewer than 6 targets" in table) == (count == 5)


def test_latex_takes_any_name_as_text():
    assert latex_text("50% of $x_1$ & #2 {a}\\b~^\n\x07") == (
        r"50\% of \$x\_1\$ \& \#2 \{a\}\textbackslash{}b\textasciitilde{}\textasciicircum{}"
    )
    assert latex_text("a\udcffb") == r"a\textbackslash{}udcffb"


def test_latex_prints_every_letter_of_a_name_where_a_row_begins():
    assert latex_text("[new] *|`a--b---c`") == (
        r"{[}new] {*}\textbar{}\textasciigrave{}a-{}-b-{}-{}-c\textasciigrave{}"
    )
    results = made_results(("[new]",), ratios=(0.5,), seeds=1, ablations=False)
    starts = [line.strip()[:1] for line in latex_tables(report_tables(results)).splitlines()]
    assert not {"[", "*"} & set(starts)
