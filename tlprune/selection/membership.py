"""Units of images that a Selection was not made from: by the nearest centroid, or by the surrogate's prediction."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection.centroids import nearest
from tlprune.selection.fixed_batches import Images, Named, batches_of, fixed_batches, named_samples
from tlprune.selection.forward import Run
from tlprune.selection.given_features import GivenFeatures

__all__ = [
    "DAMAGED",
    "NO_UNIT",
    "Decide",
    "Membership",
    "by_centroid",
    "by_prediction",
    "units_of_features",
    "units_of_images",
]

NO_UNIT = -1
"""Unit of an image that belongs to none."""

DAMAGED = -2
"""Unit of an image that cannot be decoded, and its label in batches."""

_ROWS = 4096


class Membership(NamedTuple):
    """Units of some images.

    Args:
        units: Int64 tensor ``[n]``, in [0, U), :data:`NO_UNIT` or :data:`DAMAGED`.
        closeness: Float64 tensor ``[n]``: the distance to the centroid, or the probability of the class; None where
            units come from labels.
    """

    units: Tensor
    closeness: Tensor | None = None


Decide = Callable[[Tensor], Membership]
"""Function from the surrogate's outputs ``[n, D]``, float32 on the CPU, to units."""


def by_centroid(centroids: Tensor) -> Decide:
    """Assigns features to their nearest centroid, as Feature Mapping assigns the images of its source.

    Args:
        centroids: Float32 tensor ``[U, D]``.

    Returns:
        Function that rounds features to float16, as those of a source are, and gives distances as closeness. It raises
        :class:`~tlprune.errors.InputError` if features have another width.
    """

    def decide(features: Tensor) -> Membership:
        if features.shape[1] != centroids.shape[1]:
            widths = f"features have {features.shape[1]} numbers, its centroids {centroids.shape[1]}"
            raise InputError(f"the network is not that of the selection: {widths}")
        units = nearest(features, centroids)
        return Membership(units, (features.double() - centroids[units].double()).norm(dim=1))

    return decide


def by_prediction(unit_of_output: Tensor) -> Decide:
    """Assigns images to the class that the surrogate predicts; ties go to the lower output.

    Args:
        unit_of_output: Int64 tensor ``[C]``, the unit of each output, or :data:`NO_UNIT`.

    Returns:
        Function of logits that gives probabilities as closeness.
    """

    def decide(logits: Tensor) -> Membership:
        if logits.shape[1] != len(unit_of_output):
            raise InputError(f"the surrogate has {logits.shape[1]} outputs, and {len(unit_of_output)} classes")
        outputs = logits.argmax(1)
        return Membership(unit_of_output[outputs], logits.double().softmax(1).amax(1))

    return decide


def units_of_features(features: GivenFeatures, decide: Decide, advance: Callable[[int], None]) -> Membership:
    """Finds the unit of every image whose features are given.

    Args:
        features: The features, read in parts.
        decide: Function from features to units.
        advance: Function to call with the number of further images that are done.

    Raises:
        InputError: A feature is not finite; the images are named.
    """
    found = []
    for start in range(0, len(features), _ROWS):
        rows = range(start, min(start + _ROWS, len(features)))
        found.append(decide(_finite(features.read_features(rows), features, torch.tensor([*rows]))))
        advance(len(rows))
    return _joined(found)


def units_of_images(
    run: Run,
    images: Images,
    decide: Decide,
    advance: Callable[[int], None],
    num_workers: int = 0,
    device: torch.device | None = None,
    half: bool = True,
) -> Membership:
    """Finds the unit of every image. The result depends on these images alone, not on ranks or workers.

    Args:
        run: Function of :func:`tlprune.selection.forward.running`.
        images: Images under the evaluation transform, whose label is :data:`DAMAGED` where one cannot be decoded.
        decide: Function from outputs to units.
        advance: Function to call with the number of further images that are done.
        num_workers: Number of processes that load images.
        device: Device of the network.
        half: Whether outputs are rounded to float16 first, as features of a source are.

    Raises:
        InputError: An image cannot be read, or an output is not finite; the images are named.
    """
    found = []
    for indices, pixels, labels in fixed_batches(images, batches_of(len(images)), num_workers, device):
        outputs = run(pixels)[: len(indices)].cpu()
        if outputs.ndim != 2:
            raise InputError(f"the surrogate gives {outputs.ndim - 1} dimensions an image, not 1")
        outputs = outputs.half().float() if half else outputs.clone()
        damaged = labels == DAMAGED
        _finite(outputs[~damaged], images, indices[~damaged])
        outputs[damaged] = 0
        units, closeness = decide(outputs)
        found.append(Membership(units.masked_fill(damaged, DAMAGED), closeness))
        advance(len(indices))
    return _joined(found)


def _finite(outputs: Tensor, images: Named, indices: Tensor) -> Tensor:
    bad = indices[~outputs.isfinite().all(1)]
    if len(bad):
        raise InputError(f"outputs of the surrogate are NaN or too large for {named_samples(images, bad)}")
    return outputs


def _joined(found: list[Membership]) -> Membership:
    closeness = [one.closeness for one in found if one.closeness is not None]
    return Membership(torch.cat([one.units for one in found]), torch.cat(closeness) if closeness else None)
