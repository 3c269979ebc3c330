"""Rounds in which anchors take images: a total order that serves every anchor alike."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlprune.selection.anchor_lists import UNIT, AnchorLists

__all__ = ["Rounds", "order_in_rounds"]

_HELD = 2**23
"""Images in all lists together, 12 to 16 bytes each."""

_FEWEST = 64
"""Length of a list where there are very many anchors."""


@dataclass(frozen=True)
class Rounds:
    """Which anchor took which image, and when.

    Args:
        ranking: ``[N]`` int32, images by round, then by similarity, then by id.
        sizes: Int64, the number of images of each round.
        anchor: ``[N]`` int32, by which anchor each image was taken.
        distance: ``[N]`` int32, one less the similarity to that anchor, in billionths.
        passes: How often the source's features were read.
        images_read: Features that were read, over all passes.
    """

    ranking: Tensor
    sizes: Tensor
    anchor: Tensor
    distance: Tensor
    passes: int
    images_read: int

    @property
    def round(self) -> Tensor:
        """The round of each image, ``[N]`` int32, from 0."""
        numbers = torch.arange(len(self.sizes), dtype=torch.int32).repeat_interleave(self.sizes)
        return torch.empty_like(numbers).index_copy_(0, self.ranking.long(), numbers)

    @property
    def similarity(self) -> Tensor:
        """The similarity of each image to the anchor that took it, ``[N]`` float64."""
        return (UNIT - self.distance.double()) / UNIT

    def first_taken(self, anchors: int) -> Tensor:
        """The image that each anchor took first, ``[A]`` int64; where images ran out, the best image of all."""
        first = torch.full((anchors,), int(self.ranking[0]), dtype=torch.int64)
        images = self.ranking[: int(self.sizes[0])].long()
        first[self.anchor[images].long()] = images
        return first


def order_in_rounds(
    anchors: Tensor, blocks: Iterable[tuple[range, Tensor]], total: int, held: int | None = None
) -> Rounds:
    """In each round every anchor takes the most similar image that is not taken yet.

    Where several anchors want an image, it goes to the most similar of them, of equal ones to the first, and the others
    look on: no anchor and image are left that would both gain by being together. The last round serves the most similar
    anchors only.

    Similarities are rounded to nine decimals. Memory is 13 bytes an image beside lists of bounded length; lists that
    end are filled again by another pass over the images that are left.

    Args:
        anchors: ``[A, D]`` float64 of length 1.
        blocks: Images and their directions ``[n, D]`` float64 of length 1; iterated several times if need be.
        total: ``N``, the number of images.
        held: Images in the list of each anchor, at least 1; None for what fits in memory.
    """
    state = _State(total)
    lists = AnchorLists(anchors, blocks, state, min(held or max(_HELD // len(anchors), _FEWEST), total))
    sizes = []
    while state.left:
        sizes.append(_one_round(state, lists))
    ranking, anchor, distance = (torch.from_numpy(of) for of in (state.ranking, state.anchor, state.distance))
    return Rounds(ranking, torch.tensor(sizes), anchor, distance, lists.passes, lists.images_read)


class _State:
    """What is taken so far.

    Attributes:
        taken: ``[N]``, whether an image is taken.
        anchor: ``[N]``, by which anchor; -1 for none. In the middle of a round, the best that asked so far.
        distance: ``[N]``, to that anchor.
        ranking: ``[N]``, images in the order in which they are taken.
        left: Images that are not taken.
    """

    def __init__(self, total: int) -> None:
        self.taken = np.zeros(total, dtype=bool)
        self.anchor = np.full(total, -1, dtype=np.int32)
        self.distance = np.zeros(total, dtype=np.int32)
        self.ranking = np.empty(total, dtype=np.int32)
        self.left = total


def _one_round(state: _State, lists: AnchorLists) -> int:
    """Serves every anchor once; gives the number of images that are taken."""
    asking = np.arange(len(lists.place))
    asked, waiting = [], [asking[:0]]
    while len(asking):
        ended = lists.advance(asking)
        waiting.append(asking[ended & ~lists.whole[asking]])
        asking = asking[~ended]
        if len(asking):
            first, asking = _ask(state, lists, asking)
            asked.append(first)
        if len(asking) == 0 and len(asking := np.sort(np.concatenate(waiting))):
            lists.refill(asking)
            waiting = [asking[:0]]
    chosen = np.concatenate(asked)
    chosen = chosen[np.lexsort((chosen, state.distance[chosen]))]
    state.taken[chosen] = True
    done = len(state.ranking) - state.left
    state.ranking[done : done + len(chosen)] = chosen
    state.left -= len(chosen)
    return len(chosen)


def _ask(state: _State, lists: AnchorLists, asking: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lets anchors ask for the images at which they stand.

    Args:
        state: What is taken so far; changed.
        lists: Where anchors stand.
        asking: Anchors, ascending.

    Returns:
        Images that nobody had asked for in this round, and anchors that have to ask again, ascending.
    """
    wanted, distance = lists.at(asking)
    before = state.anchor[wanted]
    # of several anchors that want an image the last one that is written stays: the nearest, of equal ones the first
    order = len(asking) - 1 - np.argsort(-distance[::-1], kind="stable")
    state.anchor[wanted[order]] = asking[order]
    won = state.anchor[wanted] == asking
    state.distance[wanted[won]] = distance[won]
    displaced = before[won]
    again = np.concatenate([asking[~won], displaced[displaced >= 0]])
    return wanted[won][displaced < 0], np.sort(again)
