"""Differences over all targets of a sweep, in rows and on the page."""

import re
from dataclasses import replace

import numpy as np
import pytest

from sweeps import made_results
from tlprune.experiments.page.rendering import render_page
from tlprune.experiments.pooled import controls_of, pooled_rows
from tlprune.experiments.results import NONE, Results
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
