"""Rounds in which anchors take images: a total order that serves every anchor alike."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Rounds", "order_in_rounds"]

_DIGITS = 9
"""Decimals of a similarity: less is rounding, and images of equal similarity are ordered by id."""

_AT_ONCE = 2**25
"""Similarities that are held at once in a small task; a large one holds two entries for each image."""


class Rounds(NamedTuple):
    """Which anchor took which image, and when.

    Args:
        ranking: ``[N]`` int64, images by round, then by similarity, then by id.
        round: ``[N]`` int64, from 0.
        anchor: ``[N]`` int64.
        similarity: ``[N]`` float64, of each image to the anchor that took it.
    """

    ranking: Tensor
    round: Tensor
    anchor: Tensor
    similarity: Tensor

    def first_taken(self, anchors: int) -> Tensor:
        """The image that each anchor took first, ``[A]`` int64; where images ran out, the best image of all."""
        first = torch.full((anchors,), int(self.ranking[0]), dtype=torch.int64)
        images = (self.round == 0).nonzero().squeeze(1)
        first[self.anchor[images]] = images
        return first


def order_in_rounds(
    anchors: Tensor, blocks: Iterable[tuple[range, Tensor]], total: int, held: int | None = None
) -> Rounds:
    """In each round every anchor takes the most similar image that is not taken yet.

    Where several anchors want an image, it goes to the most similar of them, of equal ones to the first, and the others
    look on: no anchor and image are left that would both gain by being together. The last round serves the most similar
    anchors only.

    Args:
        anchors: ``[A, D]`` float64 of length 1.
        blocks: Images and their directions ``[n, D]`` float64 of length 1; iterated several times if need be.
        total: ``N``, the number of images.
        held: Images whose similarities to each anchor are held at once, at least 1; None for what fits in memory.
    """
    count = len(anchors)
    held = held or max(_AT_ONCE // count, 2 * total // count, 64)
    state = _State(total)
    while state.left:
        images, similarities = _most_similar(anchors, blocks, state.taken, min(held, state.left))
        place = np.zeros(count, dtype=np.int64)
        whole, before = images.shape[1] == state.left, state.left
        while state.left and _one_round(state, images, similarities, place, whole):
            pass
        if state.left == before:  # so many anchors want the same images that longer lists are needed
            held *= 2
    ranking = np.lexsort((np.arange(total), -state.similarity, state.round))
    return Rounds(*(torch.from_numpy(values) for values in (ranking, state.round, state.anchor, state.similarity)))


class _State:
    """What is taken so far.

    Attributes:
        taken: ``[N]``, whether an image is taken.
        round: ``[N]``, in which round.
        anchor: ``[N]``, by which anchor; -1 for none. In the middle of a round, the best that asked so far.
        similarity: ``[N]``, to that anchor.
        left: Images that are not taken.
        number: The next round.
    """

    def __init__(self, total: int) -> None:
        self.taken = np.zeros(total, dtype=bool)
        self.round = np.zeros(total, dtype=np.int64)
        self.anchor = np.full(total, -1, dtype=np.int64)
        self.similarity = np.zeros(total)
        self.left = total
        self.number = 0


def _one_round(
    state: _State, images: NDArray[np.int64], similarities: NDArray[np.float64], place: NDArray[np.int64], whole: bool
) -> bool:
    """Serves every anchor once.

    Args:
        state: What is taken so far; changed.
        images: ``[A, R]``, ids, most similar first.
        similarities: ``[A, R]``.
        place: ``[A]``, where each anchor stands in its list; changed.
        whole: Whether the lists hold all images that are left.

    Returns:
        False where a list has ended before its anchor was served and holds not all images: nothing is changed then.
    """
    start, length = place.copy(), images.shape[1]
    asking, asked = np.arange(len(place)), [np.zeros(0, dtype=np.int64)]
    while len(asking):
        asking = asking[_advance(state, images, similarities, start, asking) < length]
        if not whole and (start >= length).any():
            held = np.concatenate(asked)
            state.anchor[held] = -1
            return False
        if len(asking) == 0:
            break
        wanted, similar = images[asking, start[asking]], similarities[asking, start[asking]]
        order = np.lexsort((asking, -similar, wanted))
        best = order[np.r_[True, wanted[order][1:] != wanted[order][:-1]]]
        won, by = wanted[best], asking[best]
        displaced = state.anchor[won]
        state.anchor[won], state.similarity[won] = by, similar[best]
        asked.append(won[displaced < 0])
        asking = np.sort(np.concatenate([np.delete(asking, best), displaced[displaced >= 0]]))
    chosen = np.concatenate(asked)
    state.taken[chosen] = True
    state.round[chosen] = state.number
    state.left -= len(chosen)
    state.number += 1
    place[:] = start
    return True


def _advance(
    state: _State,
    images: NDArray[np.int64],
    similarities: NDArray[np.float64],
    place: NDArray[np.int64],
    asking: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Moves anchors past images that are taken, or that a more similar anchor has asked for; gives their places."""
    moving, length = asking, images.shape[1]
    while len(moving := moving[place[moving] < length]):
        wanted, similar = images[moving, place[moving]], similarities[moving, place[moving]]
        owner, owned = state.anchor[wanted], state.similarity[wanted]
        better = (owner >= 0) & ((owned > similar) | ((owned == similar) & (owner < moving)))
        moving = moving[state.taken[wanted] | better]
        place[moving] += 1
    return place[asking]


def _most_similar(
    anchors: Tensor, blocks: Iterable[tuple[range, Tensor]], taken: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The images most similar to each anchor that are not taken, ``[A, count]``: most similar first, then by id."""
    best_ids = torch.empty(len(anchors), 0, dtype=torch.int64)
    best = torch.empty(len(anchors), 0, dtype=torch.float64)
    free = torch.from_numpy(~taken)
    waiting: list[tuple[Tensor, Tensor]] = []
    size = 0
    for images, rows in blocks:
        ids = free[images.start : images.stop].nonzero().squeeze(1)
        if len(ids):
            waiting.append((ids + images.start, (anchors @ rows[ids].T).round_(decimals=_DIGITS)))
            size += len(ids)
        if size >= count:
            best_ids, best = _merged(best_ids, best, waiting, count)
            waiting, size = [], 0
    best_ids, best = _merged(best_ids, best, waiting, count)
    return best_ids.numpy(), best.numpy()


def _merged(best_ids: Tensor, best: Tensor, waiting: list[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    if not waiting:
        return best_ids, best
    ids = torch.cat([best_ids, *(ids.expand(len(best), -1) for ids, _ in waiting)], 1)
    values = torch.cat([best, *(values for _, values in waiting)], 1)
    # a stable sort leaves equal similarities in the order of ids: lists hold lower ids than blocks that come later
    sorted_ = values.sort(dim=1, descending=True, stable=True)
    return ids.gather(1, sorted_.indices[:, :count]), sorted_.values[:, :count]
