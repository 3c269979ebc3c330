"""Typical Images: a share of the images of more units, the most typical of each unit first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, require_within
from tlprune.selection.directions import normalized
from tlprune.selection.features import SourceFeatures
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector, SourceImages, TargetImages
from tlprune.selection.selector_of import SelectorOf

__all__ = ["TypicalImages", "shares_of_units", "typicality_order"]

_ROWS_AT_ONCE = 2048


class TypicalImages(SelectorOf):
    """Keeps the same share of each of the best units of another selector, in place of fewer whole units.

    A budget that would keep whole units keeps ``1 / spread`` of each of ``spread`` times as many. Within a unit, images
    with the highest cosine similarity to the unit's mean feature come first (SAS, Joshi and Mirzasoleiman, ICML 2023,
    as its code does), and images that nearly repeat an earlier one come last.

    Args:
        of: Orders the units; None is Label Mapping.
        spread: How many times as many units are kept, at least 1.
        duplicate: Cosine similarity to an earlier image of the unit above which an image nearly repeats it, in (0, 1].
        num_workers: Processes that load images on each rank.

    Raises:
        InputError: An argument is out of range, or the other selector orders single images.
    """

    method = "typical_images"
    label = "typical images"
    score_label = "typicality"

    def __init__(
        self, of: Selector | None = None, spread: float = 2.0, duplicate: float = 0.98, num_workers: int = 0
    ) -> None:
        super().__init__(of or LabelMapping())
        if self.of.unit_kind == "sample":
            raise InputError("TypicalImages needs a selector of classes or clusters, this one orders single images")
        if self.of.needs_surrogate is None:
            self.needs = (*self.needs, "backbone")
        if not 1 <= spread < float("inf"):
            raise InputError(f"`spread` must be finite and at least 1, got {spread}")
        if not 0 < duplicate <= 1:
            raise InputError(f"`duplicate` must be in (0, 1], got {duplicate}")
        require_within("num_workers", num_workers, 0)
        self.spread = spread
        self.duplicate = duplicate
        self.num_workers = num_workers
        self.unit_kind = "sample"

    @property
    def options(self) -> dict[str, Any]:
        """Share of units and bound of duplicates, and the other selector with its options."""
        own = {"spread": self.spread, "duplicate": self.duplicate}
        return {**own, "of": {"method": self.of.method, **self.of.options}}

    def network(self, surrogate: nn.Module | Sequence[nn.Module] | None) -> nn.Module | None:
        """The part that the other selector uses; a backbone where it uses none."""
        return super().network(surrogate) if self.of.needs_surrogate else Selector.network(self, surrogate)

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """The other selector's order, features of the source, and the typicality of each image."""
        if surrogate is None:
            raise InputError("TypicalImages needs a surrogate")
        found = self.of.order(source, target, surrogate if self.of.needs_surrogate else None, cache)
        features = SourceFeatures(_backbone(surrogate), source, cache, self.num_workers)
        features.extract()
        return broadcast_from_rank0(lambda: self._ordered(found, features))

    def _ordered(self, found: Selection, features: SourceFeatures) -> Selection:
        units, total = found.unit_of_sample.long(), len(features)
        place = torch.empty(total, dtype=torch.float64)
        typicality = torch.empty(total, dtype=torch.float64)
        for unit in range(found.num_units):
            members = (units == unit).nonzero().squeeze(1)
            if len(members) == 0:
                continue
            order, similarity = typicality_order(features.rows(members).double(), self.duplicate)
            place[members[order]] = (torch.arange(len(members)).double() + 0.5) / len(members)
            typicality[members] = similarity
        keys = shares_of_units(place, units, found.ranking, self.spread)
        return self.of_images(found, keys.sort(stable=True).indices, typicality)

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """The source's features, and what the other selector caches."""
        if surrogate is None:
            return ()
        own = SourceFeatures(_backbone(surrogate), source, cache, self.num_workers).folder
        return own, *super().cached_paths(source, surrogate, cache)


def _backbone(surrogate: nn.Module) -> nn.Module:
    backbone: nn.Module = getattr(surrogate, "backbone", surrogate)
    return backbone


def typicality_order(rows: Tensor, duplicate: float) -> tuple[Tensor, Tensor]:
    """Orders images of one unit: the most typical first, near repetitions of earlier ones last.

    Args:
        rows: ``[m, D]`` float64 features.
        duplicate: Cosine similarity above which an image nearly repeats an earlier one.

    Returns:
        A permutation ``[m]`` int64, and each image's cosine similarity to the mean, ``[m]`` float64.
    """
    directions = normalized(rows)
    mean = directions.mean(0)
    similarity = (directions @ normalized(mean[None])[0]).round(decimals=9)
    order = similarity.sort(descending=True, stable=True).indices
    in_order = directions[order]
    repeats = torch.zeros(len(order), dtype=torch.bool)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        block = in_order[start : start + _ROWS_AT_ONCE]
        earlier = (block @ in_order[: start + len(block)].T).round(decimals=9).tril(start - 1)
        repeats[start : start + len(block)] = (earlier > duplicate).any(1)
    return torch.cat([order[~repeats], order[repeats]]), similarity


def shares_of_units(place: Tensor, units: Tensor, ranking: Tensor, spread: float) -> Tensor:
    """The budget from which each image is kept, as a number of images.

    Args:
        place: ``[N]`` float64, the position of an image in its unit over the unit's size, in (0, 1).
        units: ``[N]`` int64, the unit of each image.
        ranking: ``[U]`` int64, units, best first.
        spread: How many times as many units are kept.

    Returns:
        ``[N]`` float64: a budget keeps the images of the lowest values.
    """
    sizes = units.bincount(minlength=len(ranking)).double()
    before = torch.empty_like(sizes)
    before[ranking] = sizes[ranking].cumsum(0) - sizes[ranking]
    # the best spread * n images' units give 1 / spread of their images; once all units do, shares grow alike
    early = (before[units] + spread * place * sizes[units]) / spread
    return early.where(place * spread <= 1, place * len(units))
