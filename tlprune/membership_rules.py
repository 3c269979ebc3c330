"""How images of another source find their unit: by label, by the surrogate's prediction, or by the nearest centroid."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn

from tlprune.data.datasets import ImageSet
from tlprune.data.feature_set import FeatureSet
from tlprune.data.tolerant import TolerantDataset
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.membership_networks import (
    decide_on_features,
    network_by_centroids,
    network_by_prediction,
    precision_of,
    read_surrogate,
    transform_of,
    unit_of_names,
)
from tlprune.selection.forward import Precision, Run, device_of, running
from tlprune.selection.membership import DAMAGED, NO_UNIT, Decide, Membership, units_of_features, units_of_images
from tlprune.selection.selection import UNIT_WORDS, Selection
from tlprune.storage.fingerprint import digest_json, digest_tensors
from tlprune.surrogates import Surrogate

__all__ = ["By", "Rule", "rule_of"]

By = Literal["auto", "labels", "prediction", "centroids"]
"""What says to which unit an image belongs."""


class Rule(Protocol):
    """How images find their unit.

    Attributes:
        by: ``labels``, ``prediction`` or ``centroids``.
        closeness: Name of the numbers that say how well an image belongs to its unit; empty for none.
        network_fingerprint: Fingerprint of the network's weights and of how it sees images; None without a network.
    """

    @property
    def by(self) -> By: ...  # noqa: D102

    @property
    def closeness(self) -> str: ...  # noqa: D102

    @property
    def network_fingerprint(self) -> str | None: ...  # noqa: D102

    def ready(self) -> AbstractContextManager[None]:
        """Prepares for many blocks."""
        ...

    def names_of(self, images: ImageSet) -> tuple[str, ...]:
        """Returns the class names of a block; empty where labels are not looked at."""
        ...

    def units(self, images: ImageSet, advance: Callable[[int], None]) -> Membership:
        """Returns the unit of each image of a block, and calls ``advance`` with the number of further images done."""
        ...


@dataclass(frozen=True)
class LabelRule:
    """Images belong to the class of their own label, compared by name.

    Args:
        unit_of_name: Unit of each class name.
        class_names: Name of each class number; empty where labels are names.
    """

    unit_of_name: dict[str, int]
    class_names: tuple[str, ...] = ()
    by: By = "labels"
    closeness: str = ""
    network_fingerprint: str | None = None

    def ready(self) -> AbstractContextManager[None]:
        """Does nothing: no network is needed."""
        return nullcontext()

    def names_of(self, images: ImageSet) -> tuple[str, ...]:
        """Returns the class names of a block.

        Raises:
            InputError: A class number has no name.
        """
        if not self.class_names:
            return images.classes
        for name in images.classes:
            if not name.isdecimal() or int(name) >= len(self.class_names):
                most = len(self.class_names) - 1
                raise InputError(f"label {name!r} of {images.name(0)} is not from 0 to {most} (`class_names`)")
        return tuple(self.class_names[int(name)] for name in images.classes)

    def units(self, images: ImageSet, advance: Callable[[int], None]) -> Membership:
        """Returns the unit of each image; no image is decoded.

        Raises:
            InputError: The images have no labels.
        """
        if not images.classes:
            raise InputError(f"{images.name(0)} has no label, images of other shards have")
        units = torch.tensor([self.unit_of_name.get(name, NO_UNIT) for name in self.names_of(images)])
        advance(len(images))
        return Membership(units[images.labels])


@dataclass(frozen=True)
class FeatureRule:
    """Images, of which features are given, belong to the unit with the nearest centroid.

    Args:
        decide: Function from features to units.
    """

    decide: Decide
    by: By = "centroids"
    closeness: str = "distance"
    network_fingerprint: str | None = None

    def ready(self) -> AbstractContextManager[None]:
        """Does nothing: no network is needed."""
        return nullcontext()

    def names_of(self, images: ImageSet) -> tuple[str, ...]:
        """Returns no names: labels are not looked at."""
        return ()

    def units(self, images: ImageSet, advance: Callable[[int], None]) -> Membership:
        """Returns the unit of each image.

        Raises:
            InputError: A feature is not finite.
        """
        if not isinstance(images, FeatureSet):
            raise TypeError(f"{type(images).__name__} has no features")
        return units_of_features(images, self.decide, advance)


class NetworkRule:
    """Images belong to the unit that the surrogate's outputs say.

    Args:
        by: ``prediction`` or ``centroids``.
        network: The network.
        transform: How it sees images.
        decide: Function from outputs to units.
        precision: Precision of the network.
        skip: Whether images that cannot be decoded are marked rather than refused.
        num_workers: Processes that load images.
    """

    def __init__(
        self,
        by: By,
        network: nn.Module,
        transform: EvalTransform,
        decide: Decide,
        precision: Precision,
        skip: bool,
        num_workers: int,
    ) -> None:
        self.by: By = by
        self.network = network
        self.transform = transform
        self.decide = decide
        self.precision: Precision = precision
        seen = [digest_tensors(network.state_dict()), transform.preprocessing.as_json(), precision]
        self.network_fingerprint: str | None = digest_json(seen)
        self.skip = skip
        self.num_workers = num_workers
        self.closeness = "distance" if by == "centroids" else "probability"
        self._run: Run | None = None

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Prepares the network once for all blocks."""
        with running(self.network, self.precision) as self._run:
            yield

    def names_of(self, images: ImageSet) -> tuple[str, ...]:
        """Returns no names: labels are not looked at."""
        return ()

    def units(self, images: ImageSet, advance: Callable[[int], None]) -> Membership:
        """Returns the unit of each image.

        Raises:
            InputError: An image cannot be decoded, or an output is not finite.
        """
        seen = TransformedDataset(images, self.transform)
        tried = TolerantDataset(seen, DAMAGED) if self.skip else seen
        if self._run is None:
            raise RuntimeError("units are asked for outside ready()")
        half = self.by == "centroids"
        device = device_of(self.network)
        return units_of_images(self._run, tried, self.decide, advance, self.num_workers, device, half)


