"""Progress of long work: bars on a terminal, lines in a log, nothing elsewhere."""

import os
import pty
import re
import threading
from contextlib import contextmanager

import pytest
import torch

from shards import samples, write_parquet, write_tar
from tlprune import RandomSelector, apply, progress, select
from tlprune.data.datasets import TensorImages
from tlprune.data.packed import PackedImages
from tlprune.models.backbones import create_backbone
from tlprune.progress import rate_text, show_progress, time_text
from tlprune.selection.features import SourceFeatures, extract_features
from tlprune.selection.kmeans import fit_clusters
from tlprune.selection.votes import cast_votes


class Clock:
    """A clock that a test sets, or that goes on by ``tick`` seconds whenever it is looked at."""

    now = 100.0
    tick = 0.0

    def __call__(self):
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "_clock", clock)
    return clock


@pytest.fixture
def ticking(clock):
    """Lets a second pass before each step, so that each is drawn, however fast this machine is."""
    clock.tick = 1.0


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


def test_an_estimated_total_is_said_to_be_one_and_becomes_exact(clock):
    with terminal() as shown, show_progress("apply", 1000, estimated=True) as advance:
        for steps, total in ((0, 1200), (300, None), (0, 600), (400, None)):
            clock.now += 10
            advance(steps, total)
    counts = re.findall(r"[\d,]+ of (?:about )?[\d,]+", plain(shown.text))
    said = ["0 of about 1,200", "300 of about 1,200", "300 of about 600", "700 of 700"]  # more than were expected
    assert list(dict.fromkeys(counts)) == said
    assert re.search(r"300 of about 1,200 +15 images/s +60 s left", plain(shown.text))


def test_a_log_says_that_a_total_is_estimated(clock, capfd):
    with show_progress("apply", 10_000, estimated=True) as advance:
        clock.now += 100
        advance(200)
    assert capfd.readouterr().err == "apply: 200 of about 10,000 images, 2 per second, 82 min left\n"


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


def test_a_command_in_a_cell_of_a_notebook_writes_lines_though_it_has_a_terminal(clock, monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    with terminal() as shown, show_progress("read", 10) as advance:
        clock.now += 100
        advance(5)
    assert shown.text == "read: 5 of 10 images, 0.05 per second, 2 min left\r\n"


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


@pytest.mark.usefixtures("ticking")
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


@pytest.fixture
def applied(coloured, surrogate_file):
    """Applies a Selection of four classes, by the prediction of a network or by labels."""
    names = [f"colour{number:02}" for number in range(4)]
    selection = select(coloured(4, 5), selector=RandomSelector(1))

    def run(source, output, by="prediction"):
        surrogate = str(surrogate_file(names)) if by == "prediction" else None
        return apply(selection, source, output, units=2, by=by, surrogate=surrogate, device="cpu")

    return run


def rows_of(text):
    return re.findall(r"apply [^\r\n]*", plain(text))


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("kind", ["folder", "tars", "parquet"])
def test_apply_shows_images_per_second_and_the_time_left(kind, applied, class_folder, tmp_path):
    if kind == "folder":
        source = str(class_folder("in", {"a": 50, "b": 100}))
    else:
        rows = [(number % 4, number) for number in range(150)]
        for shard, part in enumerate((rows[:70], rows[70:80], rows[80:])):
            if kind == "tars":
                write_tar(tmp_path / f"in/{shard}.tar", samples(part, None))
            else:
                write_parquet(tmp_path / f"in/{shard}.parquet", part)
        source = f"{'webdataset' if kind == 'tars' else kind}:{tmp_path}/in"
    with terminal() as shown:
        applied(source, tmp_path / "out")
    said = rows_of(shown.text)
    assert re.search(r"150 of 150 +[\d,]+ images/s +in \d", said[-1])
    assert any(re.search(r"64 of (about )?\d+ +[\d,.]+ images/s +\d+ s left", row) for row in said)  # a batch
    assert any(" of about " in row for row in said) == (kind != "folder")
    with terminal() as shown:
        applied(source, tmp_path / "out")  # nothing is left to do
    assert rows_of(shown.text) == []


def test_other_ranks_of_apply_show_nothing(applied, class_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with terminal() as shown:
        applied(str(class_folder("in", {"colour00": 5})), tmp_path / "out", "labels")
    assert shown.text == ""
