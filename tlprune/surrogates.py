"""Surrogates as users name them: files of weights, published weights, or networks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from tlprune.data.image_size import ImageSize
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.models.backbones import Classifier
from tlprune.models.published import is_published
from tlprune.models.weights import SavedWeights, load_backbone, load_classifier, read_weights
from tlprune.preprocessing import Preprocessing
from tlprune.selection.registry import feature_selector_names
from tlprune.selection.selector import SurrogatePart
from tlprune.wordnet import are_wordnet_ids

__all__ = ["ReadSurrogate", "Surrogate", "common_transform", "default_device", "refuse_surrogates", "restrict_head"]

Surrogate: TypeAlias = str | os.PathLike[str] | nn.Module
"""A surrogate by its weights' name or file, or the network itself."""


@dataclass(frozen=True)
class ReadSurrogate:
    """A surrogate whose weights are read.

    Args:
        name: Of its file, or of its class.
        preprocessing: How it expects images.
        saved: Its file's content; None for a network that was given as such.
        module: The network that was given.
    """

    name: str
    preprocessing: Preprocessing
    saved: SavedWeights | None = None
    module: nn.Module | None = None

    @classmethod
    def read(cls, surrogate: Surrogate, preprocessing: Preprocessing | None) -> "ReadSurrogate":
        """Reads the weights of a surrogate.

        Args:
            surrogate: Its file, its name, or the network.
            preprocessing: How it expects images, where its file does not say, or says otherwise.

        Raises:
            InputError: The file is missing, or holds no weights.
        """
        given = preprocessing or Preprocessing()
        if isinstance(surrogate, nn.Module):
            own = getattr(surrogate, "preprocessing", None)
            expected = given.over(own) if isinstance(own, Preprocessing) else given
            return cls(type(surrogate).__name__, expected, module=surrogate)
        saved = read_weights(os.fspath(surrogate))
        return cls(str(saved.path), given.over(saved.preprocessing), saved)

    @property
    def given(self) -> nn.Module:
        """The network that was given as such."""
        if self.module is None:
            raise TypeError(f"{self.name} is a file of weights")
        return self.module

    @property
    def location(self) -> str:
        """The name, with an absolute path where it is that of a file."""
        return str(Path(self.name).absolute()) if Path(self.name).exists() else self.name

    def output_names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Returns the names of the outputs of the head as far as they are known, else no names.

        Files of tlprune hold them. Those of published weights are WordNet ids, as timm lists them for the number of
        outputs: 1,000 are ImageNet's, 21,843 those of ImageNet-21k.

        Args:
            classes: Names that are compared with them; published weights have names only for WordNet ids.
        """
        if self.saved is None or self.saved.classes:
            return () if self.saved is None else self.saved.classes
        if is_published(self.name) and are_wordnet_ids(classes) and find_spec("timm") is not None:
            timm = import_module("timm.data")
            if (subset := timm.infer_imagenet_subset({"num_classes": self.saved.num_classes})) is not None:
                return tuple(timm.ImageNetInfo(subset).label_names())
        return ()

    def network(self, part: SurrogatePart | None, backbone: str | None, classes: tuple[str, ...]) -> nn.Module:
        """Builds the network. Of a head with more named outputs than the source has classes, those of the classes stay.

        Args:
            part: The part that is needed: with ``backbone`` a head is not looked at.
            backbone: Name of the network; None takes the one that the file names.
            classes: Class names of the source.

        Raises:
            InputError: The file holds another network, or one of other classes.
        """
        if self.saved is None:
            return self.module  # type: ignore[return-value]  # one of the two is there
        is_named = backbone is not None or self.saved.backbone is not None
        if not is_named and (part == "backbone" or self.saved.num_classes is not None):
            way = "give `surrogate_backbone`, such as resnet18, or from Python the network itself as `surrogate`"
            raise InputError(f"{self.saved.path}: does not say which network it holds, nor is it a known one; {way}")
        if part == "backbone":
            return load_backbone(self.saved, backbone)
        classifier, _ = load_classifier(self.saved, backbone)
        if (restricted := restrict_head(classifier, self.output_names(classes), classes)) is not None:
            return restricted
        if self.saved.num_classes != len(classes):
            sizes = f"its head has {self.saved.num_classes} outputs, the source has {len(classes)} classes"
            others = ", ".join(feature_selector_names())
            hint = f"give weights trained on this source, or a selector that needs features alone: {others}"
            if is_published(self.name) and are_wordnet_ids(classes) and find_spec("timm") is None:
                hint = f"the names of its outputs are in timm: pip install 'tlprune[timm]'; or {hint}"
            raise InputError(f"surrogate {self.name}: {sizes}; {hint}")
        if self.saved.classes and self.saved.classes != tuple(classes):
            pairs = zip(self.saved.classes, classes, strict=True)
            theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
            where = f"{theirs!r} where the source has {ours!r}"
            raise InputError(f"surrogate {self.name}: trained on other classes ({where})")
        return classifier


def restrict_head(classifier: Classifier, names: Sequence[str], classes: Sequence[str]) -> Classifier | None:
    """Returns the classifier with the outputs of some classes alone, in their order.

    Args:
        classifier: Classifier with ``len(names)`` outputs; shares its backbone with what is returned.
        names: Names of its outputs.
        classes: Classes that stay.

    Returns:
        None if a class is not among the names, a name stands for two outputs, or all names are numbers, as of classes
        that have no names.
    """
    place = {name: output for output, name in enumerate(names)}
    if len(place) < len(names) or not place.keys() >= set(classes) or all(map(str.isdigit, classes)):
        return None
    found = Classifier(classifier.backbone, len(classes))
    rows = torch.tensor([place[name] for name in classes])
    with torch.no_grad():
        found.head.weight.copy_(classifier.head.weight[rows])
        found.head.bias.copy_(classifier.head.bias[rows])
    return found


def common_transform(surrogates: Sequence[ReadSurrogate], image_size: ImageSize) -> EvalTransform:
    """The transform that all surrogates expect."""
    expected = [one.preprocessing for one in surrogates] or [Preprocessing()]
    transforms = [EvalTransform(image_size.expected(one), one) for one in expected]
    for one, transform in zip(surrogates, transforms, strict=False):
        if transform.preprocessing != transforms[0].preprocessing:
            first, other = (each.preprocessing.described() for each in (transforms[0], transform))
            pair = f"{surrogates[0].name} ({first}) and {one.name} ({other})"
            raise InputError(f"surrogates expect images in different ways: {pair}")
    return transforms[0]


def refuse_surrogates(
    source: str, surrogates: Sequence[Surrogate], backbone: str | None, preprocessing: Preprocessing | None
) -> None:
    """Refuses what says how images become features, where features are given.

    Raises:
        InputError: Any of these is given.
    """
    asked: dict[str, object] = {"surrogate": list(surrogates), "surrogate_backbone": backbone}
    asked |= {"surrogate_preprocessing": None if preprocessing == Preprocessing() else preprocessing}
    if odd := next((name for name, value in asked.items() if value), None):
        raise InputError(f"source {source} is given as features already, so `{odd}` has no use; leave it out")


def default_device() -> torch.device:
    """A GPU if there is one, else the processor."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
