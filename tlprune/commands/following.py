"""``tlprune report --follow``: writes the page again whenever the results of a sweep that runs change."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from tlprune.errors import InputError
from tlprune.experiments.page.followed import Followed, count_text
from tlprune.experiments.results import RESULTS, Results
from tlprune.experiments.running import NOTES
from tlprune.progress import time_text

__all__ = ["follow", "require_folders"]

_LOOK = 2.0
"""Seconds between two looks at the results."""

_STALE = 600.0
"""Seconds without a change after which that is said."""

_SHARE = 5
"""Times the seconds that a page takes to write between two pages, so that this takes little from the sweep."""

_wait = time.sleep


def require_folders(paths: Sequence[Path]) -> None:
    """Rejects files, which do not change as a sweep does.

    Args:
        paths: What is to be followed; a folder need not exist yet.

    Raises:
        InputError: If one is a file.
    """
    for path in paths:
        if path.is_file():
            raise InputError(f"--follow: expected the folder of a sweep, got the file {path}")


def follow(paths: Sequence[Path], write: Callable[[bool], Followed | None], page: Path, console: Console) -> None:
    """Writes the page whenever results change, until every sweep has ended.

    After Ctrl-C the page is written a last time, so that it reloads itself no more.

    Args:
        paths: Folders of sweeps, which need not exist yet.
        write: Function that writes the page, which reloads itself if the argument says so and a sweep has not ended;
            returns what the page says of that, or None.
        page: File that is written, for display.
        console: Console to write to.

    Raises:
        InputError: If results are damaged, or a page cannot be written.
    """
    following = _Following(paths, write, page, console)
    try:
        while not following.look():
            _wait(_LOOK)
    except (KeyboardInterrupt, SystemExit):
        if following.written:
            write(False)
            console.print(f"stopped: {page} reloads itself no more", soft_wrap=True)
        raise


class _Following:
    """What was seen and said so far."""

    def __init__(
        self, paths: Sequence[Path], write: Callable[[bool], Followed | None], page: Path, console: Console
    ) -> None:
        self.paths, self.write, self.page, self.console = paths, write, page, console
        self.written = False
        self._seen: list[tuple[int, int, int] | None] = []
        self._said = ""
        self._next = 0.0
        self._stale_after = _STALE

    def look(self) -> bool:
        """Writes a page if results have changed. Returns whether all sweeps have ended."""
        marks = [_mark(path / RESULTS) for path in self.paths]
        if None in marks:
            path = self.paths[marks.index(None)]
            self._say(f"{path}: waiting for its first results{'' if path.is_dir() else ', no such folder yet'}")
        elif marks != self._seen and time.monotonic() >= self._next:
            self._seen = marks
            if self._write():
                return True
        self._say_if_stale()
        return False

    def _write(self) -> bool:
        empty = [one for one in map(Results.load, self.paths) if not one.cells]
        if empty:
            self._say(f"{count_text(empty[0])} are finished; waiting for the first")
            return False
        begun = time.monotonic()
        followed = self.write(True)
        self._next = time.monotonic() + _SHARE * (time.monotonic() - begun)
        self.written, self._stale_after = True, _STALE
        if followed is not None:
            self._say(f"{followed.written}  {followed.cells}, page {self.page}")
        return followed is None

    def _say_if_stale(self) -> None:
        """Says that nothing has changed for some time, and again when it is twice as long."""
        changed = _last_change(self.paths)
        passed = 0.0 if changed is None else time.time() - changed
        if passed > self._stale_after:
            self._stale_after = 2 * passed
            text = f"nothing has changed for {time_text(passed)}: a stage may take that long, or the sweep was stopped"
            self._say(f"{text} and goes on when its command is given again; still waiting")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.console.print(text, soft_wrap=True)


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Returns a value that changes when a file is replaced; None if there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _last_change(paths: Sequence[Path]) -> float | None:
    """Returns the time of the last change of results, or of the stages that run; None without any results."""
    times = []
    for path in paths:
        for file in (path / RESULTS, path / NOTES):
            with suppress(OSError):
                times.append(file.stat().st_mtime)
    return max(times, default=None)
