"""What every way to select has in common: a source, perhaps a target and a surrogate, and a Selection out of them."""

import platform
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.selection.ballots import Images
from tlprune.selection.manifest import Selection
from tlprune.storage.fingerprint import digest_tensors

__all__ = ["Selector", "SourceImages", "TargetImages"]


class SourceImages(Protocol):
    """What a selector may know of the source.

    Attributes:
        classes: Class names.
        labels: ``[N]`` int64, positions in ``classes``.
        digest: Names the content.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def labels(self) -> Tensor: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102


class TargetImages(Images, Protocol):
    """The target's *training* images in the evaluation view; validation and test images never vote.

    Attributes:
        labels: ``[M]`` int64, the target's own classes.
        digest: Names the content, the view included.
    """

    labels: Tensor

    @property
    def digest(self) -> str: ...  # noqa: D102


class Selector(ABC):
    """A way to order the units of a source. Write your own as a subclass and name it in yaml by ``class_path``."""

    method: ClassVar[str]
    """Name in manifests and reports."""

    def select(
        self, source: SourceImages, target: TargetImages | None = None, surrogate: nn.Module | None = None
    ) -> Selection:
        """Orders the units of ``source``. Every rank of a process group must call this; all get the same result.

        Args:
            source: The set to prune.
            target: Training images of the downstream set, in the evaluation view.
            surrogate: A small model trained on the source.

        Returns:
            The selection.

        Raises:
            InputError: Something that this selector needs is missing, or does not fit.
        """
        if self.needs_vote and (target is None or surrogate is None):
            missing = "a target" if target is None else "a surrogate"
            raise InputError(f"{type(self).__name__} needs {missing}")
        if len(source.labels) == 0:
            raise InputError("the source has no images")
        return self.order(source, target, surrogate)

    @property
    def needs_vote(self) -> bool:
        """Whether :meth:`select` needs a target and a surrogate."""
        return True

    @property
    def reusable(self) -> bool:
        """Whether equal settings always mean an equal order, so that a DataModule may take it from its cache.

        False for selectors of other packages unless they say otherwise: their code may change under the cache.
        """
        return type(self).__module__.startswith("tlprune.")

    @abstractmethod
    def order(self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None) -> Selection:
        """Does the work of :meth:`select`, what is needed being there."""

    @property
    def options(self) -> dict[str, Any]:
        """What the order depends on besides source, target and surrogate, as JSON values."""
        return {}

    def settings(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None
    ) -> dict[str, Any]:
        """What the order depends on: the same settings give the same selection."""
        voting = self.needs_vote
        return {
            "method": self.method,
            "selector": f"{type(self).__module__}.{type(self).__qualname__}",
            "options": self.options,
            "source_digest": source.digest,
            "target_digest": target.digest if voting and target is not None else None,
            "surrogate_digest": digest_tensors(surrogate.state_dict()) if voting and surrogate is not None else None,
        }

    def _by_class(
        self,
        source: SourceImages,
        settings: dict[str, Any],
        ranking: Tensor,
        votes: Tensor,
        scores: Tensor,
        ballots: Tensor | None = None,
        seconds: dict[str, float] | None = None,
    ) -> Selection:
        """A selection whose units are the source's classes."""
        return Selection(
            method=self.method,
            unit_names=tuple(source.classes),
            ranking=ranking,
            votes=votes,
            scores=scores,
            unit_of_sample=source.labels,
            ballots=torch.empty(0) if ballots is None else ballots,
            settings=settings,
            record={"torch": torch.__version__, "python": platform.python_version(), "seconds": seconds or {}},
        )
