"""What selectors have in common that start from the order of another selector."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from tlprune.selection.selection import Selection
from tlprune.selection.selector import Need, Selector, SourceImages

__all__ = ["SelectorOf"]


class SelectorOf(Selector):
    """A selector that needs whatever another one needs.

    Args:
        of: The other selector.
    """

    def __init__(self, of: Selector) -> None:
        self.of = of
        self.unit_kind = of.unit_kind
        needed = {"target": of.needs_target, "target_labels": "target_labels" in of.needs, "labels": of.needs_labels}
        needed |= {part: of.needs_surrogate == part for part in ("classifier", "backbone")}
        self.needs = tuple(cast(Need, name) for name, is_needed in needed.items() if is_needed)

    @property
    def deterministic(self) -> bool:
        """Whether the other selector is, and this one."""
        return super().deterministic and self.of.deterministic

    def of_images(self, found: Selection, ranking: Tensor, scores: Tensor) -> Selection:
        """Creates a Selection of single images, without votes, from the other selector's; both tensors are ``[N]``."""
        total = len(ranking)
        return Selection(
            method=self.method,
            unit_names=(),
            ranking=ranking,
            votes=torch.zeros(total),
            scores=scores,
            unit_of_sample=torch.arange(total),
            assignments=torch.empty(0),
            metadata=found.metadata,
            unit_kind="sample",
        )

    def network(self, surrogate: nn.Module | Sequence[nn.Module] | None) -> nn.Module | None:
        """The part of a surrogate that the other selector uses."""
        return self.of.network(surrogate)

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """Files and folders that the other selector caches."""
        return self.of.cached_paths(source, surrogate, cache)
