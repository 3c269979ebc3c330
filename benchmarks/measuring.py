"""Interleaved runs, ratios pair by pair, and rows that pass or fall short."""

import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

__all__ = ["Row", "interleaved", "machine", "not_measured", "processor_seconds", "ratios", "versions"]


@dataclass
class Row:
    """What was measured of one path, held against its bar.

    Args:
        path: What is measured.
        bar: The least (or most) that passes; None where it is only told.
        values: One for each pair of runs.
        what: In words, with its unit.
        least: Whether ``bar`` is the least; else it is the most.
        facts: What else there is to know.
    """

    path: str
    what: str
    bar: float | None
    values: list[float]
    least: bool = True
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """``pass``, ``SHORT``, ``told`` where there is no bar, or ``not measured``."""
        if not self.values:
            return "not measured"
        if self.bar is None:
            return "told"
        return "pass" if (self.value >= self.bar if self.least else self.value <= self.bar) else "SHORT"

    def line(self) -> str:
        """For a person."""
        if not self.values:
            return f"{'not measured':<13}{self.path:<34} {self.what}: {self.facts.get('why', '')}"
        sign = ">=" if self.least else "<="
        bar = "" if self.bar is None else f"  (bar {sign} {self.bar:g})"
        spread = "" if len(self.values) == 1 else f" [{min(self.values):.3g} to {max(self.values):.3g}]"
        return f"{self.verdict:<13}{self.path:<34} {self.value:8.4g}{spread:<22} {self.what}{bar}"

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self) | ({"median": self.value} if self.values else {}) | {"verdict": self.verdict}


def not_measured(path: str, what: str, why: str) -> Row:
    """A row that says why there is no figure."""
    return Row(path, what, None, [], facts={"why": why})


def interleaved(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each way, by turns in an order that changes from round to round.

    Args:
        ways: What is timed, by name.
        rounds: Runs of each.
        warm: Whether each is run once before, uncounted.
        clock: Says how many seconds have passed; ``time.process_time`` counts those of this process alone, for ways
            that run on one thread of a machine that others use.
    """
    drawn = random.Random(0)  # noqa: S311 - an order, not a secret
    taken: dict[str, list[float]] = {name: [] for name in ways}
    if warm:
        for way in ways.values():
            way()
    for _ in range(rounds):
        names = list(ways)
        drawn.shuffle(names)
        for name in names:
            begin = clock()
            ways[name]()
            taken[name].append(clock() - begin)
    return taken


def processor_seconds() -> float:
    """Seconds that processors worked for this process and the processes it started, ended threads included; Linux."""
    waiting, ticks = [os.getpid()], 0
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        for thread in (process / "task").iterdir():
            with suppress(FileNotFoundError):  # a thread that has just ended
                waiting += [int(child) for child in (thread / "children").read_text().split()]
    return ticks / os.sysconf("SC_CLK_TCK")


def ratios(over: list[float], under: list[float]) -> list[float]:
    """Round by round; of seconds, ``ratios(theirs, ours)`` is how many times as fast we are."""
    return [a / b for a, b in zip(over, under, strict=True)]


def machine() -> dict[str, Any]:
    """The hardware, as far as it can be told."""
    name = platform.processor() or platform.machine()
    flags: set[str] = set()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
        flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    known = sorted(flags & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"})
    return {"processor": name, "cores": os.cpu_count(), "instructions": known, "gpu": gpu}


def versions(*packages: str) -> dict[str, str]:
    """Of what was measured."""
    from importlib.metadata import version

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True)  # noqa: S607
    return {"tlprune": commit.stdout.strip(), **{name: version(name) for name in packages}}
