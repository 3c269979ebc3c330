"""The folder that ``tlprune apply`` writes: one list of kept images for each block, counts, and what they sum up to.

Each file is written atomically. The counts of a block are written last, so a block with counts is done, and a run that
was stopped goes on after it.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tlprune.errors import InputError
from tlprune.storage.as_csv import as_csv
from tlprune.storage.atomic import atomic_path, write_bytes
from tlprune.storage.cache import forget
from tlprune.storage.paths import user_path

__all__ = ["AppliedFolder", "Counts", "Damaged"]

_SETTINGS = "settings.json"
_SUMMARY = "applied.json"
_NAMES = 1000
"""Most classes that are not in a Selection whose images are counted by name; those beyond are counted as one."""

_REST = "(others)"


@dataclass
class Damaged:
    """Images that cannot be decoded.

    Args:
        count: Number of images.
        first: Name of the first; None without any.
    """

    count: int = 0
    first: str | None = None


@dataclass
class Counts:
    """Numbers of images of one block, or of several.

    Args:
        images: Number of images.
        kept: Number of images that are kept.
        units: Number of images of each unit that has any.
        unknown: Number of images of each class that the Selection does not have.
        damaged: Images that cannot be decoded.
    """

    images: int = 0
    kept: int = 0
    units: Counter[int] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    damaged: Damaged = field(default_factory=Damaged)

    def add(self, other: "Counts") -> None:
        """Adds the numbers of another block."""
        self.images += other.images
        self.kept += other.kept
        self.units.update(other.units)
        for name, count in other.unknown.items():
            self.unknown[name if name in self.unknown or len(self.unknown) < _NAMES else _REST] += count
        self.damaged = Damaged(
            self.damaged.count + other.damaged.count, self.damaged.first if self.damaged.count else other.damaged.first
        )

    def as_json(self) -> dict[str, Any]:
        """All numbers, as JSON values."""
        units = {str(unit): count for unit, count in sorted(self.units.items())}
        return asdict(self) | {"units": units, "unknown": dict(sorted(self.unknown.items()))}

    @classmethod
    def from_json(cls, value: Any) -> "Counts":
        """Reads what :meth:`as_json` gave."""
        units = Counter({int(unit): int(count) for unit, count in value["units"].items()})
        damaged = Damaged(int(value["damaged"]["count"]), value["damaged"]["first"])
        return cls(int(value["images"]), int(value["kept"]), units, Counter(value["unknown"]), damaged)


class AppliedFolder:
    """Lists, counts and shards of one application of a Selection.

    Args:
        path: Path of the folder, which need not exist.
        settings: All that the lists depend on beside the blocks, as JSON values.
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self.path = user_path(path)
        self.settings = settings

    def check(self, fresh: bool) -> None:
        """Refuses a folder that cannot be gone on with, without writing.

        Args:
            fresh: Whether what an earlier run wrote is not used.

        Raises:
            InputError: It is a file, has files of others in it, or was written with other settings.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"cannot write {self.path}: it is a file, and a folder of lists is written")
        if not self.path.exists() or (fresh and (self.path / _SETTINGS).is_file()):
            return
        found = self._found_settings()
        if found is None:
            if any(not name.startswith((_SETTINGS, ".")) for name in os.listdir(self.path)):
                raise InputError(f"{self.path}: a folder with files of others; give a new one")
            return
        if odd := next((name for name in self.settings if found.get(name) != self.settings[name]), None):
            pair = f"{odd} {_short(found.get(odd))}, and now {_short(self.settings[odd])}"
            raise InputError(f"{self.path}: written with {pair}; give a new folder, or start over with `fresh`")

    def begin(self, fresh: bool) -> None:
        """Creates the folder, or removes from it what an earlier run wrote.

        Args:
            fresh: Whether what an earlier run wrote is removed.
        """
        forget(self.path / _SUMMARY)
        if fresh:
            forget(*(self.path / part for part in ("counts", "lists", "shards", _SETTINGS)))
        self._write(_SETTINGS, self.settings)

    def is_done(self, short: str, version: list[int]) -> bool:
        """Returns whether a block was finished, and has not changed since."""
        try:
            done = json.loads((self.path / "counts" / f"{short}.json").read_bytes())
            return bool(done["version"] == version) and self._list(short).is_file()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write_block(
        self,
        short: str,
        version: list[int],
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        counts: Counts,
        shard: tuple[str, Callable[[Path], None]] | None,
    ) -> None:
        """Writes the list of a block, its new shard, and then its counts.

        Args:
            short: Name of the block.
            version: Its version.
            columns: Names of the columns of the list.
            rows: Kept images, in the order of the block.
            counts: Numbers of images.
            shard: Extension of the new shard, and a function that writes it; None for no new shard.

        Raises:
            InputError: A file cannot be written.
        """
        write_bytes(self._list(short), as_csv(columns, rows).encode(errors="surrogateescape"))
        if shard is not None:
            ending, write = shard
            path = self.path / "shards" / f"{short}{ending}"
            if counts.kept:
                with atomic_path(path) as temporary:
                    write(temporary)
            else:
                forget(path)  # of an earlier version; a shard without images would be refused
        self._write(f"counts/{short}.json", {"version": version, **counts.as_json()})

    def counts(self, short: str) -> Counts:
        """Reads the counts of a finished block.

        Raises:
            InputError: They are not there, or damaged.
        """
        path = self.path / "counts" / f"{short}.json"
        try:
            return Counts.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError as error:
            raise InputError(f"{path}: written by another rank and not seen here; ranks share a folder") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged; remove it and apply again") from error

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes what all blocks sum up to."""
        self._write(_SUMMARY, {"tlprune": "lists what is KEPT", **self.settings, **summary})

    def _list(self, short: str) -> Path:
        return self.path / "lists" / f"{short}.csv"

    def _found_settings(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / _SETTINGS).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / _SETTINGS}: damaged; give a new folder") from error
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, value: dict[str, Any]) -> None:
        write_bytes(self.path / name, (json.dumps(value, indent=1) + "\n").encode())


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
