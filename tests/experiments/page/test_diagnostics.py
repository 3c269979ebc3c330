"""Diagnostics of cells on the page, and what is said of them."""

import csv
import io
import re
from dataclasses import replace

from sweeps import made_results
from tlprune.experiments.page.diagnostics import DIAGNOSTICS, diagnostics_table
from tlprune.experiments.page.files import cells_csv
from tlprune.experiments.page.rendering import render_page
from tlprune.experiments.results import Results


def with_diagnostics(results, targets=None):
    """Similarity grows with accuracy, divergence falls, spread is the same for all, duplicates say nothing."""

    def numbers(place, cell):
        accuracy = cell.scores["probe"].test
        level = 0.0 if cell.target == "digits" else 5.0  # targets differ by more than methods do
        found = {"similarity": accuracy / 200 - level, "divergence": level - accuracy / 9, "spread": 4.25}
        found["duplicates"] = (7 * place % 11) / 11
        return found | {f"random_{name}": value + 1 for name, value in found.items()}

    diagnosed = [
        replace(cell, diagnostics=numbers(place, cell))
        if cell.ratio and cell.target in (targets or [cell.target])
        else cell
        for place, cell in enumerate(results.cells)
    ]
    return replace(results, cells=diagnosed)


def rows_of(page):
    """Texts of the cells of the section's table."""
    section = page.partition('<section id="diagnostics">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr.*?</tr>", section, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_each_method_has_a_row_at_the_middle_ratio():
    results = with_diagnostics(made_results())
    table = rows_of(render_page(results, [], [], "t"))
    names = ["method", "images kept", *DIAGNOSTICS, "test accuracy, linear probe, %"]
    assert table[0] == names
    assert [row[0] for row in table[1:]] == ["LM", "random", "reverse", "as many random images"]
    cells = [one for one in results.cells if one.method == "label_mapping"]
    cells = [one for one in cells if (one.ratio, one.match_budget) == (0.5, "epochs")]
    means = [sum(one.diagnostics[name] for one in cells) / len(cells) for name in DIAGNOSTICS]
    accuracy = sum(one.scores["probe"].test for one in cells) / len(cells)
    similarity, divergence, spread, duplicates = means
    numbers = [
        f"{similarity:.3f}",
        f"{divergence:.3f}",
        f"{spread:.1f}",
        f"{100 * duplicates:.1f} %",
        f"{accuracy:.1f}",
    ]
    assert table[1] == ["LM", "20", *numbers]
    assert (table[-1][4], table[-1][-1]) == ("5.2", "-")


def test_what_foretells_the_accuracy_is_told_from_what_does_not():
    [probe, finetune] = diagnostics_table(with_diagnostics(made_results())).foretold
    count = sum(one.ratio > 0 for one in made_results().cells)
    assert probe.startswith(f"By linear probe, over {count} cells of 2 targets: similarity +1.00 [+1.00, +1.00], ")
    assert "divergence -1.00 [-1.00, -1.00], spread does not vary, duplicates " in probe
    assert finetune.startswith("By full finetuning, over ")
    noise = float(probe.partition("duplicates ")[2].split()[0])
    assert abs(noise) < 0.5


def test_one_target_has_no_interval():
    [probe, _] = diagnostics_table(with_diagnostics(made_results(), ["photos"])).foretold
    assert "cells of 1 target: similarity +1.00, divergence -1.00," in probe


def test_without_diagnostics_nothing_is_said():
    results = made_results()
    assert diagnostics_table(results) is None
    page = render_page(results, [], [], "t")
    assert "diagnostics" not in page


def test_results_and_tables_keep_them(tmp_path):
    results = with_diagnostics(made_results())
    results.save(tmp_path)
    assert Results.load(tmp_path) == results
    rows = list(csv.DictReader(io.StringIO(cells_csv(results))))
    for row, cell in zip(rows, (one for one in results.cells for _ in results.modes), strict=True):
        for name in DIAGNOSTICS:
            assert row[name] == ("" if cell.diagnostics is None else str(cell.diagnostics[name]))


def test_results_of_before_are_read(tmp_path):
    results = made_results()
    file = results.save(tmp_path)
    text = file.read_text()
    assert '"diagnostics": null' in text
    file.write_text(text.replace(',\n   "diagnostics": null', ""))
    assert "diagnostics" not in file.read_text()
    assert Results.load(tmp_path) == results
