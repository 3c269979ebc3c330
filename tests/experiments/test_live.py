"""What a sweep shows while it runs: how far it is, what runs, when it ends, and what is best so far."""

import io
import json
import re
import time
from dataclasses import replace
from statistics import fmean

import pytest
from rich.console import Console

from sweeps import Here, cell, made_results
from tlprune.commands.arguments import make_console
from tlprune.experiments.best_so_far import best_so_far
from tlprune.experiments.forecast import measured_costs
from tlprune.experiments.live import LiveSweep, _best
from tlprune.experiments.partial import CELLS_PLANNED
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.running import NOTES, Note, noted, read_notes
from tlprune.experiments.sweep_board import Task, run_tasks
from tlprune.experiments.sweep_plan import Sweep, methods_of
from tlprune.experiments.sweep_progress import SweepProgress, Work, clock_text

NOW = time.mktime((2026, 11, 26, 22, 0, 0, 0, 0, -1))


class Clock:
    """A clock that a test sets."""

    now = NOW

    def __call__(self):
        return self.now


def of_digits(cells=(), total=12):
    """Results of one target with some cells, and their progress."""
    results = made_results(targets=("digits",), ablations=False)
    results = replace(results, cells=list(cells), provenance={CELLS_PLANNED: total})
    clock = Clock()
    return results, SweepProgress(results, total, clock), clock


def test_nothing_is_known_before_the_first_cell():
    _, progress, _ = of_digits()
    progress.plan({"a": Work("cell", Group("digits", NONE))}, 2)
    assert progress.left() is None
    assert progress.text() == "0 of 12 cells"


def test_time_left_is_by_kind_of_work():
    """No pruning took 100 s, and each of two transfers 1 s; half of the images take half of the time."""
    _, progress, clock = of_digits([cell("digits", NONE, 0.0, 0)])
    works = {
        "whole": Work("cell", Group("digits", NONE)),
        "half": Work("cell", Group("digits", "random", 0.5)),
        "as many steps": Work("cell", Group("digits", "random", 0.5, "steps")),
        "pretrained by another": Work("cell", Group("digits", "random", 0.75), shared=True),
    }
    progress.plan(works, 1)
    assert progress.left() == pytest.approx((100 + 2) + (50 + 2) + (100 + 2) + 2)
    progress.submit("whole")
    progress.submit("half")  # waits for the only worker
    clock.now += 30
    assert progress.left() == pytest.approx(258 - 30)
    progress.end("whole", 110)  # 8 s more than was forecast
    assert progress.left() == pytest.approx((50 + 2) + (100 + 2) + 2 + 3 * 8)
    clock.now += 10
    assert progress.left() == pytest.approx(180 - 10)
    assert progress.text() == "1 of 12 cells, 3 min left, expected end 22:03"


def test_workers_share_the_time_and_the_longest_work_bounds_it():
    _, progress, _ = of_digits([cell("digits", NONE, 0.0, 0)])
    progress.plan({str(number): Work("cell", Group("digits", NONE)) for number in range(4)}, 2)
    assert progress.left() == pytest.approx(2 * 102)
    progress.plan({"last": Work("cell", Group("digits", NONE))}, 2)
    assert progress.left() == pytest.approx(102)
    progress.plan({str(number): Work("cell", Group("digits", NONE)) for number in range(4)}, None)
    assert progress.left(running=4) == pytest.approx(102)


def test_surrogates_and_selections_take_what_those_before_took():
    results, progress, _ = of_digits([cell("digits", NONE, 0.0, 0)])
    works = {f"s{seed}": Work("surrogate") for seed in range(3)}
    works |= {f"v{seed}": Work("selection", method="label_mapping") for seed in range(3)}
    progress.plan(works, 1)
    for name, seconds in (("s0", 40), ("v0", 6)):
        progress.submit(name)
        progress.end(name, seconds)
    assert progress.left() == pytest.approx(2 * 40 + 2 * 6)
    # of an earlier command, cells tell it
    results.cells.append(replace(cell("digits", "label_mapping", 0.5, 0), selection="one"))
    again = SweepProgress(results, 12, Clock())
    again.plan({"s": Work("surrogate"), "v": Work("selection", method="label_mapping")}, 1)
    assert again.left() == pytest.approx(4.0 + 0.5)