def rule_of(
    selection: Selection,
    probes: Sequence[ImageSet],
    by: By,
    class_names: tuple[str, ...],
    surrogate: Surrogate | None,
    surrogate_backbone: str | None,
    usual_size: int,
    skip: bool,
    num_workers: int,
    device: torch.device,
) -> Rule:
    """Chooses how images find their unit, and checks that it can be done, before anything is computed.

    Args:
        selection: The Selection, of classes or clusters.
        probes: A few blocks of the source.
        by: The user's choice; ``auto`` takes labels where there are any, else centroids, else predictions.
        class_names: Name of each class number of the source; empty where labels are names.
        surrogate: The network; None takes that of the Selection.
        surrogate_backbone: Name of the network, where its file is silent.
        usual_size: Height and width in pixels where neither Selection nor weights say.
        skip: Whether images that cannot be decoded are left out.
        num_workers: Processes that load images.
        device: Where the network runs.

    Raises:
        InputError: The Selection, the source and the surrogate do not go together.
    """
    chosen = by
    if by == "auto":
        labelled = selection.unit_kind == "class" and any(images.classes for images in probes)
        chosen = "labels" if labelled else "centroids" if _by_centroids(selection) else "prediction"
    if chosen != "centroids" and selection.unit_kind != "class":
        words = UNIT_WORDS[selection.unit_kind][1]
        raise InputError(f"this selection ranks {words}, and `by` {chosen!r} needs classes; leave it out")
    if chosen == "labels":
        return _label_rule(selection, probes, class_names)
    if class_names:
        raise InputError(f"`class_names` is for labels of the source, and units are found by {chosen}; leave it out")
    if chosen == "centroids" and len(selection.centroids) == 0:
        made = f"this selection ({selection.method}) holds no centroids"
        raise InputError(f"{made}: made by an older tlprune or by another method; select again by FeatureMapping")
    given = next((images for images in probes if isinstance(images, FeatureSet)), None)
    if given is not None:
        return FeatureRule(decide_on_features(selection, given, chosen, surrogate))
    read = read_surrogate(selection, surrogate)
    build = network_by_centroids if chosen == "centroids" else network_by_prediction
    network, decide = build(selection, read, surrogate_backbone)
    transform, precision = transform_of(selection, read, usual_size), precision_of(selection.config.get("options"))
    return NetworkRule(chosen, network.to(device), transform, decide, precision, skip, num_workers)


def _by_centroids(selection: Selection) -> bool:
    return selection.unit_kind != "class" or len(selection.centroids) > 0


def _label_rule(selection: Selection, probes: Sequence[ImageSet], class_names: tuple[str, ...]) -> LabelRule:
    rule = LabelRule(unit_of_names(selection), class_names)
    theirs = [name for images in probes for name in rule.names_of(images)]
    if not theirs:
        raise InputError(f"{probes[0].name(0)} has no label, and `by` 'labels' needs one of each image")
    if rule.unit_of_name.keys().isdisjoint(theirs):
        pair = f"the source has {_few(theirs)}, the selection {_few(selection.unit_names)}"
        more = "; find units by the surrogate (`by`), or say which class each number is (`class_names`)"
        raise InputError(f"no class of the source is one of the selection: {pair}{more}")
    return rule


def _few(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return f"{', '.join(map(repr, distinct[:3]))}{', ...' if len(distinct) > 3 else ''} ({len(distinct)} in all)"
