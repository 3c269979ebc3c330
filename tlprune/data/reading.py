"""Reads every sample of a Dataset once, with a progress bar: labels, and what a fingerprint is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tlprune.data.pixels import PixelScale
from tlprune.data.plain_samples import random_state, random_state_kept, read_sample, spread, without_transforms
from tlprune.data.samples import image_of, label_of
from tlprune.errors import InputError
from tlprune.progress import show_progress
from tlprune.storage.fingerprint import digest_json

__all__ = ["ReadSample", "SampleReader", "own_fingerprint"]

_PROBES = 16
"""Number of samples that are read twice to see whether their pixels stay the same."""
_BATCH = 64


@dataclass(frozen=True)
class ReadSample:
    """What one reading of a sample leaves.

    Args:
        index: Position of the sample.
        label: Its label; None if it has none.
        digest: Digest of its pixels.
        error: Why it cannot be read; empty if it can.
    """

    index: int
    label: int | None
    digest: str
    error: str = ""


class SampleReader:
    """Samples of a Dataset as pixels and labels, without the transforms of its owner where it can do without.

    Args:
        dataset: The Dataset.
        indices: Samples that are used, ``[N]`` int64, at least one.

    Attributes:
        name: Name of the class of the Dataset.

    Raises:
        InputError: None of the samples looked at has an image that can be used, or a label is not a whole number.
    """

    def __init__(self, dataset: Any, indices: Tensor) -> None:
        self.name = type(dataset).__name__
        self._probes = [int(indices[place]) for place in spread(len(indices), _PROBES)]
        with random_state_kept():
            self.dataset = without_transforms(dataset, self._probes[:3])
            self._scale = PixelScale(self._readable(), self.name)

    def _readable(self) -> list[tuple[Any, str]]:
        images: list[tuple[Any, str]] = []
        failures: list[InputError] = []
        for index in self._probes:
            try:
                images.append((image_of(read_sample(self.dataset, index), self.name_of(index)), self.name_of(index)))
            except InputError as error:
                failures.append(error)
        if not images:
            raise failures[0]
        return images

    def name_of(self, index: int) -> str:
        """Returns the name of a sample in messages."""
        return f"{self.name}[{index}]"

    def read(self, index: int) -> tuple[Tensor, int | None]:
        """Returns the image of a sample, ``[3, H, W]`` uint8, and its label.

        Raises:
            InputError: The sample cannot be read, or its image or label cannot be used.
        """
        sample, name = read_sample(self.dataset, index), self.name_of(index)
        return self._scale.convert(image_of(sample, name), name), label_of(sample, name)

    @cached_property
    def is_reproducible(self) -> bool:
        """Whether a few samples have the same pixels when they are read again, and draw no random numbers.

        Raises:
            InputError: A sample has another label when it is read again.
        """
        with random_state_kept():
            before = random_state()
            first, again = (self.read_some(self._probes) for _ in range(2))
            drew = random_state() != before
        for one, other in zip(first, again, strict=True):
            if one.label != other.label:
                pair = f"the label {one.label}, and {other.label} when it is read again"
                raise InputError(f"{self.name_of(one.index)}: a sample must keep its label, it has {pair}")
        return first == again and not drew

    def read_some(self, indices: Sequence[int]) -> list[ReadSample]:
        """Reads a few samples in this process."""
        return [_read_one(self, index) for index in indices]

    def read_all(self, indices: Sequence[int], num_workers: int = 0) -> list[ReadSample]:
        """Reads samples, with a progress bar on rank 0."""
        loader: Any = DataLoader(
            _Reading(self, indices),
            batch_size=_BATCH,
            num_workers=num_workers,
            collate_fn=list,
            generator=torch.Generator(),
        )
        samples: list[ReadSample] = []
        with random_state_kept(), show_progress(f"read {self.name} once", len(indices)) as advance:
            for batch in loader:
                samples += batch
                advance(len(batch))
        return samples


class _Reading(Dataset[ReadSample]):
    """Reads each sample; an error becomes a part of the result."""

    def __init__(self, reader: SampleReader, indices: Sequence[int]) -> None:
        self.reader = reader
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> ReadSample:
        return _read_one(self.reader, int(self.indices[place]))


def _read_one(reader: SampleReader, index: int) -> ReadSample:
    try:
        pixels, label = reader.read(index)
    except InputError as error:
        return ReadSample(index, None, "unreadable", str(error))
    content = sha256(f"{tuple(pixels.shape)}|".encode() + pixels.contiguous().numpy().tobytes())
    return ReadSample(index, label, content.hexdigest()[:32])


def own_fingerprint(dataset: Any) -> str | None:
    """Returns a digest of the fingerprint that a Dataset gives of itself; None if it gives none.

    Args:
        dataset: A Dataset, with an attribute or a method ``fingerprint`` or without.

    Raises:
        InputError: Its method gives no text.
    """
    given: str | Callable[[], Any] | None = getattr(dataset, "fingerprint", None)
    if callable(given):
        try:
            given = given()
        except TypeError as error:
            raise InputError(f"{type(dataset).__name__}.fingerprint() must take no arguments: {error}") from error
        if not isinstance(given, str) or not given:
            got = f"got {given!r}" if given == "" else f"got {type(given).__name__}"
            raise InputError(f"{type(dataset).__name__}.fingerprint() must return text, {got}")
    return digest_json([type(dataset).__qualname__, given]) if isinstance(given, str) and given else None
