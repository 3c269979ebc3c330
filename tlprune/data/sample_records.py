"""A few samples of a Dataset as they were when a Selection was made from it, to notice another Dataset later."""

from collections.abc import Sequence
from typing import Any
from warnings import warn

import torch

from tlprune.data.adapters import DatasetImages, without_subsets
from tlprune.data.plain_samples import random_state_kept, spread
from tlprune.data.reading import ReadSample, SampleReader
from tlprune.distributed import rank_and_world
from tlprune.errors import InputError

__all__ = ["compare_samples", "records_of"]

_RECORDS = 16


def records_of(images: DatasetImages) -> list[list[Any]]:
    """Returns position, label (None without labels) and digest of the pixels of up to sixteen samples."""
    places = spread(len(images), _RECORDS)
    read = _read(images.reader, images.indices[places].tolist())
    digests = [one.digest if images.is_reproducible and not one.error else "" for one in read]
    labels = [int(images.labels[place]) if images.classes else None for place in places]
    return [list(record) for record in zip(places, labels, digests, strict=True)]


def compare_samples(dataset: Any, records: Sequence[Sequence[Any]], where: str) -> None:
    """Compares a Dataset with records of the Dataset that a Selection was made from.

    Other labels are an error. Other pixels may come from a transform inside the Dataset, so they are warned of.

    Args:
        dataset: The Dataset, of the same length.
        records: Result of :func:`records_of`.
        where: Name of the Dataset in messages.

    Raises:
        InputError: A sample has another label.
    """
    whole, indices = without_subsets(dataset)
    indices = torch.arange(len(whole)) if indices is None else indices
    try:
        reader = SampleReader(whole, indices)
        is_reproducible = reader.is_reproducible
    except InputError:  # images that only its owner's training can use
        return
    here = _read(reader, [int(indices[place]) for place, _, _ in records])
    pairs = [(record, one) for record, one in zip(records, here, strict=True) if not one.error]
    for (place, label, _), one in pairs:
        if None not in (label, one.label) and label != one.label:
            pair = f"sample {place} has the label {one.label} here and {label} there"
            raise InputError(f"{where}: this selection was made for another source: {pair}")
    known = [(place, digest, one.digest) for (place, _, digest), one in pairs if digest]
    other = [place for place, there, now in known if there != now]
    if is_reproducible and other and rank_and_world()[0] == 0:
        counts = f"{len(other)} of {len(known)} samples have other pixels than those that this selection was made from"
        more = "it must hold the same images in the same order"
        warn(f"{where}: {counts}, first sample {other[0]}; {more}", stacklevel=4)


def _read(reader: SampleReader, indices: Sequence[int]) -> list[ReadSample]:
    with random_state_kept():
        return reader.read_some(indices)
