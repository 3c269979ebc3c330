"""What every way to select has in common: a source, perhaps targets and a surrogate, and a Selection out of them."""

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.selection.fixed_batches import Images
from tlprune.selection.multi_target import MultiTarget
from tlprune.selection.selection import Selection, UnitKind
from tlprune.storage.cache import cache_root
from tlprune.storage.fingerprint import digest_tensors

__all__ = ["Selector", "SourceImages", "SurrogatePart", "TargetImages"]

SurrogatePart = Literal["classifier", "backbone"]
"""What of the surrogate a selector needs: scores of the source's classes, or features alone."""


class SourceImages(Images, Protocol):
    """The source through the evaluation transform.

    Attributes:
        classes: Class names; empty for a source without labels.
        labels: ``[N]`` int64, positions in ``classes``; zeros where there are none.
        fingerprint: Names the content, whatever the transform.
        transform_config: The transform, as JSON values.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def labels(self) -> Tensor: ...  # noqa: D102

    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def transform_config(self) -> dict[str, Any]: ...  # noqa: D102


TargetImages = SourceImages
"""A target's *training* images through the evaluation transform; validation and test images never vote."""


class Selector(ABC):
    """A way to order the units of a source. Write your own as a subclass and name it in yaml by ``class_path``."""

    method: ClassVar[str]
    """Name in manifests and reports."""

    label: ClassVar[str] = ""
    """Name in tables and pictures."""

    several_surrogates: ClassVar[bool] = False
    """Whether it averages over several surrogates; they come as one :class:`torch.nn.ModuleList`."""

    @property
    def unit_kind(self) -> UnitKind:
        """What it orders: the source's classes, unless it says otherwise."""
        return "class"

    @property
    def needs_target(self) -> bool:
        """Whether somebody has to vote."""
        return True

    @property
    def needs_surrogate(self) -> SurrogatePart | None:
        """What of a surrogate it needs; None for nothing."""
        return "classifier"

    @property
    def needs_labels(self) -> bool:
        """Whether the source has to be labelled."""
        return self.unit_kind == "class"

    @property
    def deterministic(self) -> bool:
        """Whether equal settings always mean an equal order, so that a DataModule may take it from its cache.

        False for selectors of other packages unless they say otherwise: their code may change under the cache.
        """
        return type(self).__module__.startswith("tlprune.")

    @property
    def options(self) -> dict[str, Any]:
        """What the order depends on besides source, targets and surrogate, as JSON values."""
        return {}

    @abstractmethod
    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Orders the units of ``source`` for one target; :meth:`select` has seen to it that what is needed is there.

        Args:
            source: The set to prune.
            target: Who votes; None where :attr:`needs_target` is false.
            surrogate: The part that :attr:`needs_surrogate` names.
            cache: Folder for what another target can use again.
        """

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """What :meth:`order` leaves in the cache for other targets, and takes from there.

        Args:
            source: The set to prune.
            surrogate: The part that :attr:`needs_surrogate` names.
            cache: The cache folder.

        Returns:
            Files and folders, which need not be there; none unless a selector says otherwise.
        """
        return ()

    def unit_features(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> Tensor | None:
        """Where units lie in the surrogate's feature space, as far as that is known without a look at an image.

        Args:
            source: The set to prune.
            surrogate: The part that :attr:`needs_surrogate` names.
            cache: The cache folder, after :meth:`order`.

        Returns:
            ``[U, D]`` float32 on the CPU; None unless a selector says otherwise.
        """
        return None

    def select(
        self,
        source: SourceImages,
        target: TargetImages | Sequence[TargetImages] | None = None,
        surrogate: nn.Module | Sequence[nn.Module] | None = None,
        several: MultiTarget | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> Selection:
        """Orders the units of ``source``. Every rank of a process group must call this; all get the same result.

        Args:
            source: The set to prune.
            target: Training images of the downstream set, through the evaluation transform; or of several such sets.
            surrogate: A small model trained on the source; several for a selector that averages.
            several: How several targets are combined; None is the worst case.
            cache: The cache folder; None for the user's.

        Returns:
            The selection.

        Raises:
            InputError: Something that this selector needs is missing, or does not fit.
        """
        targets = _listed(target)
        network = self.network(surrogate)
        self.check(source, targets)
        config = self.config(source, targets, network, several)
        folder = cache_root(cache)
        if self.needs_target:
            found = [self.order(source, one, network, folder) for one in targets]
        else:
            found = [self.order(source, None, network, folder)]
        one = found[0] if len(found) == 1 else (several or MultiTarget()).combine(found)
        made_with = {"torch": torch.__version__, "python": platform.python_version()}
        return replace(one, method=self.method, config=config, metadata=made_with | one.metadata)

    def check(self, source: SourceImages, targets: Sequence[TargetImages]) -> None:
        """Refuses sets that this selector cannot work on, before anything is computed.

        Args:
            source: The set to prune.
            targets: Who votes.

        Raises:
            InputError: A set is empty, missing, or has no labels where they are needed.
        """
        if self.needs_target and not targets:
            raise InputError(f"{type(self).__name__} needs a target")
        if len(source.labels) == 0:
            raise InputError("the source has no images")
        if self.needs_labels and not source.classes:
            name = type(self).__name__
            raise InputError(f"{name} needs a labelled source, and this one has no labels (clusters need none)")
        if self.needs_target and any(len(one.labels) == 0 for one in targets):
            raise InputError("the target has no training images, so nobody can vote")

    def network(self, surrogate: nn.Module | Sequence[nn.Module] | None) -> nn.Module | None:
        """The part of a surrogate that this selector uses.

        Args:
            surrogate: A model with a ``backbone`` and a ``head``, or several; for features, a backbone alone will do.

        Raises:
            InputError: It is missing, or there are several and one is needed.
        """
        if self.needs_surrogate is None:
            return None
        given: list[nn.Module] = []
        if isinstance(surrogate, nn.ModuleList) or not isinstance(surrogate, nn.Module):
            given += surrogate or []
        else:
            given.append(surrogate)
        if not given:
            raise InputError(f"{type(self).__name__} needs a surrogate")
        if self.needs_surrogate == "backbone":
            given = [getattr(one, "backbone", one) for one in given]
        if self.several_surrogates:
            return nn.ModuleList(given)
        if len(given) > 1:
            raise InputError(f"{type(self).__name__} needs one surrogate, got {len(given)}")
        return given[0]

    def config(
        self,
        source: SourceImages,
        targets: Sequence[TargetImages],
        network: nn.Module | None,
        several: MultiTarget | None = None,
    ) -> dict[str, Any]:
        """What the order depends on, as JSON values: the same settings give the same selection.

        Args:
            source: The set to prune.
            targets: Who votes.
            network: What :meth:`network` returns.
            several: How several targets are combined.
        """
        voters = targets if self.needs_target else ()
        combined = (several or MultiTarget()).options if len(voters) > 1 else None
        return {
            "method": self.method,
            "selector": f"{type(self).__module__}.{type(self).__qualname__}",
            "options": self.options,
            "source_digest": source.fingerprint(),
            "targets": [{"digest": one.fingerprint(), "images": len(one.labels)} for one in voters],
            "several_targets": combined,
            "surrogate_digest": None if network is None else digest_tensors(network.state_dict()),
            "view": None if network is None else source.transform_config,
        }


def _listed(target: TargetImages | Sequence[TargetImages] | None) -> tuple[TargetImages, ...]:
    if target is None:
        return ()
    return tuple(target) if isinstance(target, Sequence) else (target,)
