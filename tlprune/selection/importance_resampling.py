"""Importance Resampling: draws images of units first that have more votes than their size explains.

Xie et al., "Data Selection for Language Models via Importance Resampling" (DSIR), NeurIPS 2023, with the units of
another selector in place of n-grams; for classes Ngiam et al., "Domain Adaptive Transfer Learning with Specialist
Models", 2018.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, require_within
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector, SourceImages, TargetImages
from tlprune.selection.selector_of import SelectorOf

__all__ = ["ImportanceResampling", "log_importance", "resampled"]

_AT_ONCE = 2**16


class ImportanceResampling(SelectorOf):
    """Draws images without replacement, with odds that follow the votes for their units over the units' sizes.

    The weight of unit ``u`` is ``w_u = log((v_u + a) / (n + a U)) - log(s_u / N)``: ``v_u`` of ``n`` votes, ``s_u`` of
    ``N`` images, ``U`` units, smoothing ``a``. Images are sorted by ``b w_u + g_i``, where ``g_i`` is Gumbel noise: the
    best ``k`` are then a draw of ``k`` images with odds ``exp(b w_u)``, for every ``k``.

    Args:
        of: Whose votes count: Label Mapping, or Feature Mapping for a source without labels; None is Label Mapping with
            soft votes.
        strength: ``b``, at least 0. At 0 the order is random; the larger it is, the less is left to chance.
        smoothing: ``a``, at least 0: votes that every unit has before any is cast.
        seed: Seed of the noise.
        unit: ``sample`` orders single images; ``same`` orders the other selector's units, classes or clusters.

    Raises:
        InputError: An argument is out of range.
    """

    method = "importance_resampling"
    label = "importance resampling"
    score_label = "log weight"
    scores_are_log_weights = True

    def __init__(
        self,
        of: Selector | None = None,
        strength: float = 2.0,
        smoothing: float = 1.0,
        seed: int = 0,
        unit: Literal["sample", "same"] = "sample",
    ) -> None:
        super().__init__(of or LabelMapping(votes="soft"))
        for name, value in (("strength", strength), ("smoothing", smoothing)):
            if not (0 <= value < math.inf):
                raise InputError(f"`{name}` must be finite and at least 0, got {value}")
        require_within("seed", seed, 0, 2**63 - 1)
        if unit not in ("sample", "same"):
            raise InputError(f"`unit` must be 'sample' or 'same', got {unit!r}")
        self.strength = strength
        self.smoothing = smoothing
        self.seed = seed
        self.unit = unit
        if unit == "sample":
            self.unit_kind = "sample"

    @property
    def options(self) -> dict[str, Any]:
        """Odds and noise, and the other selector with its options."""
        own = {"strength": self.strength, "smoothing": self.smoothing, "seed": self.seed, "unit": self.unit}
        return {**own, "of": {"method": self.of.method, **self.of.options}}

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """The other selector's votes, and a draw.

        Raises:
            InputError: ``smoothing`` is 0 and a unit has no vote.
        """
        found = self.of.order(source, target, surrogate, cache)
        return broadcast_from_rank0(lambda: self._drawn(found))

    def _drawn(self, found: Selection) -> Selection:
        weights = log_importance(found.votes, found.unit_sizes, self.smoothing)
        if self.unit == "same":
            return replace(found, ranking=resampled(weights, self.strength, self.seed), scores=weights)
        of_sample = weights[found.unit_of_sample.long()]
        return self.of_images(found, resampled(of_sample, self.strength, self.seed), of_sample)


def log_importance(votes: Tensor, sizes: Tensor, smoothing: float) -> Tensor:
    """Log of the share of votes of each unit over its share of images.

    Args:
        votes: ``[U]``, at least 0.
        sizes: ``[U]``, images of each unit.
        smoothing: Votes that every unit has beforehand, at least 0.

    Returns:
        ``[U]`` float64; for units without images the lowest value of all.

    Raises:
        InputError: ``smoothing`` is 0 and a unit has no vote.

    Example:
        >>> log_importance(torch.tensor([3.0, 1.0]), torch.tensor([10, 10]), 0.0).exp().tolist()
        [1.5, 0.5]
    """
    silent = int((votes == 0).sum())
    if smoothing == 0 and silent:
        raise InputError(f"`smoothing` is 0, and {silent} of {len(votes)} units have no vote; set it above 0")
    share = (votes.double() + smoothing) / (votes.double().sum() + smoothing * len(votes))
    filled = sizes > 0
    weights = share.log() - (sizes.double() / sizes.sum()).where(filled, torch.tensor(1.0).double()).log()
    return weights.where(filled, weights[filled].min())


def resampled(weights: Tensor, strength: float, seed: int) -> Tensor:
    """An order of which every beginning is a draw without replacement with odds ``exp(strength * weights)``.

    Args:
        weights: ``[U]`` float64, finite.
        strength: At least 0.
        seed: Seed of the noise.

    Returns:
        ``[U]`` int64, a permutation.
    """
    # In place, since there may be many images. The noise has the other sign, so that the least keys come first
    keys = torch.rand(len(weights), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    keys.clamp_(min=torch.finfo(torch.float64).tiny).log_().neg_().log_()
    for some, part in zip(torch.split(keys, _AT_ONCE), torch.split(weights, _AT_ONCE), strict=True):
        some.sub_(strength * part)
    return torch.from_numpy(_stable_order(keys.numpy()))


def _stable_order(keys: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sorts by key, then by index. A stable sort takes more memory, and is needed only where keys are equal."""
    order = keys.argsort()
    for start in range(0, len(order) - 1, _AT_ONCE):
        part = keys[order[start : start + _AT_ONCE + 1]]
        if (part[1:] == part[:-1]).any():
            return keys.argsort(kind="stable")
    return order
