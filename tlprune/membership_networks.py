"""The surrogate of a Selection, found again and checked, for images that the Selection was not made from."""

import os

import torch
from torch import nn

from tlprune.data.feature_set import FeatureSet
from tlprune.data.image_size import ImageSize
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.models.weights import check_weights, load_backbone, load_classifier
from tlprune.preprocessing import Preprocessing
from tlprune.selection.forward import Precision
from tlprune.selection.membership import NO_UNIT, Decide, by_centroid, by_prediction
from tlprune.selection.selection import Selection
from tlprune.storage.fingerprint import digest_tensors
from tlprune.surrogates import ReadSurrogate, Surrogate, common_transform, restrict_head

__all__ = [
    "decide_on_features",
    "network_by_centroids",
    "network_by_prediction",
    "precision_of",
    "read_surrogate",
    "transform_of",
    "unit_of_names",
]


def unit_of_names(selection: Selection) -> dict[str, int]:
    """Returns the unit of each class name of a Selection, and of each readable name."""
    display = {name: unit for unit, name in enumerate(selection.display_names)}
    return display | {name: unit for unit, name in enumerate(selection.unit_names)}


def read_surrogate(selection: Selection, surrogate: Surrogate | None) -> ReadSurrogate:
    """Reads the weights that a Selection was made with.

    Args:
        selection: The Selection.
        surrogate: The surrogate that the user gives; None takes the one that the Selection names.

    Raises:
        InputError: The Selection names none or several, or the file is gone.
    """
    if surrogate is not None:
        return ReadSurrogate.read(surrogate, None)
    names = selection.metadata.get("surrogates", [])
    if len(names) != 1:
        raise InputError(f"this selection names {len(names)} surrogates, and one is needed: give `surrogate`")
    try:
        check_weights(names[0], "surrogate")
    except InputError as error:
        raise InputError(f"{error}; say with `surrogate` where it is now") from error
    return ReadSurrogate.read(names[0], None)


def network_by_centroids(
    selection: Selection, read: ReadSurrogate, surrogate_backbone: str | None
) -> tuple[nn.Module, Decide]:
    """Builds the backbone whose features are compared with centroids.

    Args:
        selection: The Selection, which holds centroids.
        read: The surrogate.
        surrogate_backbone: Name of the network, where file and Selection are silent.

    Returns:
        The network, and the function from its features to units.

    Raises:
        InputError: It is not the network that the Selection was made with.
    """
    built = load_backbone(read.saved, _named(selection, surrogate_backbone)) if read.saved else read.given
    network: nn.Module = getattr(built, "backbone", built)
    _require_same(selection, read, network)
    return network, by_centroid(selection.centroids)


def network_by_prediction(
    selection: Selection, read: ReadSurrogate, surrogate_backbone: str | None
) -> tuple[nn.Module, Decide]:
    """Builds the classifier that predicts classes of a Selection.

    Args:
        selection: The Selection, whose units are classes.
        read: The surrogate.
        surrogate_backbone: Name of the network, where file and Selection are silent.

    Returns:
        The network, and the function from its logits to units.

    Raises:
        InputError: It has no head, its head lacks classes of the Selection, or it is not the Selection's network.
    """
    known = unit_of_names(selection)
    parts: list[nn.Module] = []
    if read.saved is None:
        network, names = read.given, selection.unit_names
    else:
        outputs, names = read.saved.num_classes, read.output_names(selection.unit_names) or selection.unit_names
        if outputs is None:
            raise InputError(
                f"surrogate {read.name}: it has no head, and units are found by the class that it predicts"
            )
        if outputs != len(names):
            sizes = f"its head has {outputs} outputs, the selection has {len(names)} classes"
            raise InputError(f"surrogate {read.name}: {sizes}")
        if lacking := sorted({*range(selection.num_units)} - {known.get(name, NO_UNIT) for name in names}):
            theirs = f"its head has {len(names)} classes, such as {names[0]!r}"
            ours = f"{len(lacking)} of the {selection.num_units} of the selection are not among them"
            raise InputError(f"surrogate {read.name}: {theirs}; {ours}, first {selection.unit_names[lacking[0]]!r}")
        network = load_classifier(read.saved, _named(selection, surrogate_backbone))[0]
        # a source of a part of the classes was voted for by their outputs alone; here an image may be of any class
        parts += filter(None, [restrict_head(network, names, selection.unit_names)])
    _require_same(selection, read, network, *parts)
    return network, by_prediction(torch.tensor([known.get(name, NO_UNIT) for name in names]))


def _named(selection: Selection, given: str | None) -> str | None:
    return given or selection.metadata.get("surrogate_backbone")


def _require_same(selection: Selection, read: ReadSurrogate, network: nn.Module, *parts: nn.Module) -> None:
    """Refuses a network other than the Selection's; its backbone or parts alone may have been the Selection's."""
    expected = selection.config.get("surrogate_digest")
    compared = [network, getattr(network, "backbone", network), *parts]
    digests = [digest_tensors(part.state_dict()) for part in compared]
    if expected is not None and expected not in digests:
        pair = f"its weights have the fingerprint {digests[0][:12]}, the selection names {expected[:12]}"
        raise InputError(f"surrogate {read.name} is not that of the selection: {pair}")


def transform_of(selection: Selection, read: ReadSurrogate, usual_size: int) -> EvalTransform:
    """Returns how the surrogate saw images when the Selection was made; where it did not, how its weights expect them.

    Args:
        selection: The Selection.
        read: The surrogate.
        usual_size: Height and width in pixels where neither says.
    """
    view = selection.config.get("view")
    if view is None:
        return common_transform([read], ImageSize(None, usual_size))
    seen = Preprocessing.from_transform_config(view)
    return EvalTransform(seen.image_size or usual_size, seen)


def decide_on_features(selection: Selection, given: FeatureSet, by: str, surrogate: Surrogate | None) -> Decide:
    """Returns the function from features that are given to units.

    Args:
        selection: The Selection, which holds centroids.
        given: A block of the features.
        by: ``centroids``, or what the user asks for in its place.
        surrogate: The surrogate that the user gives, which has no use.

    Raises:
        InputError: Features and centroids do not go together.
    """
    if by != "centroids":
        raise InputError(f"{given.where}: features, and the class that a surrogate predicts needs images")
    if surrogate is not None:
        what = os.fspath(surrogate) if not isinstance(surrogate, nn.Module) else type(surrogate).__name__
        raise InputError(f"{given.where}: features already, so `surrogate` {what} has no use; leave it out")
    theirs, ours = given.surrogate_digest, selection.config.get("surrogate_digest")
    if None not in (theirs, ours) and theirs != ours:
        pair = f"{given.where} by {str(theirs)[:12]}, the selection by {str(ours)[:12]}"
        raise InputError(f"features of two surrogates: {pair}; embed with the selection's")
    if given.width != selection.centroids.shape[1]:
        pair = f"{given.where} has {given.width}, the centroids of the selection {selection.centroids.shape[1]}"
        raise InputError(f"features differ in width: {pair}")
    return by_centroid(selection.centroids)


def precision_of(options: object) -> Precision:
    """Returns the precision that a Selection's options name, which may be those of a selector inside another."""
    if isinstance(options, dict):
        for value in (options.get("precision"), *options.values()):
            if isinstance(value, str) and value.startswith("bfloat16"):
                return "bfloat16"
            if isinstance(value, dict) and precision_of(value) == "bfloat16":
                return "bfloat16"
    return "float32"
