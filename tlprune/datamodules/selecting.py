"""From names and files to a Selection: opens targets and surrogates, selects, and keeps the result in the cache."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn

from tlprune.data.datasets import ImageSet
from tlprune.data.sources import absolute_source, check_source
from tlprune.data.target_splits import TargetSplits, absolute_target, check_target, open_target
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.datamodules.image_transforms import ImageSize
from tlprune.errors import InputError
from tlprune.models.weights import SavedWeights, check_weights, load_backbone, load_classifier, read_weights
from tlprune.preprocessing import Preprocessing
from tlprune.selection.distributed import broadcast_from_rank0, one_job_at_a_time
from tlprune.selection.multi_target import MultiTarget
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector
from tlprune.storage.cache import cache_root, forget
from tlprune.storage.fingerprint import digest_json
from tlprune.storage.paths import user_path

__all__ = ["Selecting", "check_names", "check_saved", "warn_beyond_votes"]


def check_names(
    source: str | ImageSet, targets: Sequence[str | TargetSplits], several: MultiTarget, surrogates: Sequence[str]
) -> None:
    """Refuses what is not there, or does not go together, without opening anything.

    Args:
        source: The set to prune.
        targets: Who votes.
        several: How several targets share one order.
        surrogates: Weights files.

    Raises:
        InputError: The name of one of them leads nowhere, a target is named twice, or weights are not one a target.
    """
    names = [one for one in targets if isinstance(one, str)]
    for name in names:
        check_target(name)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"target {twice} is named twice")
    weights = several.weights
    if weights is not None and len(weights) != len(targets):
        raise InputError(f"`target_weights` has {len(weights)} entries, there are {len(targets)} targets")
    if isinstance(source, str):
        check_source(source)
    for one in surrogates:
        check_weights(one, "surrogate")


def check_saved(**selections: str | None) -> None:
    """Refuses files of Selections that are not there.

    Args:
        selections: Paths, by what they are for.

    Raises:
        InputError: One is a URL, a folder, or missing.
    """
    for what, path in selections.items():
        if path is not None and "://" in path:
            raise InputError(f"{what} {path}: read from local files only; download the file first")
        if path is not None and not (file := user_path(path)).is_file():
            raise InputError(f"{what} {path}: {'a folder, not a file' if file.is_dir() else 'no such file'}")


@dataclass(frozen=True)
class Selecting:
    """What a Selection is made from, as the user names it.

    Args:
        selector: Orders the units.
        source: What the user calls the source, if it has a name.
        targets: Who votes: names, folders, or opened targets.
        several: How several targets share one order.
        surrogates: Weights files.
        surrogate_backbone: Name of the surrogates' network; None takes the one that each file names.
        surrogate_preprocessing: How the surrogates' weights expect images, where their files do not say, or say
            otherwise.
        image_size: Height and width in pixels that the surrogate sees.
        target_seed: Decides the split of targets that have none of their own.
        cache: The cache folder; None for the user's.
        skipped: Names of source images that are left out of the source, since they cannot be decoded.
        verify_content: Whether what is in the cache is used only where every byte of every image is the same; else
            files of the same path, size and time of change are taken for the same.
    """

    selector: Selector
    source: str | None
    targets: tuple[str | TargetSplits, ...]
    several: MultiTarget
    surrogates: tuple[str, ...]
    surrogate_backbone: str | None
    surrogate_preprocessing: Preprocessing
    image_size: ImageSize
    target_seed: int
    cache: str | None
    skipped: tuple[str, ...] = ()
    verify_content: bool = False

    def check(self, source: ImageSet) -> None:
        """Opens all that :meth:`select` will need, and changes nothing.

        Args:
            source: The set to prune.

        Raises:
            InputError: As :meth:`select`, as far as that can be known without looking at an image.
        """
        self._opened(source, self._read_surrogates(), torch.device("cpu"))

    def voters(self) -> list[ImageSet]:
        """The training images of each target, where the selector has them vote.

        Raises:
            InputError: A target cannot be opened.
        """
        asked = self.targets if self.selector.needs_target else ()
        opened = [open_target(one, self.target_seed) if isinstance(one, str) else one for one in asked]
        return [one.train for one in opened]

    def select(self, source: ImageSet, device: torch.device) -> Selection:
        """Selects, or reads the Selection from the cache. Every rank must call this; all get the same.

        Args:
            source: The set to prune.
            device: Where the surrogate runs.

        Raises:
            InputError: Something that the selector needs is missing, or does not fit.
        """
        surrogates = self._read_surrogates()
        viewed, targets, network = self._opened(source, surrogates, device)
        names = self._names(source, surrogates, viewed.transform.image_size)
        for saved in surrogates:
            self.image_size.warn_if_far(self._expected(saved), f"surrogate {saved.path}")
        self._set_versions(viewed, targets)
        if not self.selector.deterministic:
            selection = self.selector.select(viewed, targets, network, self.several, self.cache)
            return replace(selection, metadata=selection.metadata | names)
        path = self._path(viewed, targets, network)
        with one_job_at_a_time(path):
            selection = broadcast_from_rank0(lambda: _read_cached(path)) or self.selector.select(
                viewed, targets, network, self.several, self.cache
            )
            selection = replace(selection, metadata=selection.metadata | names)
            if "cached" not in selection.metadata:
                broadcast_from_rank0(lambda: selection.save(path))
        return selection

    def forget(self, source: ImageSet) -> None:
        """Removes from the cache what :meth:`select` would take from there. Every rank must call this.

        Args:
            source: The set to prune.

        Raises:
            InputError: As :meth:`select`, as far as that can be known without looking at an image.
        """
        viewed, targets, network = self._opened(source, self._read_surrogates(), torch.device("cpu"))
        self._set_versions(viewed, targets)
        path = self._path(viewed, targets, network)
        broadcast_from_rank0(lambda: forget(path, *self.selector.cached_paths(viewed, network, cache_root(self.cache))))

    def unit_features(self, source: ImageSet) -> Tensor | None:
        """Where units lie in the surrogate's feature space, after :meth:`select`; no image is looked at.

        Args:
            source: The set to prune.

        Returns:
            ``[U, D]`` float32; None where the selector does not know, and with ``verify_content``, under which every
            file would be read to find out.
        """
        if self.verify_content or not self.selector.deterministic:
            return None
        surrogates = self._read_surrogates()
        networks = [self._network(saved, source.classes) for saved in surrogates]
        viewed = TransformedDataset(source, self._view(surrogates))
        viewed.version = source.listed_fingerprint
        return self.selector.unit_features(viewed, self.selector.network(networks), cache_root(self.cache))

    def _set_versions(self, viewed: TransformedDataset, targets: Sequence[TransformedDataset]) -> None:
        for one in (viewed, *targets):
            images = one.images
            if self.verify_content:
                one.version = broadcast_from_rank0(partial(images.fingerprint, "bytes"))
            else:
                one.version = images.listed_fingerprint

    def _path(
        self, viewed: TransformedDataset, targets: Sequence[TransformedDataset], network: nn.Module | None
    ) -> Path:
        """The file of the cache that the Selection is in; its name says all that the Selection depends on."""
        settings = self.selector.config(viewed, targets, network, self.several)
        key = digest_json([settings, viewed.version, [one.version for one in targets]])
        return cache_root(self.cache) / "selections" / f"{key[:32]}.safetensors"

    def _opened(
        self, source: ImageSet, surrogates: Sequence[SavedWeights], device: torch.device
    ) -> tuple[TransformedDataset, list[TransformedDataset], nn.Module | None]:
        view = self._view(surrogates)
        viewed = TransformedDataset(source, view)
        name = type(self.selector).__name__
        if self.selector.needs_target and not self.targets:
            raise InputError(f"{name} needs `target`: whose images shall vote?")
        if self.selector.needs_surrogate is not None and not self.surrogates:
            raise InputError(f"{name} needs `surrogate`: weights of a model of the whole source")
        targets = [TransformedDataset(one, view) for one in self.voters()]
        self.selector.check(viewed, targets)
        networks = [self._network(saved, source.classes).to(device) for saved in surrogates]
        return viewed, targets, self.selector.network(networks)

    def _read_surrogates(self) -> list[SavedWeights]:
        return [read_weights(path) for path in self.surrogates] if self.selector.needs_surrogate is not None else []

    def _expected(self, saved: SavedWeights) -> Preprocessing:
        return self.surrogate_preprocessing.over(saved.preprocessing)

    def _view(self, surrogates: Sequence[SavedWeights]) -> EvalTransform:
        """How source and targets are seen by all of the surrogates."""
        said = [self._expected(saved) for saved in surrogates] or [Preprocessing()]
        views = [EvalTransform(self.image_size.expected(one), one) for one in said]
        for saved, view in zip(surrogates, views, strict=False):
            if view.preprocessing != views[0].preprocessing:
                first, other = (one.preprocessing.described() for one in (views[0], view))
                pair = f"{surrogates[0].path} ({first}) and {saved.path} ({other})"
                raise InputError(f"surrogates expect images in different ways: {pair}")
        return views[0]

    def _network(self, saved: SavedWeights, classes: tuple[str, ...]) -> nn.Module:
        """A surrogate, or its backbone alone, as the selector needs it."""
        if self.selector.needs_surrogate == "backbone":
            return load_backbone(saved, self.surrogate_backbone)
        classifier, _ = load_classifier(saved, self.surrogate_backbone)
        if saved.num_classes != len(classes):
            sizes = f"its head has {saved.num_classes} outputs, the source has {len(classes)} classes"
            raise InputError(f"surrogate {saved.path}: {sizes}")
        if saved.classes and saved.classes != tuple(classes):
            pairs = zip(saved.classes, classes, strict=True)
            theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
            where = f"{theirs!r} where the source has {ours!r}"
            raise InputError(f"surrogate {saved.path}: trained on other classes ({where})")
        return classifier

    def _names(self, source: ImageSet, surrogates: Sequence[SavedWeights], image_size: int) -> dict[str, Any]:
        """How the user called what the selection was made from, so that another command finds it again."""
        targets = [one if isinstance(one, str) else one.name for one in self.targets if self.selector.needs_target]
        named: dict[str, Any] = {"targets": [absolute_target(one) for one in targets]}
        named["surrogates"] = [_absolute(str(one.path)) for one in surrogates]
        if self.source is not None:
            named["source"] = absolute_source(self.source)
        seconds = [one.seconds for one in surrogates]
        if seconds and None not in seconds:
            named["surrogate_seconds"] = sum(filter(None, seconds))
        if self.skipped:
            named["skipped"] = list(self.skipped)
        if source.display_names != source.classes:
            named["titles"] = list(source.display_names)
        return {**named, "image_size": image_size, "target_seed": self.target_seed}


def warn_beyond_votes(selection: Selection, kept: int) -> None:
    """Says so where more units are kept than have votes.

    Args:
        selection: Orders the units.
        kept: How many of them are kept.
    """
    voted = int((selection.votes > 0).sum())
    if 0 < voted < kept < selection.num_units:
        warn(f"{kept} units are kept, but only {voted} have votes; the rest are ordered by score alone", stacklevel=3)


def _read_cached(path: Path) -> Selection | None:
    if not path.is_file():
        return None
    try:
        selection = Selection.load(path)
        return replace(selection, metadata=selection.metadata | {"cached": os.fspath(path)})
    except InputError as error:
        warn(f"{error}; selecting again", stacklevel=2)
        return None


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).exists() else name
