"""``tlprune report --follow``: a page that is written again while a sweep runs."""

import os
import re
import time
from dataclasses import replace

import pytest

from browser import CHROMIUM, browser
from sweeps import made_results
from tlprune.cli import main
from tlprune.commands import following
from tlprune.experiments.partial import CELLS_PLANNED
from tlprune.experiments.results import RESULTS
from tlprune.experiments.running import NOTES

ENDED = "2026-11-26 23:00:00"


@pytest.fixture
def results():
    whole = made_results(targets=("pets",), ratios=(0.25, 0.5), ablations=False)
    return replace(whole, provenance={"begun": "now", CELLS_PLANNED: len(whole.cells), "seeds": 3})


@pytest.fixture
def steps(monkeypatch):
    """Takes one step of a sweep, or of the clock, in place of each wait between two looks; a last one interrupts."""

    def set_steps(*todo):
        left = list(todo)

        def wait(_):
            left.pop(0)() if left else interrupt()

        monkeypatch.setattr(following, "_wait", wait)
        monkeypatch.setattr(following, "_SHARE", 0)

    return set_steps


def interrupt():
    raise KeyboardInterrupt


def saved(results, folder, cells, ended=False):
    """A step that writes the first cells, as a sweep does."""

    def save():
        provenance = results.provenance | ({"ended": ENDED} if ended else {})
        replace(results, cells=results.cells[:cells], provenance=provenance).save(folder)

    return save


def page_of(folder):
    return (folder / "report" / "index.html").read_text()


def read(folder, seen):
    def look():
        seen.append(page_of(folder))

    return look


