"""What the benchmarks make of their figures. They themselves take half an hour, and are not run here."""

import importlib.util
import sys
from pathlib import Path

import pytest

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
