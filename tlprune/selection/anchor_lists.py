"""The images nearest to each anchor, in lists of bounded length that are filled from features block by block."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlprune.selection.directions import Directions

__all__ = ["UNIT", "AnchorLists", "Takers"]

UNIT = 10**9
"""Distances are whole numbers of ``1 / UNIT``: less is rounding, and images at equal distances are ordered by id."""

_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1
_NONE = np.iinfo(np.int64).max

_ANCHORS_AT_ONCE = 1024
_IMAGES_AT_ONCE = 1024
_SPARSE = 1 / 128
"""Share of products that are kept below which float32 products find candidates, and float64 decides about those."""

_PAIRS_AT_ONCE = 256
_REFILL = 4
"""Where one list has ended, all lists are filled again that have less than this part of their length left."""

_AHEAD = 4
"""Entries of a list that are looked at in a first step, and how many times as many in each further one."""

_ENTRIES_AT_ONCE = 2**18
"""Entries of all lists that a further step looks at."""


class Takers:
    """Which anchor has which image.

    Args:
        total: ``N``, the number of images.

    Attributes:
        taken: ``[N]`` bool, whether an image is taken for good.
        anchor: ``[N]`` int32, the anchor that has an image, or the best that asked for it in this round; -1 for none.
        distance: ``[N]`` int32, to that anchor.
    """

    def __init__(self, total: int) -> None:
        self.taken = np.zeros(total, dtype=bool)
        self.anchor = np.full(total, -1, dtype=np.int32)
        self.distance = np.zeros(total, dtype=np.int32)


class AnchorLists:
    """For each anchor the nearest images that it may take, nearest first, and where the anchor stands in its list.

    An entry is one whole number: the cosine distance in billionths, then the id of the image in the lowest 32 bits. So
    entries compare as images do, by distance and then by id.

    Args:
        anchors: ``[A, D]`` float64 of length 1.
        blocks: Images and their directions ``[n, D]`` float64 of length 1; iterated whenever lists have ended.
        takers: Which images are free.
        held: ``R``, the length of a list, at least 1.

    Attributes:
        passes: How often the blocks were iterated.
        images_read: How many directions were computed, over all passes.
    """

    def __init__(self, anchors: Tensor, blocks: Iterable[tuple[range, Tensor]], takers: Takers, held: int) -> None:
        self.anchors = anchors
        self.blocks = blocks
        self.takers = takers
        self.held = held
        self.step = min(max(held, 64), _IMAGES_AT_ONCE)
        count = len(anchors)
        self.entries = np.full((count, held + max(self.step, held // 2)), _NONE, dtype=np.int64)
        self.length = np.zeros(count, dtype=np.int64)
        self.place = np.zeros(count, dtype=np.int64)
        self.whole = np.zeros(count, dtype=bool)
        self.passes = 0
        self.images_read = 0

    def at(self, asking: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and distances of the entries at which anchors stand."""
        entries = self.entries[asking, self.place[asking]]
        return entries & _ID_MASK, entries >> _ID_BITS

    def advance(self, asking: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Moves anchors to the next image that they may take.

        Returns:
            For each anchor whether its list has ended.
        """
        width = self.entries.shape[1]
        flat, ahead = self.entries.reshape(-1), _AHEAD
        moving = asking[self.place[asking] < self.length[asking]]
        while len(moving):
            place, length = self.place[moving], self.length[moving]
            columns = np.minimum(place[:, None] + np.arange(ahead), length[:, None] - 1)
            entries = flat[columns + (moving * width)[:, None]]
            free = self._may_take(moving[:, None], entries & _ID_MASK, entries >> _ID_BITS)
            found = free.any(1)
            place = np.minimum(place + np.where(found, free.argmax(1), ahead), length)
            self.place[moving] = place
            moving = moving[~found & (place < length)]
            ahead = max(_AHEAD, min(ahead * _AHEAD, _ENTRIES_AT_ONCE // max(1, len(moving))))
        ended: NDArray[np.bool_] = self.place[asking] >= self.length[asking]
        return ended

    def refill(self, ended: NDArray[np.int64]) -> None:
        """Fills lists that have ended, and those that are about to, with images that their anchors may take."""
        low = (self.length - self.place) * _REFILL < self.length
        low[ended] = True
        short = (low & ~self.whole).nonzero()[0]
        tiles = [_Tile(self, some) for some in np.split(short, range(_ANCHORS_AT_ONCE, len(short), _ANCHORS_AT_ONCE))]
        for ids, rows in self._free_rows():
            for start in range(0, len(ids), self.step):
                some, block = ids[start : start + self.step], rows[start : start + self.step]
                single = block.float() if any(tile.sparse for tile in tiles) else block
                for tile in tiles:
                    tile.add(some, block, single)
            self.images_read += len(ids)
        for tile in tiles:
            tile.finish()
        self.passes += 1

    def _may_take(
        self, anchor: NDArray[np.int64], image: NDArray[np.int64], distance: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether images are free, or their holder of this round is farther away than the anchor."""
        holder, held_at = self.takers.anchor[image], self.takers.distance[image]
        lost = (holder >= 0) & ((held_at < distance) | ((held_at == distance) & (holder < anchor)))
        free: NDArray[np.bool_] = ~(self.takers.taken[image] | lost)
        return free

    def _free_rows(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Ids and directions of images that are not taken."""
        free = torch.from_numpy(~self.takers.taken)
        if isinstance(self.blocks, Directions):
            yield from ((ids.numpy(), rows) for ids, rows in self.blocks.among(free))
            return
        for images, rows in self.blocks:
            ids = free[images.start : images.stop].nonzero().squeeze(1)
            yield (ids + images.start).numpy(), rows[ids]


class _Tile:
    """Some of the lists while they are filled: each keeps its nearest images so far, unsorted.

    Args:
        lists: All lists.
        anchors: ``[a]``, whose lists these are.
    """

    def __init__(self, lists: AnchorLists, anchors: NDArray[np.int64]) -> None:
        self.lists = lists
        self.names = anchors
        self.rows = lists.anchors[torch.from_numpy(anchors)]
        self.single = self.rows.float()
        # The rounding error of a sum of D float32 products of directions, each rounded to float32 before
        self.margin = (self.rows.shape[1] + 4) * float(np.finfo(np.float32).eps)
        self.count = np.zeros(len(anchors), dtype=np.int64)
        self.bound = np.full(len(anchors), _NONE, dtype=np.int64)
        self.sparse = False
        lists.entries[anchors] = _NONE

    def add(self, ids: NDArray[np.int64], rows: Tensor, single: Tensor) -> None:
        """Puts images into the lists where they are nearer than what is there.

        Args:
            ids: ``[n]``.
            rows: Directions, ``[n, D]`` float64.
            single: The same in float32; looked at where ``sparse`` is set.
        """
        products = torch.mm(self.single, single.T) if self.sparse else torch.mm(self.rows, rows.T)
        least = 1 - (self.bound >> _ID_BITS) / UNIT - (self.margin if self.sparse else 2 / UNIT)
        found = products.numpy()
        anchor, image = (found >= least.astype(found.dtype)[:, None]).nonzero()
        exact = _products(self.rows, rows, anchor, image) if self.sparse else found[anchor, image]
        self.sparse = len(image) < _SPARSE * found.size
        distance = UNIT - np.rint(exact * UNIT).astype(np.int64)
        entries = distance << _ID_BITS | ids[image]
        nearer = (entries < self.bound[anchor]) & self.lists._may_take(self.names[anchor], ids[image], distance)
        self._put(anchor[nearer], entries[nearer])

    def _put(self, anchor: NDArray[np.int64], entries: NDArray[np.int64]) -> None:
        """Appends entries; ``anchor`` is ascending."""
        more = np.bincount(anchor, minlength=len(self.names))
        full = (self.count + more > self.lists.entries.shape[1]).nonzero()[0]
        if len(full):
            self._cut(full)
        column = np.arange(len(anchor)) - (more.cumsum() - more - self.count)[anchor]
        self.lists.entries[self.names[anchor], column] = entries
        self.count += more

    def _cut(self, full: NDArray[np.int64]) -> None:
        """Leaves the nearest images alone in lists that hold more than they should."""
        held, names = self.lists.held, self.names[full]
        for some, own in zip(full, names, strict=True):
            row = self.lists.entries[own]
            row.partition(held - 1)
            row[held:] = _NONE
            self.bound[some] = row[held - 1]
        self.count[full] = held

    def finish(self) -> None:
        """Sorts the lists."""
        self._cut((self.count > self.lists.held).nonzero()[0])
        for own, count in zip(self.names, self.count, strict=True):
            self.lists.entries[own, :count].sort()
        self.lists.length[self.names] = self.count
        self.lists.place[self.names] = 0
        self.lists.whole[self.names] = self.bound == _NONE


def _products(
    anchors: Tensor, rows: Tensor, anchor: NDArray[np.int64], image: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Products of single pairs, few at a time, so that they stay in the processor's cache."""
    left, right = anchors.numpy(), rows.numpy()
    found = np.empty(len(anchor))
    for start in range(0, len(anchor), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        np.einsum("nd,nd->n", left[anchor[some]], right[image[some]], out=found[some])
    return found
