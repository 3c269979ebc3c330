"""How far a sweep is, and when it is expected to end."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from threading import RLock
from typing import Literal

from tlprune.experiments.forecast import CostForecast, measured_costs
from tlprune.experiments.results import Group, Results
from tlprune.progress import time_text

__all__ = ["SweepProgress", "Work", "clock_text"]


@dataclass(frozen=True)
class Work:
    """A piece of work of a sweep, as far as its duration depends on it.

    Args:
        kind: Kind of work.
        group: Group of a cell; None for other kinds.
        method: Name of the method of a selection.
        shared: Whether an earlier cell pretrains for this one, so that the transfers alone are left.
    """

    kind: Literal["comparison", "surrogate", "selection", "cell"]
    group: Group | None = None
    method: str = ""
    shared: bool = False


class SweepProgress:
    """Counts the cells of a sweep and estimates when it ends, by kind of work, from what finished work took.

    A cell's duration is forecast from its share of the images, as in ``tlprune sweep --dry-run``; the usual surplus
    over that (loading, preparing) is added. One thread may ask while another reports.

    Args:
        results: Results to which the sweep adds cells.
        total: Number of cells of the whole sweep.
        clock: Clock in seconds since the epoch.
    """

    def __init__(self, results: Results, total: int, clock: Callable[[], float] = time.time) -> None:
        self.results = results
        self.total = total
        self.workers: int | None = None
        self.clock = clock
        self._lock = RLock()
        self._waiting: dict[str, Work] = {}
        self._submitted: list[str] = []
        self._started: dict[str, float] = {}
        self._took: list[tuple[Work, float]] = []
        self._known: tuple[int, int, _Durations | None] = (-1, -1, None)

    @property
    def done(self) -> int:
        """Number of finished cells."""
        return len(self.results.cells)

    def plan(self, works: Mapping[str, Work], workers: int | None) -> None:
        """Takes the work that is to be done next.

        Args:
            works: Work by name, which replaces what was planned before.
            workers: Number of pieces that run at a time; None if that is not known.
        """
        with self._lock:
            self._waiting, self._submitted, self._started = dict(works), [], {}
            self.workers = workers

    def submit(self, name: str) -> None:
        """Takes note that work was handed to the workers, which begin with it once one is free."""
        with self._lock:
            self._submitted.append(name)
            self._begin()

    def end(self, name: str, seconds: float) -> None:
        """Takes note that work has ended, and of the seconds that it took."""
        with self._lock:
            work = self._waiting.pop(name)
            self._submitted.remove(name)
            self._started.pop(name, None)
            self._took.append((work, seconds))
            self._begin()

    def left(self, running: int = 1) -> float | None:
        """Estimates the seconds until all planned work has ended; None before the first cell that pretrains has.

        Args:
            running: Number of pieces that run now; counts if the number of workers is not known.
        """
        with self._lock:
            durations = self._durations()
            if durations is None:
                return None
            now = self.clock()
            each = [
                max(durations.of(work) - (now - self._started.get(name, now)), 0.0)
                for name, work in self._waiting.items()
            ]
        return max(sum(each) / (self.workers or max(running, 1)), max(each, default=0.0))

    def text(self, running: int = 1, rounds: bool = False) -> str:
        """Says how many cells are done, how long the rest takes and when it ends.

        Args:
            running: Number of pieces that run now, as in :meth:`left`.
            rounds: Whether further work follows what is planned, as in a bisection.
        """
        left = self.left(running)
        cells = f"{self.done} of {'at most ' if rounds else ''}{self.total} cells"
        if left is None:
            return cells
        end = clock_text(self.clock() + left, self.clock())
        return f"{cells}, {time_text(max(left, 1.0))} left{' in this round' if rounds else ''}, expected end {end}"

    def _begin(self) -> None:
        if self.workers is not None:  # else jobs wait for a cluster, and nobody says when they begin
            for name in self._submitted[: self.workers]:
                self._started.setdefault(name, self.clock())

    def _durations(self) -> "_Durations | None":
        cells, ended, durations = self._known
        if (cells, ended) != (self.done, len(self._took)):
            costs = measured_costs(self.results)
            durations = None if costs is None else _Durations(costs, self.results, self._took)
            self._known = (self.done, len(self._took), durations)
        return durations


class _Durations:
    """Seconds that work takes, by its kind.

    Args:
        costs: Costs measured on finished cells.
        results: Finished cells, of earlier commands too.
        took: Work of this command with the seconds that it took.
    """

    def __init__(self, costs: CostForecast, results: Results, took: list[tuple[Work, float]]) -> None:
        self.costs = costs
        surrogates = [seconds for work, seconds in took if work.kind == "surrogate"]
        self.surrogate = median(surrogates) if surrogates else costs.surrogate
        self.selections: dict[str, list[float]] = {}
        for work, seconds in took:
            if work.kind == "selection":
                self.selections.setdefault(work.method, []).append(seconds)
        for cell in results.cells:
            if cell.method not in self.selections and cell.selection is not None:
                self.selections[cell.method] = [cell.selection_seconds]
        surplus = [seconds - self._forecast(work) for work, seconds in took if work.kind == "cell"]
        self.surplus = max(median(surplus), 0.0) if surplus else 0.0

    def of(self, work: Work) -> float:
        """Returns the expected seconds of a piece of work."""
        if work.kind == "surrogate":
            return self.costs.full if self.surrogate is None else self.surrogate
        if work.kind == "selection":
            known = self.selections.get(work.method) or [one for some in self.selections.values() for one in some]
            return median(known) if known else 0.0
        if work.kind == "comparison":
            return 0.0
        return self._forecast(work) + self.surplus

    def _forecast(self, work: Work) -> float:
        return self.costs.transfer if work.shared or work.group is None else self.costs.cell(work.group)


def clock_text(moment: float, now: float) -> str:
    """Formats a moment of the near future or past by the clock, with its day if that is not today.

    Args:
        moment: Moment in seconds since the epoch.
        now: The present, likewise.
    """
    then, today = time.localtime(moment), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%a %H:%M" if abs(moment - now) < 6 * 86400 else "%Y-%m-%d %H:%M", then)
