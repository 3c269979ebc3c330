"""All that a Selection is made from, opened: images, surrogates, and how they go together."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn

from tlprune.data.adapters import DatasetImages
from tlprune.data.datasets import ImageSet
from tlprune.data.feature_names import check_features, is_features
from tlprune.data.feature_set import FeatureSet
from tlprune.data.image_size import ImageSize
from tlprune.data.opening import Source, Target, set_version, training_images
from tlprune.data.sample_records import records_of
from tlprune.data.sources import absolute_source, check_source
from tlprune.data.target_splits import check_target
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import MAX_SIZE, EvalTransform
from tlprune.data.uncached import cache_for, changing
from tlprune.distributed import broadcast_from_rank0, rank_and_world
from tlprune.errors import InputError, require_within
from tlprune.models.weights import check_weights
from tlprune.preprocessing import Preprocessing
from tlprune.selection.advisor import OF_A_HANDFUL, vote_spread, votes_for_a_handful
from tlprune.selection.given_features import check_given_features
from tlprune.selection.multi_target import Combination, MultiTarget
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector
from tlprune.storage.cache import cache_root, forget
from tlprune.storage.fingerprint import digest_json
from tlprune.storage.job_lock import one_job_at_a_time
from tlprune.surrogates import ReadSurrogate, Surrogate, common_transform, refuse_surrogates

__all__ = ["SelectOptions", "SelectionInputs", "as_list", "check_names"]

_HELD = "centroids"
"""Fields of a cached Selection beside the order; a Selection that was cached without them is made again."""


@dataclass(frozen=True)
class SelectOptions:
    """How a Selection is made, beside source, target, surrogate and selector.

    Args:
        surrogate_backbone: Name of the surrogates' network; None takes the one that each file of weights names.
        surrogate_preprocessing: How the surrogates' weights expect images, where their files do not say.
        combine: How several targets share one order.
        target_weights: Weight of each of several targets, for ``combine: weighted_sum``; None weighs all alike.
        target_seed: Seed of the split of targets that have no split of their own; that of their DownstreamDataModule,
            so that validation images never vote.
        image_size: Height and width in pixels of images that vote; None is as the surrogate's weights expect, else 32
            for images of one size in memory and 224 for others.
    """

    surrogate_backbone: str | None = None
    surrogate_preprocessing: Preprocessing | None = None
    combine: Combination = "worst_case"
    target_weights: list[float] | None = None
    target_seed: int = 0
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None:
            require_within("image_size", self.image_size, 1, MAX_SIZE)

    @property
    def multi_target(self) -> MultiTarget:
        """How several targets are combined.

        Raises:
            InputError: A weight is out of range, or weights are given where none are used.
        """
        return MultiTarget(self.combine, None if self.target_weights is None else tuple(self.target_weights))


@dataclass(frozen=True)
class SelectionInputs:
    """All that a Selection is made from, opened.

    Args:
        selector: Orders the units.
        source: The set to prune.
        targets: Training images of each target; none where nobody votes.
        network: The part of the surrogate that the selector needs.
        multi_target: How several targets are combined.
        cache: The cache folder.
        verify_content: Whether cached work counts only where every byte of every image is the same.
        metadata: Names and sizes that other commands need to find the same inputs again.
    """

    selector: Selector
    source: TransformedDataset | FeatureSet
    targets: tuple[TransformedDataset | FeatureSet, ...]
    network: nn.Module | None
    multi_target: MultiTarget
    cache: Path
    verify_content: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        source: ImageSet,
        targets: Sequence[Target],
        surrogates: Sequence[Surrogate],
        selector: Selector,
        options: SelectOptions,
        image_size: ImageSize,
        *,
        device: torch.device,
        source_name: str | None = None,
        skipped: Sequence[str] = (),
        cache: str | os.PathLike[str] | None = None,
        verify_content: bool = False,
    ) -> "SelectionInputs":
        """Opens targets and surrogates. Nothing is computed or written.

        Args:
            source: The set to prune.
            targets: Whose images vote.
            surrogates: Weights or networks.
            selector: Orders the units.
            options: How.
            image_size: Height and width in pixels that the surrogates see.
            device: Where the surrogates run.
            source_name: The source's name, where it has one.
            skipped: Names of images that were left out of ``source``, since they cannot be decoded.
            cache: The cache folder; None for the user's.
            verify_content: Whether cached work counts only where every byte of every image is the same.

        Raises:
            InputError: Something that the selector needs is missing, or does not fit.
        """
        name = type(selector).__name__
        selector.check_source(source)
        if given := isinstance(source, FeatureSet):
            refuse_surrogates(source.where, surrogates, options.surrogate_backbone, options.surrogate_preprocessing)
        used = (
            [ReadSurrogate.read(one, options.surrogate_preprocessing) for one in surrogates]
            if selector.needs_surrogate and not given
            else []
        )
        transform = common_transform(used, image_size)
        if selector.needs_target and not targets:
            raise InputError(f"{name} needs `target`: whose images shall vote?")
        voters = training_images(targets, options.target_seed, cache) if selector.needs_target else []
        through = _seen_through(source, transform)
        opened = tuple(_seen_through(images, transform) for _, images in voters)
        check_given_features(name, selector.needs, through, opened)
        if selector.needs_surrogate and not used and not given:
            raise InputError(f"{name} needs `surrogate`: weights of a model of the whole source")
        selector.check(through, opened)
        networks = [
            one.network(selector.needs_surrogate, options.surrogate_backbone, source.classes).to(device) for one in used
        ]
        for one in used:
            image_size.warn_if_far(one.preprocessing, f"surrogate {one.name}")
        metadata: dict[str, Any] = {"targets": [name for name, _ in voters]}
        metadata["surrogates"] = [one.location for one in used]
        if options.surrogate_backbone is not None and used:
            metadata["surrogate_backbone"] = options.surrogate_backbone
        if source_name is not None:
            metadata["source"] = absolute_source(source_name)
        seconds = [one.saved.seconds if one.saved is not None else None for one in used]
        if seconds and None not in seconds:
            metadata["surrogate_seconds"] = sum(filter(None, seconds))
        if len(source.labels) and source.classes == tuple(map(str, range(len(source.classes)))):
            _warn_of_first_label(int(source.labels.min()), len(source.classes))
        if isinstance(source, DatasetImages):
            metadata["source_samples"] = records_of(source)
        if skipped:
            metadata["skipped"] = list(skipped)
        if source.display_names != source.classes:
            metadata["titles"] = list(source.display_names)
        metadata |= {"image_size": transform.image_size, "target_seed": options.target_seed}
        if isinstance(source, FeatureSet):
            metadata |= source.metadata([images for _, images in voters])
            networks = [nn.Identity()]
        network, combined = selector.network(networks), options.multi_target
        return cls(selector, through, opened, network, combined, cache_root(cache), verify_content, metadata)

    def select(self) -> Selection:
        """Selects, or reads the Selection from the cache. Every rank calls this; all get the same.

        Raises:
            InputError: An image cannot be read, or scores are not finite.
        """
        self._set_versions()
        sets = self._image_sets
        if not self.selector.deterministic or changing(sets) is not None:
            with cache_for(sets, self.cache) as folder:
                return replace(self, cache=folder)._selected()
        path = self._path
        with one_job_at_a_time(path):
            selection = broadcast_from_rank0(lambda: _read_cached(path))
            if selection is not None:
                return replace(selection, metadata=selection.metadata | self.metadata)
            selection = self._selected()
            broadcast_from_rank0(lambda: selection.save(path))
        return selection

    def forget(self) -> None:
        """Removes from the cache all that :meth:`select` would take from there. Every rank calls this."""
        self._set_versions()
        made = self.selector.cached_paths(self.source, self.network, self.cache)
        broadcast_from_rank0(lambda: forget(self._path, *made))

    def unit_features(self) -> Tensor | None:
        """Where units lie in the surrogate's feature space, after :meth:`select`; no image is looked at.

        Returns:
            ``[U, D]`` float32; None where the selector does not know, and with ``verify_content``, which would read
            every file.
        """
        if self.verify_content or not self.selector.deterministic or isinstance(self.source, FeatureSet):
            return None
        if changing(self._image_sets) is not None:
            return None
        self.source.version = self.source.images.listed_fingerprint
        return self.selector.unit_features(self.source, self.network, self.cache)

    def _selected(self) -> Selection:
        selection = self.selector.select(self.source, self.targets, self.network, self.multi_target, self.cache)
        if votes_for_a_handful(selection):
            warn(f"{vote_spread(selection)}: {OF_A_HANDFUL}", stacklevel=2)
        return replace(selection, metadata=selection.metadata | self.metadata)

    @property
    def _image_sets(self) -> list[ImageSet]:
        return [one if isinstance(one, FeatureSet) else one.images for one in (self.source, *self.targets)]

    def _set_versions(self) -> None:
        for one in (self.source, *self.targets):
            if isinstance(one, FeatureSet):  # its digest covers every byte
                continue
            set_version(one, self.verify_content)

    @property
    def _path(self) -> Path:
        """The cached Selection; its name covers all that the Selection depends on."""
        config = self.selector.config(self.source, self.targets, self.network, self.multi_target)
        source, *targets = ("" if isinstance(one, FeatureSet) else one.version for one in (self.source, *self.targets))
        key = digest_json([config, source, targets, _HELD])
        return self.cache / "selections" / f"{key[:32]}.safetensors"


def check_names(
    source: Source | None, targets: Sequence[Target], surrogates: Sequence[Surrogate], options: SelectOptions
) -> None:
    """Refuses names that lead nowhere, or do not go together, without opening anything.

    Args:
        source: The set to prune; None where there is none.
        targets: Whose images vote.
        surrogates: Weights or networks.
        options: How the Selection is made.

    Raises:
        InputError: There is no such source, target or file, a target is named twice, or weights are not one a target.
    """
    names = [one for one in targets if isinstance(one, str)]
    for name in names:
        if is_features(name):
            check_features(name)
        else:
            check_target(name)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"target {twice} is named twice")
    weights = options.multi_target.weights
    if weights is not None and len(weights) != len(targets):
        raise InputError(f"`target_weights` has {len(weights)} entries, there are {len(targets)} targets")
    if isinstance(source, str):
        check_source(source)
    for one in surrogates:
        if not isinstance(one, nn.Module):
            if not isinstance(one, str | os.PathLike):
                what = "a network, a file of weights, or the name of published weights"
                raise InputError(f"`surrogate` must be {what}, got {type(one).__name__}")
            check_weights(os.fspath(one), "surrogate")


def as_list(given: Any) -> list[Any]:
    """None as no entry, one as one entry, and several as they are; paths become text."""
    if given is None:
        return []
    several = given if isinstance(given, list | tuple) else [given]
    return [os.fspath(one) if isinstance(one, os.PathLike) else one for one in several]


def _warn_of_first_label(lowest: int, count: int) -> None:
    if lowest > 0 and rank_and_world()[0] == 0:
        none = f"no image of the source has a label below {lowest}"
        warn(f"{none}, and classes are counted from 0 to {count - 1}: number labels from 0", stacklevel=3)


def _seen_through(images: ImageSet, transform: EvalTransform) -> TransformedDataset | FeatureSet:
    return images if isinstance(images, FeatureSet) else TransformedDataset(images, transform)


def _read_cached(path: Path) -> Selection | None:
    if not path.is_file():
        return None
    try:
        selection = Selection.load(path)
        return replace(selection, metadata=selection.metadata | {"cached": os.fspath(path)})
    except InputError as error:
        warn(f"{error}; selecting again", stacklevel=2)
        return None
