"""Differences over all targets of a sweep, in rows and on the page."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from sweeps import made_results
from tlprune.experiments.closing import print_pooled
from tlprune.experiments.page.conclusions import pooled_headlines
from tlprune.experiments.page.files import pooled_csv
from tlprune.experiments.page.rendering import render_page
from tlprune.experiments.pooled import controls_of, pooled_rows
from tlprune.experiments.pooled_curves import pooled_figure
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.verdicts import pooled_sentences
from tlprune.experiments.wording import pooled_text


def by_hand(results, method, ratio, match_budget, other, mode):
    """Means of targets, pair by pair."""
    means = []
    for target in results.targets:
        pairs = []
        for cell in results.cells:
            if (cell.target, cell.method, cell.ratio, cell.match_budget) != (target, method, ratio, match_budget):
                continue
            for control in results.cells:
                wanted = (target, other, 0.0 if other == NONE else ratio, cell.seed)
                same = (control.target, control.method, control.ratio, control.seed) == wanted
                if same and (other == NONE or control.match_budget == match_budget):
                    pairs.append(cell.scores[mode].test - control.scores[mode].test)
        if pairs:
            means.append(np.mean(pairs))
    return np.mean(means), sum(mean > 0 for mean in means)


def test_each_row_is_the_mean_over_targets_and_seeds():
    results = made_results()
    rows = pooled_rows(results)
    assert controls_of(results) == ["random", NONE]
    assert {row.group.method for row in rows} == set(results.methods)
    compared = 0
    for row in rows:
        cells = [one for one in results.cells if replace(one.group, target="") == row.group]
        assert row.accuracy == pytest.approx(np.mean([one.scores[row.mode].test for one in cells]))
        assert row.images == pytest.approx(np.mean([one.images_kept for one in cells]))
        for other, found in zip(("random", NONE), row.differences, strict=True):
            if found is not None:
                compared += 1
                group = row.group
                mean, won = by_hand(results, group.method, group.ratio, group.match_budget, other, row.mode)
                assert (found.points.mean, found.points.won) == (pytest.approx(mean), won)
                assert found.points.low <= found.points.mean <= found.points.high
                assert (found.equal, found.verdict) == (True, "unclear")  # two targets carry no verdict
    assert compared > len(rows)


def test_a_mean_over_some_of_the_targets_says_so_wherever_it_stands():
    """Six of eight targets have a quarter pruned, and five of these random pruning there."""
    names = tuple(f"t{place}" for place in range(8))
    results = made_results(names, ablations=False)
    lacking = {("label_mapping", 0.25): names[6:], ("random", 0.25): names[5:], ("reverse", 0.25): names[7:]}
    kept = [one for one in results.cells if one.target not in lacking.get((one.method, one.ratio), ())]
    results = replace(results, cells=kept)
    [row] = [
        one for one in pooled_rows(results) if one.group == Group("", "label_mapping", 0.25) and one.mode == "probe"
    ]
    assert (row.targets, *(one.points.targets for one in row.differences)) == (6, 5, 6)
    page = render_page(results, [], [], "t")
    table = page[page.index('aria-label="Over all targets"') :].partition("</table>")[0]
    shown = [re.sub("<[^>]*>", " ", line) for line in table.splitlines() if '<th scope="row">' in line]
    for line in shown:
        label, ratio = line.split()[0], re.search(r"\d+%", line)[0]
        counts = {"LM": [6, 5], "random": [5], "reverse": [7, 5]}.get(label, []) if ratio == "25%" else []
        assert re.findall(r"over (\d) of 8 targets", line) == [str(count) for count in counts], line
    console = Console(file=io.StringIO(), width=250)
    print_pooled(results, console)
    printed = console.file.getvalue()
    [line] = [one for one in printed.splitlines() if one.startswith(" LM, ")]
    assert re.findall(r"over (\d) of 8 targets", line) == ["6", "5"]
    assert printed.count("over 5 of 8 targets") == 4  # LM, random, reverse, and the sentence on LM
    said = " ".join(pooled_sentences(results, "probe", ["classes"] * len(results.compared)))
    assert "25% pruned" in said
    assert "over 5 of 8 targets, " in said
    [whole] = [one for one in csv.DictReader(io.StringIO(pooled_csv(results))) if one["targets"] == "8"][:1]
    assert whole["method"] == NONE
    [line] = [
        one
        for one in csv.DictReader(io.StringIO(pooled_csv(results)))
        if (one["method"], one["ratio"], one["mode"]) == ("label_mapping", "0.25", "probe")
    ]
    assert (line["targets"], line["minus_random_targets"], line["minus_none_targets"]) == ("6", "5", "6")
    drawn = pooled_figure(results, "probe")
    assert [one.get_text() for one in drawn.axes[0].texts] == ["6 of 8"]
    whole_sweep = made_results(names, ablations=False)
    assert " of 8 targets" not in render_page(whole_sweep, [], [], "t")
    assert not pooled_figure(whole_sweep, "probe").axes[0].texts


def test_a_claim_over_some_of_the_targets_says_over_how_many():
    names = tuple(f"{place}-digits" for place in range(8))
    results = made_results(names, ratios=(0.25,), ablations=False)
    results = replace(
        results, cells=[one for one in results.cells if one.method != "label_mapping" or one.target < "6"]
    )
    [won, gain, saved] = pooled_headlines(results)
    assert "by LM over 6 of 8 targets, by linear probe" in won.caption
    assert "over 6 of 8 targets, by linear probe" in gain.caption
    assert "on average over 6 of 8 targets" in saved.caption
    said = pooled_sentences(results, "probe", ["classes"] * len(results.compared))
    assert re.search(r"\(\S+ \[.*\] points over 6 of 8 targets\)\.$", said[-1])


def test_the_page_begins_with_all_targets_where_there_are_several():
    results = made_results()
    page = render_page(results, [], [], "t")
    first = page.index('<h2 class="verdict">')
    words = "both" if len(results.targets) == 2 else f"all {len(results.targets)}"
    assert page[first:].startswith(f'<h2 class="verdict">Over {words} targets</h2>')
    table = page[first:].partition("</table>")[0]
    row = next(one for one in pooled_rows(results) if one.differences[0] is not None)
    text = pooled_text(row.differences[0].points, won=False)
    assert f'<td class="unclear">{text} <span class="word">unclear</span></td>' in table
    assert "[" not in text
    shown = [row for row in pooled_rows(results) if row.group.method in results.compared]
    assert len(re.findall(r"<tr[^>]*><th", table)) == 1 + len(shown)
    one_target = next(iter(results.targets))
    cells = [cell for cell in results.cells if cell.target == one_target]
    alone: Results = replace(results, targets={one_target: results.targets[one_target]}, cells=cells)
    assert not re.search("Over (all|both)", render_page(alone, [], [], "t"))
