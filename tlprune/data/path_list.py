"""A list of paths in one block of bytes, for sources of millions of files.

A Python string takes 49 bytes beside its text, and a process that is forked to load images copies every page whose
strings it touches. One block takes 8 bytes a path beside the text, and all loading processes share it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

__all__ = ["PathList"]

_CODING = ("utf-8", "surrogatepass")
"""Paths may hold bytes that are not UTF-8; Python shows these as lone surrogates."""

_AT_ONCE = 2**16


class PathList(Sequence[str]):
    """Paths that do not change.

    Args:
        paths: The paths.

    Example:
        >>> paths = PathList(["ant/1.png", "bee/2.png"])
        >>> paths[1], len(paths), list(paths[:1])
        ('bee/2.png', 2, ['ant/1.png'])
    """

    __slots__ = ("_ends", "_text")

    def __init__(self, paths: Iterable[str]) -> None:
        text, ends = [], [np.zeros(1, dtype=np.int64)]
        for block in _blocks(paths):
            coded = [path.encode(*_CODING) for path in block]
            ends.append(ends[-1][-1] + np.cumsum([len(one) for one in coded], dtype=np.int64))
            text.append(b"".join(coded))
        self._text = b"".join(text)
        self._ends = np.concatenate(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """Returns a path; a tuple of paths for a slice."""
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]  # as a list takes it: negative from the end, an IndexError beyond it
        return self._text[self._ends[place] : self._ends[place + 1]].decode(*_CODING)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for block in range(1, len(self._ends), _AT_ONCE):
            for end in self._ends[block : block + _AT_ONCE].tolist():
                yield self._text[start:end].decode(*_CODING)
                start = end

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PathList):
            return self._text == other._text and bool(np.array_equal(self._ends, other._ends))
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(ours == theirs for ours, theirs in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"PathList([{shown}{', ...' if len(self) > 3 else ''}])"


def _blocks(paths: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for path in paths:
        block.append(path)
        if len(block) == _AT_ONCE:
            yield block
            block = []
    yield block