def test_a_page_is_written_for_each_change_until_the_sweep_has_ended(tmp_path, results, steps, capsys):
    folder, seen = tmp_path / "sweep", []
    count = len(results.cells)
    steps(
        folder.mkdir,
        saved(results, folder, 0),
        saved(results, folder, 5),
        lambda: None,
        read(folder, seen),
        saved(results, folder, 6),
        lambda: None,
        read(folder, seen),
        saved(results, folder, count, ended=True),
        lambda: pytest.fail("followed a sweep that has ended"),
    )
    assert main(["report", str(folder), "--follow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}: waiting for its first results, no such folder yet"
    assert lines[1] == f"{folder}: waiting for its first results"
    assert lines[2] == f"0 of {count} cells are finished; waiting for the first"
    page = folder / "report" / "index.html"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  5 of {count} cells, page {page}", lines[3])
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  6 of {count} cells, page {page}", lines[4])
    assert lines[5].startswith("pets: By linear probe, over 3 seeds: LM with")
    for cells, text in zip((5, 6), seen, strict=True):
        assert text.count('<meta http-equiv="refresh" content="10">') == 1
        said = rf"{cells} of {count} cells, written at \d\d:\d\d:\d\d, reloads itself every 10 s"
        assert re.search(rf'<header>\s*<p class="followed" role="status">{said}</p>', text)
    last = page_of(folder)
    assert "refresh" not in last
    assert "reloads itself" not in last
    assert "not ended" not in last


def test_an_interrupted_page_reloads_itself_no_more(tmp_path, results, steps, capsys):
    folder, seen = tmp_path / "sweep", []
    saved(results, folder, 5)()
    steps(read(folder, seen))
    assert main(["report", str(folder), "--follow"]) == 130
    assert "refresh" in seen[0]
    assert "refresh" not in page_of(folder)
    assert f"sweep has not ended: 5 of {len(results.cells)} cells are finished." in page_of(folder)
    assert capsys.readouterr().out.endswith("index.html reloads itself no more\n")


def test_nothing_is_written_if_nothing_was_there(tmp_path, steps):
    steps()
    assert main(["report", str(tmp_path / "nowhere"), "--follow"]) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_has_ended_is_reported_at_once(tmp_path, results, steps):
    saved(results, tmp_path, len(results.cells), ended=True)()
    steps()
    assert main(["report", str(tmp_path), "--follow"]) == 0
    assert "refresh" not in page_of(tmp_path)


def test_a_sweep_that_was_killed_is_waited_for_and_that_is_said_a_few_times(
    tmp_path, results, steps, capsys, monkeypatch
):
    saved(results, tmp_path, 5)()
    skip, now = [0.0], time.time
    monkeypatch.setattr(following.time, "time", lambda: now() + skip[0])

    def later():
        skip[0] += 300

    steps(*[later] * 10, saved(results, tmp_path, len(results.cells), ended=True))
    assert main(["report", str(tmp_path), "--follow"]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"nothing has changed for (\d+) min", said) == ["10", "25"]
    assert "goes on when its command is given again; still waiting" in said


def test_stages_that_run_are_a_sign_of_life(tmp_path, results, steps, capsys, monkeypatch):
    saved(results, tmp_path, 5)()
    later = time.time() + 500
    monkeypatch.setattr(following.time, "time", lambda: later)
    monkeypatch.setattr(following, "_STALE", 400.0)
    (tmp_path / NOTES).mkdir()
    os.utime(tmp_path / NOTES, (later - 10, later - 10))
    steps(lambda: None)
    assert main(["report", str(tmp_path), "--follow"]) == 130
    assert "nothing has changed" not in capsys.readouterr().out


def test_several_sweeps_are_followed_until_all_have_ended(tmp_path, results, steps):
    first, second, seen = tmp_path / "a", tmp_path / "b", []
    other = replace(
        results,
        name="b",
        targets={"cars": results.targets["pets"]},
        cells=[replace(one, target="cars") for one in results.cells],
    )
    count = len(results.cells)
    saved(results, first, count, ended=True)()
    saved(other, second, 4)()
    steps(read(first, seen), saved(other, second, count, ended=True))
    assert main(["report", str(first), str(second), "--follow"]) == 0
    assert f"{count + 4} of {2 * count} cells, written at" in seen[0]
    assert "refresh" not in page_of(first)


def test_what_cannot_be_followed_is_refused(tmp_path, results, capsys):
    (tmp_path / "one.safetensors").write_bytes(b"")
    assert main(["report", str(tmp_path / "one.safetensors"), "--follow"]) == 2
    assert capsys.readouterr().err == (
        f"tlprune: error: --follow: expected the folder of a sweep, got the file {tmp_path / 'one.safetensors'}\n"
    )
    (tmp_path / RESULTS).write_text("{")
    assert main(["report", str(tmp_path), "--follow"]) == 2
    assert "damaged, not JSON" in capsys.readouterr().err
    saved(results, tmp_path, 1)()
    text = (
        (tmp_path / RESULTS).read_text().replace(f'"{CELLS_PLANNED}": {len(results.cells)}', f'"{CELLS_PLANNED}": -1')
    )
    (tmp_path / RESULTS).write_text(text)
    assert main(["report", str(tmp_path), "--follow"]) == 2
    assert "damaged (-1 planned cells)" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_sweep_that_has_not_ended_claims_nothing(tmp_path, results, capsys, seeds):
    """With every cell of the first seeds, of which three would support claims."""
    cells = [one for one in results.cells if one.seed < seeds]
    part = replace(results, cells=cells, provenance=results.provenance | {CELLS_PLANNED: 5 * len(cells)})
    part.save(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "so nothing is claimed yet" in said
    page = page_of(tmp_path)
    body = page[: page.index('id="reading"')]
    assert not re.search(r"better|worse|clearly|can go for|its winning subset", body[body.index("<header>") :])
    assert ">so far<" in body
    verdicts = re.findall(
        r",(better|worse|unclear|unequal|two seeds|so far)\b", (tmp_path / "report/summary.csv").read_text()
    )
    assert set(verdicts) == {"so far"}
    replace(part, provenance=part.provenance | {"ended": ENDED}).save(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert ">so far<" not in page_of(tmp_path)
    assert (">better<" in page_of(tmp_path)) == (seeds > 2)


def test_targets_together_claim_nothing_before_the_end(tmp_path, capsys):
    whole = made_results(targets=tuple(f"t{number}" for number in range(6)), ratios=(0.5,), seeds=2, ablations=False)
    part = replace(whole, provenance={"begun": "now", CELLS_PLANNED: len(whole.cells) + 1})
    part.save(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert not re.search(r"clearly|at most 1 point below no pruning \(", capsys.readouterr().out)
    page = page_of(tmp_path)
    body = page[page.index("<header>") : page.index('id="reading"')]
    assert not re.search(r'class="(better|worse)"|clearly|can go', body)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_page_that_is_followed_asks_for_nothing_else(tmp_path, results, steps):
    saved(results, tmp_path, 5)()
    seen = []
    steps(read(tmp_path, seen))
    main(["report", str(tmp_path), "--follow"])
    copy = tmp_path / "copy.html"
    copy.write_text(seen[0])
    with browser(tmp_path / "profile") as page:
        page.open(copy)
        assert page.asked_for == []
        assert page.said == []
