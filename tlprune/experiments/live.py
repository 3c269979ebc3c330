"""What a sweep shows while it runs: on a terminal a display that changes, elsewhere lines."""

import time
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tlprune.experiments.best_so_far import best_so_far
from tlprune.experiments.results import Results
from tlprune.experiments.running import Note, read_notes
from tlprune.experiments.sweep_plan import Sweep
from tlprune.experiments.sweep_progress import SweepProgress, clock_text
from tlprune.experiments.wording import mode_label
from tlprune.progress import time_text

__all__ = ["LiveSweep"]

_MOST_RUNNING = 16
_MOST_METHODS = 10
"""Rows that are shown."""

_BAR = 16
_RUNNING: list[tuple[int, JustifyMethod]] = [(10, "left"), (16, "left"), (28, "left"), (12, "left"), (8, "right")]
_COMPARED: list[tuple[int, JustifyMethod]] = [(26, "left"), (4, "right"), (20, "left"), (44, "left")]
"""Largest widths in columns, and how columns are aligned: rows of both fit into 80 columns as a rule."""

_PATIENCE = 20.0
"""The comparison of methods is computed again after as many times the seconds that it took."""


class LiveSweep:
    """Display of a sweep that runs; leaves the terminal as it was when it ends.

    Args:
        sweep: Sweep that runs.
        results: Results to which it adds cells.
        progress: Its progress.
        console: Console to write to.
    """

    def __init__(self, sweep: Sweep, results: Results, progress: SweepProgress, console: Console) -> None:
        self.sweep, self.results, self.progress, self.console = sweep, results, progress, console
        self.begun = time.time()
        self._best: RenderableType | None = None
        self._best_of = 0
        self._best_next = 0.0
        self._live: Live | None = None
        if console.is_interactive:
            self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def print_cell(self, line: str) -> None:
        """Prints the line of a finished cell above the display; where there is none, with the progress behind it."""
        text = line
        if self._live is None:
            text += f"   [{self._text(len(read_notes(self.sweep.output)))}]"
        self.console.print(text, soft_wrap=True)

    def render(self) -> RenderableType:
        """Returns what the display shows now."""
        parts: list[RenderableType] = [Text()]
        notes = read_notes(self.sweep.output)
        head = Table.grid(padding=(0, 1))
        head.add_column(min_width=5)
        head.add_column(min_width=_BAR)
        head.add_column(no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=max(self.progress.total, 1), completed=self.progress.done, width=_BAR)
        head.add_row("sweep", bar, self._text(len(notes)))
        parts.append(head)
        if notes:
            parts.append(_running(notes, self.progress.clock()))
        if (best := self._compared()) is not None:
            parts.append(best)
        return Group(*parts)

    def _text(self, running: int) -> str:
        said = self.progress.text(running, rounds=self.sweep.search == "bisection")
        if self.progress.left(running) is None:
            said += f", begun {clock_text(self.begun, self.progress.clock())}, end not known yet"
        return said

    def _compared(self) -> RenderableType | None:
        """Returns the comparison of methods, which is computed again when cells were added, and not too often."""
        now, done = time.monotonic(), self.progress.done
        if done != self._best_of and now >= self._best_next:
            self._best, self._best_of = _best(replace(self.results, cells=self.results.cells[:])), done
            self._best_next = time.monotonic() + _PATIENCE * (time.monotonic() - now)
        return self._best


def _running(notes: list[Note], now: float) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for most, justify in _RUNNING:
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=most, justify=justify)
    for note in notes[:_MOST_RUNNING]:
        took = time_text(max(now - note.since, 0.0))
        table.add_row("" if note.seed is None else f"  seed {note.seed + 1}", note.target, note.what, note.stage, took)
    if len(notes) > _MOST_RUNNING:
        table.add_row("", "", f"and {len(notes) - _MOST_RUNNING} more", "", "")
    return table


def _best(results: Results) -> RenderableType | None:
    rows = list(best_so_far(results))
    if not rows:
        return None
    mode = mode_label(results.modes[0], results.recipes)
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for most, justify in _COMPARED:
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=most, justify=justify)
    for row in rows[:_MOST_METHODS]:
        table.add_row(f"  {row.label}", row.pruned, row.points, row.support)
    title = f"best so far, minus no pruning by {mode}, in points; nothing is decided before the end"
    more = [Text(f"  and {len(rows) - _MOST_METHODS} more methods")] if len(rows) > _MOST_METHODS else []
    return Group(Text(title, no_wrap=True, overflow="ellipsis"), table, *more)
