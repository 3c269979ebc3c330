"""What the benchmarks make of their figures. They themselves take half an hour, and are not run here."""

import importlib
import importlib.util
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


measuring = load("measuring")


@pytest.mark.parametrize(
    ("bar", "values", "least", "verdict"),
    [
        (2.0, [1.0, 2.0, 9.0], True, "pass"),
        (2.0, [1.0, 1.9, 9.0], True, "SHORT"),
        (2.0, [1.0, 1.9, 9.0], False, "pass"),
        (2.0, [1.0, 2.1, 9.0], False, "SHORT"),
        (None, [5.0], True, "told"),
        (2.0, [], True, "not measured"),
    ],
)
def test_the_median_decides(bar, values, least, verdict):
    row = measuring.Row("path", "times something", bar, values, least, {"why": "no reason"})
    assert row.verdict == verdict
    assert row.line().startswith(verdict)
    assert row.as_json()["verdict"] == verdict


def test_ratios_are_taken_round_by_round():
    calls = []
    taken = measuring.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4)
    assert sorted(calls) == ["a"] * 5 + ["b"] * 5
    assert [len(seconds) for seconds in taken.values()] == [4, 4]
    assert measuring.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_every_path_is_there():
    text = (BENCHMARKS / "bars.py").read_text()
    for file in (BENCHMARKS / "paths").glob("*.py"):
        if "def measure(" in file.read_text():
            assert f'"{file.stem}"' in text


@pytest.fixture
def single_images(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("single_images")
    for name in ("single_images", "selection_at_scale", "measuring"):
        sys.modules.pop(name, None)


def test_selectors_of_single_images_are_timed_at_a_small_size(single_images, tmp_path):
    images, voters = 3000, 200
    for size in (images // 10, images):
        assert single_images.SourceFeatures(
            single_images.nn.Flatten(), single_images.DrawnFeatures(size), tmp_path
        ).extract()
    search, assign, stream = single_images.few_anchors(images, voters, 1, tmp_path)
    assert search.bar == 1.5
    assert search.verdict in ("pass", "SHORT")
    assert search.facts["features read, in sources"] == search.facts["passes after the mean"] == 1
    seconds = search.facts["seconds"]
    assert search.values == [seconds["ours"][0] / seconds["search"][0]]
    assert assign.values == [seconds["ours"][0] / seconds["assign"][0]]
    assert stream.values == [seconds["ours"][0] / seconds["stream"][0]]
    [many] = single_images.many_anchors(images, voters, 1, tmp_path)
    assert many.facts["anchors"] == 20
    assert many.facts["rounds"] == 15
    [draw] = single_images.resampling(images, 1, tmp_path)
    assert draw.values[0] > 0


def test_the_most_that_was_held_is_seen_though_it_is_freed(single_images):
    if not Path("/proc/self/status").is_file():
        pytest.skip("reads /proc")

    def hold(pages: int) -> None:
        # pages of its own: an array may lie where this process has freed another one
        with mmap.mmap(-1, 4096 * pages, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
            for page in range(pages):
                held[4096 * page] = 1
            time.sleep(0.2)  # the watching thread comes to its turn on a busy machine, too

    large = single_images.most_held(lambda: hold(2**14))
    small = single_images.most_held(lambda: hold(2**7))
    assert 60e6 < large < 90e6
    assert small < 20e6


def test_superclasses_are_class_folders_without_an_image_twice(tmp_path):
    making = load("make_superclasses")
    names = sorted(one for classes in making.SUPERCLASSES.values() for one in classes)
    assert len(names) == len(set(names)) == 100

    class Cifar:
        """As much of torchvision's CIFAR100 as is used: 230 images of each class, told apart by their pixels."""

        class_to_idx: ClassVar = {name: label for label, name in enumerate(names)}
        targets: ClassVar = [place % 100 for place in range(23_000)]

        def __getitem__(self, place):
            return Image.new("RGB", (1, 1), (place % 100, place // 100, 0)), place % 100

    few = {"fish": making.SUPERCLASSES["fish"]}
    making.SUPERCLASSES = few
    making.write(Cifar(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fish"]
    for one in few["fish"]:
        counts = {part: len(list((tmp_path / "fish" / part / one).iterdir())) for part in ("train", "val", "test")}
        assert counts == {"train": 20, "val": 20, "test": 180}
        pixels = {Image.open(path).getpixel((0, 0)) for path in (tmp_path / "fish").glob(f"*/{one}/*.png")}
        assert len(pixels) == 220
        assert {red for red, _, _ in pixels} == {names.index(one)}


@pytest.mark.slow
def test_what_needs_a_gpu_runs_at_a_small_size_without_one(tmp_path):
    """Every part gives a figure here, so that none fails on the first card that it meets."""
    script = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--output", str(tmp_path / "gpu.json")]
    done = subprocess.run(
        script, check=False, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row for row in rows if not row["values"]] == []
    assert all(value > 0 for row in rows for value in row["values"])
    parts = (
        "forward",
        "votes",
        "training step",
        "assignment",
        "k-means",
        "select, NearestImages",
        "loader",
        "small trainings",
        "slice of a sweep",
        "compiled",
    )
    for part in parts:
        assert any(row["path"].startswith(part) for row in rows), part
    assert len(done.stdout.splitlines()) == len(rows) + 1


def test_a_part_that_fails_says_why_and_the_next_one_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = load("gpu")

    def broken(sizes):
        yield gpu.Row("first", "seconds", None, [1.0])
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setitem(gpu.PARTS, "votes", broken)
    first, second = gpu.rows_of("votes", gpu.SMALL)
    assert first.values == [1.0]
    assert (second.values, second.facts) == ([], {"why": "needs timm, which is not installed"})


def test_a_part_is_ended_when_the_time_is_over(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = load("gpu")
    (row,) = gpu.rows_apart("votes", small=True, left=0.2)
    assert (row.values, row.facts) == ([], {"why": "the time is over"})


def test_the_processors_time_of_started_processes_counts_and_waiting_does_not():
    work = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint('done'); input()"
    process = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    begin = measuring.processor_seconds()
    assert process.stdout.readline() == "done\n"
    worked = measuring.processor_seconds()
    time.sleep(0.3)
    waited = measuring.processor_seconds()
    process.communicate("\n")
    assert worked - begin > 0.2
    assert waited - worked < 0.15
