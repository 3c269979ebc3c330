"""Names of sources in shards: WebDataset tars and Parquet files, by folder, pattern or braces."""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from stat import S_ISREG

from tlprune.errors import InputError, did_you_mean
from tlprune.storage.paths import expanded

__all__ = ["SHARD_KINDS", "ShardNames", "absolute_shards"]

SHARD_KINDS = {"webdataset": ".tar", "parquet": ".parquet"}
"""File extension of each kind of sharded source."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_COLUMNS = re.compile(r"((?:[a-z]+=[^,:/]+,?)+):(.*)", re.DOTALL)
_MOST = 10_000_000
"""Largest number of shards that braces may stand for."""


@dataclass(frozen=True)
class ShardNames:
    """Files of a sharded source, which are not opened.

    Args:
        source: Name of the source, as the user wrote it.
        kind: ``webdataset`` or ``parquet``.
        files: Absolute paths of the shards, all different, in the order of the source; as text, which is smaller.
        columns: Names of the columns ``image`` and ``label`` of Parquet files, where the user names them.
    """

    source: str
    kind: str
    files: tuple[str, ...]
    columns: dict[str, str]

    @classmethod
    def find(cls, kind: str, rest: str) -> "ShardNames":
        """Finds the files.

        Args:
            kind: ``webdataset`` or ``parquet``.
            rest: A folder, whose files of this kind are taken; or paths with ``{000..099}``, ``{a,b}``, ``*``, ``?``;
                for Parquet, with ``image=COLUMN,label=COLUMN:`` before it.

        Raises:
            InputError: There is no such file, one is named twice, or a column is neither ``image`` nor ``label``.
        """
        source = f"{kind}:{rest}"
        columns, pattern = _columns_of(source, kind, rest)
        if not pattern:
            raise InputError(f"source {source}: say which: {kind}:/data/shards-{{000..099}}{SHARD_KINDS[kind]}")
        files = list(_found(source, kind, str(Path(expanded(pattern)).absolute())))
        if not files:
            raise InputError(f"source {source}: no file matches it")
        seen: dict[tuple[int, int | str], int] = {}
        for place, file in enumerate(files):
            identity = _identity(file)
            if identity is None:
                what = "a folder, not a file" if Path(file).is_dir() else "no such file"
                raise InputError(f"source {source}: {file}: {what} (shard {place + 1:,} of {len(files):,})")
            if (first := files[seen.setdefault(identity, place)]) != file:
                raise InputError(f"source {source}: {first} and {file} are one file")
            if seen[identity] != place:
                raise InputError(f"source {source}: {file} is named twice")
        return cls(source, kind, tuple(files), columns)

    @cached_property
    def folder(self) -> Path:
        """The folder that all shards are in."""
        return Path(os.path.commonpath({file.rpartition(os.sep)[0] or os.sep for file in self.files}))

    def path(self, number: int) -> Path:
        """Returns the path of a shard."""
        return Path(self.files[number])

    def short(self, number: int) -> str:
        """Returns the path of a shard in :attr:`folder`, without its extension."""
        return self.path(number).relative_to(self.folder).with_suffix("").as_posix()


def absolute_shards(kind: str, rest: str) -> str:
    """Returns the name of a sharded source with an absolute path.

    Args:
        kind: ``webdataset`` or ``parquet``.
        rest: Rest of the name, as in :meth:`ShardNames.find`.
    """
    named = _COLUMNS.fullmatch(rest) if kind == "parquet" else None
    before, pattern = (f"{named[1]}:", named[2]) if named else ("", rest)
    return f"{kind}:{before}{Path(expanded(pattern)).absolute()}"


def _identity(file: str) -> tuple[int, int | str] | None:
    """Returns the device and the inode of a file, which links to it share; None if there is no such file.

    File systems without inodes say 0; there the path counts.
    """
    try:
        status = os.stat(file)
    except OSError:
        return None
    return (status.st_dev, status.st_ino or file) if S_ISREG(status.st_mode) else None


def _columns_of(source: str, kind: str, rest: str) -> tuple[dict[str, str], str]:
    named = _COLUMNS.fullmatch(rest) if kind == "parquet" else None
    if named is None:
        return {}, rest
    columns = dict(pair.split("=", 1) for pair in named[1].rstrip(",").split(","))
    if odd := next((name for name in columns if name not in ("image", "label")), None):
        raise InputError(f"source {source}: no column {odd!r}: {did_you_mean(odd, ['image', 'label'])}")
    return columns, named[2]


def _found(source: str, kind: str, pattern: str) -> Iterator[str]:
    if Path(pattern).is_dir():
        yield from sorted(str(file) for file in Path(pattern).glob(f"*{SHARD_KINDS[kind]}"))
        return
    if Path(pattern).is_file():
        yield pattern
        return
    for count, path in enumerate(_without_braces(source, pattern)):
        if count >= _MOST:
            raise InputError(f"source {source}: its braces stand for more than {_MOST:,} files")
        # Path.glob() takes no absolute pattern
        yield from sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else (path,)  # noqa: PTH207


def _without_braces(source: str, pattern: str) -> Iterator[str]:
    """Yields the paths that a pattern with braces stands for, in order."""
    if (braces := _BRACES.search(pattern)) is None:
        yield pattern
        return
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    if (bounds := _RANGE.fullmatch(braces[1])) is not None:
        first, last = bounds[1], bounds[2]
        if int(first) > int(last):
            raise InputError(f"source {source}: {braces[0]} counts from {first} down to {last}")
        width = len(first) if first.startswith("0") else 0
        choices: Iterator[str] = (f"{number:0{width}}" for number in range(int(first), int(last) + 1))
    else:
        choices = iter(braces[1].split(","))
    for choice in choices:
        yield from _without_braces(source, f"{before}{choice}{after}")