def test_costs_are_medians_of_finished_cells():
    cells = [cell("digits", method, ratio, seed) for method, ratio in ((NONE, 0.0), ("random", 0.5)) for seed in (0, 1)]
    results, _, _ = of_digits(cells)
    costs = measured_costs(results)
    full = sorted([100, 101, 100, 101])  # of half of the images, twice the seconds
    assert costs.full == pytest.approx(fmean(full[1:3]))
    assert costs.transfer == pytest.approx(3.0)  # 2 x 1 s and 2 x 2 s
    assert costs.surrogate is None
    assert measured_costs(replace(results, cells=[])) is None


@pytest.mark.parametrize(
    ("later", "text"), [(60, "22:01"), (3 * 3600, "Fri 01:00"), (10 * 86400, "2026-12-06 22:00"), (-600, "21:50")]
)
def test_another_day_is_named(later, text):
    assert clock_text(NOW + later, NOW) == text


def test_the_best_ratio_is_by_pairs_with_no_pruning():
    results = made_results(targets=("digits", "photos"), ablations=False, seeds=2)
    results = replace(results, cells=[one for one in results.cells if (one.target, one.seed) != ("photos", 1)])
    for row in best_so_far(results):
        method = next(name for name, info in results.methods.items() if info.label == row.label.removesuffix(" ="))
        means = {}
        for group in results.groups_over_targets(method):
            pairs = [
                one.scores["probe"].test - other.scores["probe"].test
                for one in results.of(group)
                for other in results.cells
                if other.method == NONE and (other.target, other.seed) == (one.target, one.seed)
            ]
            assert len(pairs) == 3
            means[group] = fmean(pairs)
        best = max(means, key=means.get)
        assert (row.points, row.pruned) == (f"{means[best]:+.1f}", f"{best.ratio:.0%}")
        assert row.label.endswith(" =") == (best.match_budget == "steps")
        assert row.support == "over 3 cells of 2 targets, no interval yet"
    assert [row.label.removesuffix(" =") for row in best_so_far(results)] == ["LM", "random", "reverse"]


@pytest.mark.parametrize(("seeds", "interval"), [(1, False), (2, False), (3, True)])
def test_few_seeds_of_one_target_have_no_interval(seeds, interval):
    results = made_results(targets=("digits",), ablations=False, seeds=seeds)
    for row in best_so_far(results):
        assert ("[" in row.points, "no interval yet" in row.support) == (interval, not interval)


def test_six_targets_have_an_interval_and_one_without_no_pruning_does_not_count():
    targets = tuple(f"t{number}" for number in range(6))
    results = made_results(targets=targets, ablations=False, seeds=1)
    assert all("[" in row.points for row in best_so_far(results))
    cells = [one for one in results.cells if one.method != NONE]
    assert list(best_so_far(replace(results, cells=cells))) == []


def test_notes_are_there_while_work_runs(tmp_path):
    before = time.time()
    with noted(tmp_path, Note("pretraining", 2, "digits", "LM, 50% pruned")):
        [found] = read_notes(tmp_path)
        assert (found.stage, found.seed, found.target, found.what) == ("pretraining", 2, "digits", "LM, 50% pruned")
        assert before <= found.since <= time.time()
    assert read_notes(tmp_path) == []
    (tmp_path / NOTES / "other-1.json").write_text('{"stage": "half a no')
    (tmp_path / NOTES / "other-2.json").write_text(json.dumps({"of": "another version"}))
    assert read_notes(tmp_path) == []


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / NOTES).write_text("a file")
    with noted(tmp_path, Note("probe", 0)):
        done = True
    assert done


def plan(output, search="grid"):
    recipe = Recipe("made up", {"model": {"class_path": "A"}, "data": {"class_path": "B"}})
    methods = methods_of({"label_mapping": "LabelMapping"}, controls=False)
    common = (methods, (0.5,), ("epochs",), 3, search, output)
    return Sweep("s", "drawn", ("digits",), None, recipe, {"probe": recipe}, *common)


def shown(live):
    """The display as text."""
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    console.print(live.render())
    return console.file.getvalue()


def test_the_display_shows_cells_running_work_the_end_and_the_best(tmp_path):
    results, progress, _ = of_digits([cell("digits", NONE, 0.0, 0), cell("digits", "label_mapping", 0.5, 0)])
    progress.plan({"a": Work("cell", Group("digits", NONE))}, 1)
    console = Console(file=io.StringIO(), force_terminal=True)
    live = LiveSweep(plan(tmp_path), results, progress, console)
    (tmp_path / NOTES).mkdir()
    note = Note("pretraining", 1, "digits", "LM, 50% pruned", NOW - 40)
    (tmp_path / NOTES / "host-1.json").write_text(json.dumps(vars(note)))
    said = shown(live)
    assert re.search(
        r"2 of 12 cells, 2 min left, expected end 22:01\b|2 of 12 cells, 2 min left, expected end 22:02", said
    )
    assert re.search(r"seed 2 +digits +LM, 50% pruned +pretraining +40 s", said)
    [best] = best_so_far(results)
    assert re.search(rf"LM +50% +{re.escape(best.points)} +over 1 seed, no interval yet", said)
    assert "nothing is decided before the end" in said
    # a long list is cut
    for number in range(30):
        (tmp_path / NOTES / f"more-{number}.json").write_text(json.dumps(vars(note)))
    assert "and 15 more" in shown(live)


