"""Progress of long work: bars on a terminal, lines in a log, nothing elsewhere."""

import os
import pty
import re
import threading
from contextlib import contextmanager

import pytest
import torch

from tlprune import progress
from tlprune.data.datasets import TensorImages
from tlprune.data.packed import PackedImages
from tlprune.models.backbones import create_backbone
from tlprune.progress import rate_text, show_progress, time_text
from tlprune.selection.features import SourceFeatures, extract_features
from tlprune.selection.kmeans import fit_clusters
from tlprune.selection.votes import cast_votes


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "_clock", clock)
    return clock


class Terminal:
    """A terminal of 100 columns in place of standard error, and what was sent to it."""

    text = ""


@contextmanager
def terminal(delay=0.0):
    """Replaces standard error, which pytest itself replaces between a fixture and its test."""
    ours, theirs = pty.openpty()
    shown, parts = Terminal(), []

    def read():
        while not parts or b"\0" not in parts[-1]:
            parts.append(os.read(ours, 65536))

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(theirs, "w") as stream:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "100")
        patch.setattr(progress._Bar, "delay", delay)
        patch.setattr("sys.stderr", stream)
        try:
            yield shown
        finally:
            stream.write("\0")
            stream.flush()
            reading.join(10)
            shown.text = b"".join(parts).decode().rstrip("\0")
    os.close(ours)


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_bar_has_a_rate_and_the_time_left_and_gives_the_terminal_back(clock):
    with terminal() as shown, show_progress("read pictures", 1000) as advance:
        for _ in range(10):
            clock.now += 2
            advance(50)
        clock.now += 20
        advance(500)
    said = shown.text
    rows = re.findall(r"read pictures [^\r\n]*", plain(said))
    assert re.search(r"500 of 1,000 +25 images/s +20 s left", rows[10])
    assert re.search(r"1,000 of 1,000 +25 images/s +in 40 s", rows[-1])
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # the cursor is shown again


def test_a_bar_is_left_where_the_work_failed(clock):
    with terminal() as shown, pytest.raises(ValueError, match="broken"), show_progress("read", 10) as advance:
        clock.now += 1
        advance(4)
        raise ValueError("broken")
    said = shown.text
    assert "4 of 10" in plain(said).splitlines()[-2]
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


def test_quick_work_draws_nothing(clock):
    with terminal(progress.DELAY) as shown, show_progress("read", 10) as advance:
        clock.now += 0.4
        advance(10)
    assert shown.text == ""


def test_a_bar_is_drawn_a_few_times_per_second_alone(clock):
    with terminal() as shown, show_progress("read", 10_000) as advance:
        for _ in range(10_000):
            clock.now += 0.001
            advance(1)
    assert plain(shown.text).count("of 10,000") <= 60  # five per second


def test_a_log_has_few_lines(clock, capfd):
    with show_progress("features", 100_000) as advance:
        for _ in range(1000):
            clock.now += 36  # ten hours
            advance(100)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "features: 200 of 100,000 images, 2.8 per second, 9 h 59 min left"
    assert 5 < len(lines) <= 11


def test_a_log_has_nothing_of_the_first_minute(clock, capfd):
    with show_progress("features", 10) as advance:
        clock.now += 59
        advance(10)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK"])
def test_other_ranks_and_inner_work_show_nothing(monkeypatch, variable):
    with terminal() as shown:
        with show_progress("outer", 2) as advance, show_progress("inner", 2) as inner:
            advance(1)
            inner(2)
        monkeypatch.setenv(variable, "1")
        with show_progress("another rank", 2) as advance:
            advance(2)
    said = plain(shown.text)
    assert "outer" in said
    assert "inner" not in said
    assert "another rank" not in said


def test_a_process_of_a_sweep_shows_nothing(monkeypatch):
    monkeypatch.setattr(progress, "_hidden", False)
    progress.hide_progress()
    with terminal() as shown, show_progress("read", 2) as advance:
        advance(2)
    assert shown.text == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (5800, "97 min"), (5990, "1 h 40 min"), (90_000, "25 h 0 min")],
)
def test_times_are_short(seconds, text):
    assert time_text(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(12_345.6, "12,346"), (9.96, "10"), (3.14, "3.1"), (0.012, "0.012")])
def test_rates_have_two_digits_at_least(rate, text):
    assert rate_text(rate) == text


def test_long_work_shows_how_far_it_is(tmp_path, drawn_source):
    images, seen, backbone = drawn_source
    features = SourceFeatures(backbone, seen, tmp_path / "features")
    with terminal() as shown:
        features.extract()
        fit_clusters(features, 4, seed=0)
        width = extract_features(backbone, seen).shape[1]
        cast_votes(backbone, seen, width)
        PackedImages(images, tmp_path / "packed", "raw256").make([0])
    said = plain(shown.text)
    named = ("features ", "cluster 150 images", "join images", "features of the target", "votes", "pack as raw256")
    for words in named:
        assert words in said
    assert said.count("150 of 150") >= 5
    assert re.search(r"\d of 20 +[\d,.]+ iterations/s", said)


@pytest.fixture
def drawn_source():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (150, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = TensorImages(pixels, torch.arange(150) % 3, ("a", "b", "c"))
    backbone = create_backbone("resnet8_w8")

    class Seen:
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return images[index][0].float() / 255, 0

        def name(self, index):
            return str(index)

    return images, Seen(), backbone
