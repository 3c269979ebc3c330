"""From names and files to a Selection: opens targets and surrogates, selects, and keeps the result in the cache."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from warnings import warn

import torch
from torch import nn

from tlprune.data.downstream import Downstream, absolute_target, open_target
from tlprune.data.images import ImageSet
from tlprune.data.sources import absolute_source
from tlprune.data.transforms import EvalView
from tlprune.data.viewed import ViewedImages
from tlprune.errors import InputError
from tlprune.models.weights import SavedWeights, load_backbone, load_classifier, read_weights
from tlprune.selection.manifest import Selection
from tlprune.selection.ranks import from_first_rank, rank_and_world
from tlprune.selection.selector import Selector
from tlprune.selection.several_targets import SeveralTargets
from tlprune.storage.cache import cache_root
from tlprune.storage.fingerprint import digest_json

__all__ = ["Selecting"]


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
        image_size: Height and width in pixels that the surrogate sees.
        target_seed: Decides the split of targets that have none of their own.
        cache: The cache folder; None for the user's.
        skipped: Names of source images that are left out of the source, since they cannot be decoded.
    """

    selector: Selector
    source: str | None
    targets: tuple[str | Downstream, ...]
    several: SeveralTargets
    surrogates: tuple[str, ...]
    surrogate_backbone: str | None
    image_size: int
    target_seed: int
    cache: str | None
    skipped: tuple[str, ...] = ()

    def check(self, source: ImageSet) -> None:
        """Opens all that :meth:`select` will need, and changes nothing.

        Args:
            source: The set to prune.

        Raises:
            InputError: As :meth:`select`, as far as that can be known without looking at an image.
        """
        self._opened(source, self._read_surrogates(), torch.device("cpu"))

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
        settings = self.selector.settings(viewed, targets, network, self.several)
        path = cache_root(self.cache) / "selections" / f"{digest_json(settings)[:32]}.safetensors"
        cached = from_first_rank(lambda: _read_cached(path)) if self.selector.reusable else None
        selection = cached or self.selector.select(viewed, targets, network, self.several, self.cache)
        selection = replace(selection, record=selection.record | self._names(source, surrogates))
        if cached is None and self.selector.reusable and rank_and_world()[0] == 0:
            selection.save(path)
        return selection

    def _opened(
        self, source: ImageSet, surrogates: Sequence[SavedWeights], device: torch.device
    ) -> tuple[ViewedImages, list[ViewedImages], nn.Module | None]:
        viewed = ViewedImages(source, EvalView(self.image_size))
        name = type(self.selector).__name__
        if self.selector.needs_target and not self.targets:
            raise InputError(f"{name} needs `target`: whose images shall vote?")
        if self.selector.needs_surrogate is not None and not self.surrogates:
            raise InputError(f"{name} needs `surrogate`: weights of a model of the whole source")
        voters = self.targets if self.selector.needs_target else ()
        opened = [open_target(one, self.target_seed) if isinstance(one, str) else one for one in voters]
        targets = [ViewedImages(one.train, EvalView(self.image_size)) for one in opened]
        self.selector.check(viewed, targets)
        networks = [self._network(saved, source.classes).to(device) for saved in surrogates]
        return viewed, targets, self.selector.network(networks)

    def _read_surrogates(self) -> list[SavedWeights]:
        return [read_weights(path) for path in self.surrogates] if self.selector.needs_surrogate is not None else []

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

    def _names(self, source: ImageSet, surrogates: Sequence[SavedWeights]) -> dict[str, Any]:
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
        if source.titles != source.classes:
            named["titles"] = list(source.titles)
        return {**named, "image_size": self.image_size, "target_seed": self.target_seed}


def _read_cached(path: Path) -> Selection | None:
    if not path.is_file():
        return None
    try:
        selection = Selection.load(path)
        return replace(selection, record=selection.record | {"cached": os.fspath(path)})
    except InputError as error:
        warn(f"{error}; selecting again", stacklevel=2)
        return None


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).exists() else name
