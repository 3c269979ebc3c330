"""Base class of all selectors: a source, optional targets and an optional surrogate give a Selection."""

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from inspect import isabstract, signature
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.selection.fixed_batches import Images
from tlprune.selection.given_features import GivenFeatures, check_given_features, config_of_features
from tlprune.selection.multi_target import MultiTarget
from tlprune.selection.selection import Selection, UnitKind
from tlprune.storage.cache import cache_root
from tlprune.storage.fingerprint import digest_tensors

__all__ = ["Need", "Selector", "SourceImages", "SurrogatePart", "TargetImages"]

Need = Literal["target", "target_labels", "labels", "classifier", "backbone"]
"""Requirement of a selector: target images that vote, their labels, source labels, or a part of a surrogate."""

SurrogatePart = Literal["classifier", "backbone"]
"""Part of a surrogate: the classifier, which scores the source's classes, or the backbone, which gives features."""

_FORMER_NAMES = {"reusable": "deterministic", "kept_in": "cached_paths", "settings": "config"}


class SourceClasses(Protocol):
    """Class names and labels of a source.

    Attributes:
        classes: Class names; empty for a source without labels.
        labels: Int64 tensor ``[N]`` of positions in ``classes``.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> Tensor: ...


class SourceImages(Images, Protocol):
    """Source images under the evaluation transform.

    Attributes:
        classes: Class names; empty for a source without labels.
        labels: Int64 tensor ``[N]`` of positions in ``classes``; zeros for a source without labels.
        fingerprint: Digest of the content, independent of the transform.
        transform_config: Description of the transform, as JSON values.
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
    """Base class for methods that rank the units of a source.

    To add a method, write a subclass and name it in yaml by its ``class_path``.
    """

    method: ClassVar[str]
    """Name of the method in saved Selections and results."""

    label: ClassVar[str] = ""
    """Display name; defaults to the class name."""

    score_label: ClassVar[str] = "score"
    """Display name of the scores."""

    scores_are_negative: ClassVar[bool] = False
    """Whether scores are displayed without their sign, for example when they are negated distances."""

    scores_are_log_weights: ClassVar[bool] = False
    """Whether images may be drawn with odds ``exp(strength * score)``, with ``strength`` among the options."""

    unit_kind: UnitKind = "class"
    """Kind of unit that is ranked. A selector that lets the user choose sets it in its constructor."""

    needs: tuple[Need, ...] = ("target", "classifier")
    """Requirements of the selector."""

    several_surrogates: ClassVar[bool] = False
    """Whether several surrogates are averaged; they are passed as one :class:`torch.nn.ModuleList`."""

    draws_seed: ClassVar[bool] = False
    """Whether the order is random, that is, whether the constructor takes a ``seed``."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Sets attributes derived from the class and takes over former names."""
        super().__init_subclass__(**options)
        own = vars(cls)
        if "label" not in own and not isabstract(cls):
            cls.label = cls.__name__
        cls.draws_seed = "seed" in signature(cls).parameters
        for former, name in _FORMER_NAMES.items():
            if former in own and name not in own:
                setattr(cls, name, own[former])

    @property
    def needs_target(self) -> bool:
        """Whether a target is required."""
        return "target" in self.needs

    @property
    def needs_surrogate(self) -> SurrogatePart | None:
        """Required part of the surrogate; None if no surrogate is used."""
        if "classifier" in self.needs:
            return "classifier"
        return "backbone" if "backbone" in self.needs else None

    @property
    def needs_labels(self) -> bool:
        """Whether the source must be labelled."""
        return "labels" in self.needs or self.unit_kind == "class"

    @property
    def needs_images(self) -> bool:
        """Whether source images are required, or whether class names suffice."""
        return True

    @property
    def deterministic(self) -> bool:
        """Whether equal options always give the same order, so that the order may be cached.

        Defaults to False for selectors from other packages, because their code may change.
        """
        return type(self).__module__.startswith("tlprune.")

    @property
    def options(self) -> dict[str, Any]:
        """Settings that affect the order besides source, targets and surrogate, as JSON values."""
        return {}

    @abstractmethod
    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Ranks the units of ``source`` for one target. :meth:`select` validates the requirements before calling this.

        Args:
            source: Source to prune.
            target: Images that vote; None if :attr:`needs_target` is false.
            surrogate: Part of the surrogate given by :attr:`needs_surrogate`.
            cache: Folder for intermediate results that other targets can reuse.
        """

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """Returns the cache paths that :meth:`order` writes and that other targets reuse.

        Args:
            source: Source to prune.
            surrogate: Part of the surrogate given by :attr:`needs_surrogate`.
            cache: Cache folder.

        Returns:
            Files and folders, which need not exist; empty by default.
        """
        return ()

    def unit_features(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> Tensor | None:
        """Returns the positions of units in the surrogate's feature space, if known without reading any image.

        Args:
            source: Source to prune.
            surrogate: Part of the surrogate given by :attr:`needs_surrogate`.
            cache: Cache folder, after :meth:`order` has run.

        Returns:
            Float32 tensor ``[U, D]`` on the CPU; None by default.
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
        """Ranks the units of ``source``. Every rank of a process group must call this; all get the same result.

        Args:
            source: Source to prune.
            target: Training images of one or several downstream sets, under the evaluation transform.
            surrogate: Small model trained on the source; several for a selector that averages; None for features.
            several: Rule that combines several targets; None for the worst case.
            cache: Cache folder; None for the user's default.

        Returns:
            The selection.

        Raises:
            InputError: If a requirement of this selector is missing or does not fit.
        """
        targets = _listed(target)
        if surrogate is None and isinstance(source, GivenFeatures):
            surrogate = nn.Identity()
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
        """Rejects unsuitable datasets before anything is computed.

        Args:
            source: Source to prune.
            targets: Targets that vote.

        Raises:
            InputError: If a dataset is empty or missing, has no labels although they are required, or its features do
                not fit.
        """
        if self.needs_target and not targets:
            raise InputError(f"{type(self).__name__} needs a target")
        self.check_source(source)
        if self.needs_target and any(len(one.labels) == 0 for one in targets):
            raise InputError("the target has no training images, so nobody can vote")
        if "target_labels" in self.needs and any(not one.classes for one in targets):
            what = "gives each target class the same weight, and the target has no labels"
            raise InputError(f"`balance: true` of {type(self).__name__} {what}; use `balance: false`")
        check_given_features(type(self).__name__, self.needs, source, targets)

    def check_source(self, source: SourceClasses) -> None:
        """Rejects an unsuitable source before targets and surrogates are opened.

        Args:
            source: Source to prune.

        Raises:
            InputError: If it has no images or no labels although they are required.
        """
        name = type(self).__name__
        if getattr(source, "only_classes", False):
            if self.needs_images:
                what = f"images of the source, and only the names of its {len(source.classes):,} classes are known"
                raise InputError(f"{name} needs {what}; Label Mapping needs no more than these")
        elif len(source.labels) == 0:
            raise InputError("the source has no images")
        if self.needs_labels and not source.classes:
            raise InputError(f"{name} needs a labelled source, and this one has no labels (clusters need none)")

    def network(self, surrogate: nn.Module | Sequence[nn.Module] | None) -> nn.Module | None:
        """Returns the part of the surrogate that this selector uses.

        Args:
            surrogate: Model with a ``backbone`` and a ``head``, or several; a backbone alone suffices for features.

        Raises:
            InputError: If the surrogate is missing, or if several are given and one is required.
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
        """Returns all settings that affect the order, as JSON values. Equal settings give equal selections.

        Args:
            source: Source to prune.
            targets: Targets that vote.
            network: Network returned by :meth:`network`.
            several: Rule that combines several targets.
        """
        voters = targets if self.needs_target else ()
        combined = (several or MultiTarget()).options if len(voters) > 1 else None
        config = {
            "method": self.method,
            "selector": f"{type(self).__module__}.{type(self).__qualname__}",
            "options": self.options,
            "source_digest": source.fingerprint(),
            "targets": [{"digest": one.fingerprint(), "images": len(one.labels)} for one in voters],
            "several_targets": combined,
            "surrogate_digest": None if network is None else digest_tensors(network.state_dict()),
            "view": None if network is None else source.transform_config,
        }
        if isinstance(source, GivenFeatures):
            config |= {} if network is None else config_of_features(self.options, source, voters)
            config |= {} if source.source_paths is None else {"source_paths": source.source_paths}
        return config


def _listed(target: TargetImages | Sequence[TargetImages] | None) -> tuple[TargetImages, ...]:
    if target is None:
        return ()
    return tuple(target) if isinstance(target, Sequence) else (target,)