def test_a_narrow_terminal_cuts_rows_and_wraps_none(tmp_path):
    results, progress, _ = of_digits([cell("digits", NONE, 0.0, 0), cell("digits", "label_mapping", 0.5, 0)])
    live = LiveSweep(plan(tmp_path), results, progress, Console(file=io.StringIO(), force_terminal=True))
    with noted(
        tmp_path, Note("pretraining", 1, "a-target-with-a-long-name", "a method with a very long name, 50% pruned")
    ):
        console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
        console.print(live.render())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    [row] = [line for line in lines if "seed 2" in line]
    assert row.rstrip().endswith(" s")


def test_a_log_has_the_progress_behind_each_cell(tmp_path):
    results, progress, _ = of_digits([cell("digits", NONE, 0.0, 0)])
    progress.plan({"a": Work("cell", Group("digits", NONE))}, 1)
    console = Console(file=io.StringIO(), width=160, markup=False)
    with LiveSweep(plan(tmp_path), results, progress, console) as live:
        live.print_cell("seed 1  digits  no pruning")
    expected = "seed 1  digits  no pruning   [1 of 12 cells, 2 min left, expected end 22:01]\n"
    assert console.file.getvalue() == expected.replace("22:01", clock_text(NOW + 102, NOW))


@pytest.mark.parametrize(
    ("terminal", "kernel", "live"), [(True, False, True), (True, True, False), (False, True, False)]
)
def test_a_notebook_cell_and_a_pipe_get_lines_in_place_of_the_display(monkeypatch, terminal, kernel, live):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as the kernel and many CI systems set it
    monkeypatch.setenv("TERM", "xterm-color")
    if kernel:
        monkeypatch.setenv("JPY_PARENT_PID", "1")
    else:
        monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert make_console().is_interactive is live


def test_a_terminal_is_left_clean_after_an_error(tmp_path):
    results, progress, _ = of_digits()
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with pytest.raises(KeyboardInterrupt), LiveSweep(plan(tmp_path), results, progress, console):
        raise KeyboardInterrupt
    said = console.file.getvalue()
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert said.rstrip("\r\n").endswith("\x1b[2K")  # its last act is to clear its lines


def test_a_bisection_ends_by_rounds(tmp_path):
    results, progress, _ = of_digits([cell("digits", NONE, 0.0, 0)])
    progress.plan({"a": Work("cell", Group("digits", NONE))}, 1)
    live = LiveSweep(plan(tmp_path, "bisection"), results, progress, Console(file=io.StringIO(), force_terminal=True))
    assert "1 of at most 12 cells, 2 min left in this round, expected end" in shown(live)


def test_a_sweep_reports_what_it_submits_and_how_long_it_took():
    seen = []

    class Progress(SweepProgress):
        def submit(self, name):
            seen.append(name)
            super().submit(name)

        def end(self, name, seconds):
            seen.append((name, seconds >= 0.01))
            super().end(name, seconds)

    results = Results("s", {}, {}, {}, ["probe"])
    first = cell("digits", NONE, 0.0, 0)
    work = Work("cell", first.group)
    tasks = {
        "surrogate": Task(time.sleep, (0.02,), (), Work("surrogate")),
        "cell": Task(lambda: first, (), ("surrogate",), work),
    }
    progress = Progress(results, 1)
    assert list(run_tasks(tasks, Here(slots=3), progress)) == [first]
    assert seen == ["surrogate", ("surrogate", True), "cell", ("cell", False)]
    assert progress.workers == 2
    assert progress.left() is None


def test_the_support_of_several_targets_is_shown_whole_beside_a_long_label():
    targets = tuple(f"t{number}" for number in range(5))
    results = made_results(targets=targets, ablations=False, seeds=20)
    console = Console(file=io.StringIO(), width=110)
    console.print(_best(results))
    text = console.file.getvalue()
    assert text.count("over 100 cells of 5 targets, no interval yet") == 3
    assert "…" not in text
