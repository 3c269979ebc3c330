"""Rounds in which anchors take images: a total order that serves every anchor alike."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlprune.selection.anchor_lists import UNIT, AnchorLists, Takers

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
    takers = Takers(total)
    lists = AnchorLists(anchors, blocks, takers, min(held or max(_HELD // len(anchors), _FEWEST), total))
    ranking, sizes = np.empty(total, dtype=np.int32), []
    done = 0
    while done < total:
        chosen = _one_round(takers, lists)
        ranking[done : done + len(chosen)] = chosen
        sizes.append(len(chosen))
        done += len(chosen)
    ranked, anchor, distance = (torch.from_numpy(of) for of in (ranking, takers.anchor, takers.distance))
    return Rounds(ranked, torch.tensor(sizes), anchor, distance, lists.passes, lists.images_read)


def _one_round(takers: Takers, lists: AnchorLists) -> NDArray[np.int64]:
    """Serves every anchor once; gives the images that are taken, the most similar first."""
    asking = np.arange(len(lists.place))
    asked, waiting = [], [asking[:0]]
    while len(asking):
        ended = lists.advance(asking)
        waiting.append(asking[ended & ~lists.whole[asking]])
        asking = asking[~ended]
        if len(asking):
            first, asking = _ask(takers, lists, asking)
            asked.append(first)
        if len(asking) == 0 and len(asking := np.sort(np.concatenate(waiting))):
            lists.refill(asking)
            waiting = [asking[:0]]
    chosen = np.concatenate(asked)
    chosen = chosen[np.lexsort((chosen, takers.distance[chosen]))]
    takers.taken[chosen] = True
    return chosen


def _ask(takers: Takers, lists: AnchorLists, asking: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lets anchors ask for the images at which they stand.

    Args:
        takers: What is taken so far; changed.
        lists: Where anchors stand.
        asking: Anchors, ascending.

    Returns:
        Images that nobody had asked for in this round, and anchors that have to ask again, ascending.
    """
    wanted, distance = lists.at(asking)
    before = takers.anchor[wanted]
    # of several anchors that want an image the last one that is written stays: the nearest, of equal ones the first
    order = len(asking) - 1 - np.argsort(-distance[::-1], kind="stable")
    takers.anchor[wanted[order]] = asking[order]
    won = takers.anchor[wanted] == asking
    takers.distance[wanted[won]] = distance[won]
    displaced = before[won]
    again = np.concatenate([asking[~won], displaced[displaced >= 0]])
    return wanted[won][displaced < 0], np.sort(again)
