"""Controls: what a method must beat. Random, and the reverse of any order."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tlprune.selection.manifest import Selection
from tlprune.selection.selector import Selector, SourceImages, TargetImages

__all__ = ["RandomSelector", "ReverseSelector"]


class RandomSelector(Selector):
    """Orders the source classes by chance.

    Args:
        seed: Decides the order.
    """

    method = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @property
    def needs_vote(self) -> bool:
        """Nobody is asked."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """The seed."""
        return {"seed": self.seed}

    def order(self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None) -> Selection:
        """A random permutation; target and surrogate are not looked at."""
        classes = len(source.classes)
        ranking = torch.randperm(classes, generator=torch.Generator().manual_seed(self.seed))
        none = torch.zeros(classes)
        return self._by_class(source, self.settings(source, target, surrogate), ranking, none, none)


class ReverseSelector(Selector):
    """Keeps first what another selector would keep last: if its votes mean anything, this does harm.

    Args:
        of: The selector to reverse.
    """

    method = "reverse"

    def __init__(self, of: Selector) -> None:
        self.of = of

    @property
    def needs_vote(self) -> bool:
        """As the selector that is reversed."""
        return self.of.needs_vote

    @property
    def reusable(self) -> bool:
        """As the selector that is reversed."""
        return super().reusable and self.of.reusable

    @property
    def options(self) -> dict[str, Any]:
        """Those of the selector that is reversed."""
        return {"of": self.of.method, **self.of.options}

    def order(self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None) -> Selection:
        """The other selector's order, turned round."""
        forward = self.of.select(source, target, surrogate)
        settings = self.settings(source, target, surrogate)
        return replace(forward, method=self.method, ranking=forward.ranking.flip(0), settings=settings)
