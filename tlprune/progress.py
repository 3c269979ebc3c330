"""Progress of long work: on a terminal a bar with a rate and the time left, in a log a line now and then.

Bars go to standard error and are drawn by the process that works, without a thread: work that is done within
:data:`DELAY` shows nothing, and other work looks at the clock after each step and draws a few times per second.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tlprune.processes import rank_and_world

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Advance", "hide_progress", "in_notebook", "rate_text", "show_progress", "time_text"]

DELAY = 0.5
"""Seconds of work before a bar is drawn."""

_TICK = 0.2
"""Seconds between two drawings of a bar."""

_LINE_EVERY = 60.0
"""Fewest seconds between two lines in a log."""

_LINES = 10
"""Lines that a log gets of work that goes on at an even rate, at most."""

_clock = time.monotonic

_shown = False
"""Whether this process draws a bar, within which no other is drawn."""

_hidden = False


class Advance(Protocol):
    """Function that counts steps of shown work."""

    def __call__(self, steps: int, total: int | None = None) -> None:
        """Adds steps that are done.

        Args:
            steps: Number of further steps.
            total: Number of all steps, where it is known better than before; None leaves it.
        """
        ...


def hide_progress() -> None:
    """Shows no progress in this process from now on; for a process whose parent shows its own."""
    global _hidden
    _hidden = True


@contextmanager
def show_progress(what: str, total: int, unit: str = "images", estimated: bool = False) -> Iterator[Advance]:
    """Shows how far a piece of work is. Ranks above 0 show nothing, and neither does work inside of other shown work.

    Args:
        what: Name of the work.
        total: Number of steps; 0 shows nothing.
        unit: Word for the steps, in the plural.
        estimated: Whether the number of steps is an estimate, and is said to be one until the last step.

    Yields:
        Function to call with the number of further steps that are done.
    """
    global _shown
    if total < 1 or _hidden or _shown or not _is_first():
        yield _ignore
        return
    rank, world = rank_and_world()
    name = what if world == 1 else f"{what}, process {rank + 1} of {world}"
    shown = (_Bar if _on_terminal() else _Lines)(name, total, unit, estimated)
    _shown = True
    try:
        yield shown.advance
    finally:
        _shown = False
        shown.close()


def in_notebook() -> bool:
    """Returns whether the kernel of a notebook is this process or has started it, as ``!`` in a cell does.

    No line can be drawn over in a cell, although the kernel gives commands a terminal.
    """
    return "JPY_PARENT_PID" in os.environ


def rate_text(rate: float) -> str:
    """Formats a number of steps per second.

    Example:
        >>> rate_text(1234.5), rate_text(0.25)
        ('1,234', '0.25')
    """
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def time_text(seconds: float) -> str:
    """Formats a duration for a reader who waits.

    Example:
        >>> time_text(42), time_text(200), time_text(8000), time_text(200_000)
        ('42 s', '3 min', '2 h 13 min', '2 d 7 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _ignore(steps: int, total: int | None = None) -> None:
    pass


def _is_first() -> bool:
    """Returns whether this is rank 0, or will be: ranks are known by their environment before they have a group."""
    return rank_and_world()[0] == 0 and os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def _on_terminal() -> bool:
    from rich.console import Console

    # rich would look for ipywidgets in a notebook
    return not in_notebook() and Console(stderr=True, force_jupyter=False).is_interactive


class _Shown:
    """Counts steps, and draws when it is time.

    Args:
        name: Name of the work.
        total: Number of steps.
        unit: Word for the steps.
        estimated: Whether ``total`` is an estimate.
    """

    delay = DELAY

    def __init__(self, name: str, total: int, unit: str, estimated: bool) -> None:
        self.name, self.total, self.unit, self.estimated = name, total, unit, estimated
        self.done = 0
        self.started = _clock()
        self.next = self.started + self.delay

    @property
    def about(self) -> str:
        """Word before a number of all steps that is an estimate."""
        return "about " if self.estimated and self.done < self.total else ""

    def advance(self, steps: int, total: int | None = None) -> None:
        """Adds steps that are done, and takes a better number of all steps."""
        self.done += steps
        self.total = max(self.total if total is None else total, self.done)
        now = _clock()
        if now >= self.next:
            self.next = now + self.draw(now - self.started)

    def draw(self, elapsed: float) -> float:
        """Draws, and returns the seconds until the next time."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the drawing."""


class _Lines(_Shown):
    """Lines in a log: none in the first minute."""

    delay = _LINE_EVERY

    def draw(self, elapsed: float) -> float:
        """Writes a line."""
        rate = self.done / elapsed
        left = (self.total - self.done) / rate if rate else 0.0
        text = f"{self.name}: {self.done:,} of {self.about}{self.total:,} {self.unit}, {rate_text(rate)} per second"
        if sys.stderr is not None:
            sys.stderr.write(f"{text}, {time_text(left)} left\n")
            sys.stderr.flush()
        return max(_LINE_EVERY, (elapsed + left) / _LINES)


class _Bar(_Shown):
    """A bar on a terminal, which stays there when the work is done."""

    def __init__(self, name: str, total: int, unit: str, estimated: bool) -> None:
        super().__init__(name, total, unit, estimated)
        self.bar: tuple[Progress, TaskID] | None = None

    def draw(self, elapsed: float) -> float:
        """Draws the bar; the first time, opens it."""
        if self.bar is None:
            progress = _bar()
            progress.start()
            self.bar = progress, progress.add_task(self.name, total=self.total, about=self.about, rate="", left="")
        progress, task = self.bar
        rate = self.done / elapsed
        left = f"{time_text((self.total - self.done) / rate)} left" if rate else ""
        if self.done >= self.total:
            left = f"in {time_text(elapsed)}"
        progress.update(task, rate=f"{rate_text(rate)} {self.unit}/s", left=left, about=self.about)
        progress.update(task, completed=self.done, total=self.total, refresh=True)
        return _TICK

    def close(self) -> None:
        """Draws the bar for the last time, and gives the terminal back."""
        if self.bar is not None:
            self.draw(max(_clock() - self.started, 1e-9))
            self.bar[0].stop()


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    counted = TextColumn("{task.completed:,} of {task.fields[about]}{task.total:,}")
    columns = (TextColumn("{task.description}"), BarColumn(), counted)
    more = (TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[left]}"))
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, force_jupyter=False)
    return Progress(*columns, *more, console=console, auto_refresh=False)
