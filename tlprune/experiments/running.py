"""Notes of the stages that run now, which the processes of a sweep leave in its folder for whoever watches it."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["NOTES", "Note", "noted", "read_notes"]

NOTES = "running"
"""Name of the folder of notes in a sweep's folder."""


@dataclass(frozen=True)
class Note:
    """A stage that runs.

    Args:
        stage: Name of the stage.
        seed: Seed of the repetition; None for a stage that serves all.
        target: Display name of the target; empty for a stage that uses none.
        what: What it works on, for display.
        since: Time of its start, in seconds since the epoch.
    """

    stage: str
    seed: int | None
    target: str = ""
    what: str = ""
    since: float = field(default_factory=time.time)


@contextmanager
def noted(folder: Path, note: Note) -> Iterator[None]:
    """Leaves a note for as long as the block runs. A note is for display alone, so that no failure to write it counts.

    Args:
        folder: Folder of the sweep.
        note: Note to leave; a process has one at a time.
    """
    path = folder / NOTES / f"{socket.gethostname()}-{os.getpid()}.json"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")  # need not survive a crash of the machine, but be whole
        temporary.write_text(json.dumps(asdict(note)))
        temporary.replace(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def read_notes(folder: Path) -> list[Note]:
    """Reads the notes in a sweep's folder, the oldest first. Notes of killed processes are among them."""
    notes = []
    for path in (folder / NOTES).glob("*.json"):
        with suppress(OSError, ValueError, TypeError):  # it may end in this moment
            notes.append(Note(**json.loads(path.read_text())))
    return sorted(notes, key=lambda note: note.since)
