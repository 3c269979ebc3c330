"""Sources and targets that are given as features: what they must be, and how a Selection records them."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tlprune.errors import InputError
from tlprune.preprocessing import Preprocessing

__all__ = ["GivenFeatures", "check_given_features", "config_of_features"]

_OF_FORWARD_PASSES = ("batch_size", "precision", "forward")
"""Options of selectors that say how features were computed, which is not known of those that are given."""


@runtime_checkable
class GivenFeatures(Protocol):
    """A source or a target whose features are known.

    Attributes:
        where: Name in messages.
        width: Numbers in each feature.
        surrogate_digest: Digest of the network that the features come from; None where it is not known.
        transform_config: How that network saw the images; empty where it is not known.
        source_paths: First path and digest of all paths, by which a Selection is matched with images; empty where
            there are no paths, None where a fingerprint of the images is known.
    """

    where: str
    width: int

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Returns the name of an image."""
        ...

    def read_features(self, images: range) -> Tensor:
        """Reads the features of consecutive images, float32 ``[n, D]``."""
        ...

    def digest_features(self) -> str:
        """Returns a digest of the features, all of which are finite."""
        ...

    @property
    def surrogate_digest(self) -> str | None: ...  # noqa: D102

    @property
    def transform_config(self) -> dict[str, Any]: ...  # noqa: D102

    @property
    def source_paths(self) -> dict[str, str] | None: ...  # noqa: D102


def check_given_features(who: str, needs: Sequence[str], source: object, targets: Sequence[object]) -> None:
    """Refuses features that a selector cannot use, or that do not go together. Images pass.

    Args:
        who: Name of the selector.
        needs: What it needs.
        source: The source.
        targets: Targets that vote.

    Raises:
        InputError: The selector needs a classifier, only one side is given as features, or they are of two networks.
    """
    voters = targets if "target" in needs else ()
    given = [one for one in (source, *voters) if isinstance(one, GivenFeatures)]
    if not given or not {"classifier", "backbone"} & set(needs):
        return
    if "classifier" in needs:
        what = f"{who} needs a classifier and images, and {given[0].where} has features only"
        raise InputError(f"{what}; {', '.join(_of_features_only())} need no more than features")
    if len(given) <= len(voters):
        side = ("target", "source") if isinstance(source, GivenFeatures) else ("source", "target")
        what = f"{given[0].where} is given as features, and the {side[0]} as images"
        raise InputError(f"{what}; embed both with the same surrogate: tlprune embed --{side[0]} ... --surrogate ...")
    first = given[0]
    for other in given[1:]:
        if other.width != first.width:
            pair = f"{first.where} has {first.width}, {other.where} has {other.width}"
            raise InputError(f"features differ in width: {pair}; embed both with the same surrogate")
        if None not in (first.surrogate_digest, other.surrogate_digest):
            _check_embedded_alike(first, other)


def _check_embedded_alike(first: GivenFeatures, other: GivenFeatures) -> None:
    if first.surrogate_digest != other.surrogate_digest:
        digests = (str(one.surrogate_digest)[:12] for one in (first, other))
        pair = "{} by {}, {} by {}".format(*sum(zip((first.where, other.where), digests, strict=True), ()))
        raise InputError(f"features of two surrogates: {pair}; embed both with the same")
    if first.transform_config != other.transform_config:
        pair = f"{first.where} {_seen(first)}, {other.where} {_seen(other)}"
        raise InputError(f"the surrogate saw images in two ways: {pair}; embed both with the same --image_size")


def _seen(one: GivenFeatures) -> str:
    view = one.transform_config
    return f"as {view.get('view')} of {Preprocessing.from_transform_config(view).described()}"


def _of_features_only() -> list[str]:
    from tlprune.selection import registry  # which imports every selector

    return [name for name in registry.selector_names() if "backbone" in getattr(registry, name).needs]


def config_of_features(options: dict[str, Any], source: GivenFeatures, voters: Sequence[object]) -> dict[str, Any]:
    """What a Selection's ``config`` says in place of a surrogate.

    Args:
        options: Options of the selector.
        source: The source.
        voters: Targets that vote, as features.
    """
    given = [source, *(one for one in voters if isinstance(one, GivenFeatures))]
    known = len({one.surrogate_digest for one in given}) == 1
    return {
        "options": _without_forward(options),
        "surrogate_digest": source.surrogate_digest if known else None,
        "view": (source.transform_config or None) if known else None,
        "features": {
            "source": source.digest_features(),
            "targets": [one.digest_features() for one in given[1:]],
        },
    }


def _without_forward(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_forward(value) if isinstance(value, dict) else value
        for name, value in options.items()
        if name not in _OF_FORWARD_PASSES
    }
