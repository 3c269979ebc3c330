"""Images in batches of one fixed shape, so that what a network says of an image does not depend on who asks.

Batch composition changes float32 results in their last bits. So batches are the project's own: always the same
images together, the last batch padded, and batch ``b`` belongs to rank ``b mod W``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tlprune.distributed import rank_and_world

__all__ = [
    "BATCH_SIZE",
    "Images",
    "SampleReader",
    "batches_of",
    "fixed_batches",
    "named_samples",
    "own_batches",
]

BATCH_SIZE = 64
"""Images in a batch: part of what a vote depends on."""


class Images(Protocol):
    """Labelled images as the surrogate shall see them.

    ``images[i]`` is a float image ``[3, H, W]``, the same size for every ``i``, and its label.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def name(self, index: int) -> str:
        """What a person calls image ``index``, such as its path."""
        ...


SampleReader = Iterator[tuple[Tensor, Tensor, Tensor]]
"""Gives indices ``[b]``, pixels ``[B, 3, H, W]`` whose rows past ``b`` are padding, and labels ``[b]``."""


def batches_of(count: int) -> list[range]:
    """The indices of each batch of ``count`` images."""
    return [range(start, min(start + BATCH_SIZE, count)) for start in range(0, count, BATCH_SIZE)]


def fixed_batches(
    images: Images, batches: Sequence[range], num_workers: int, device: torch.device | None = None
) -> SampleReader:
    """Loads batches, each padded to :data:`BATCH_SIZE`.

    Args:
        images: What is loaded.
        batches: Those of :func:`batches_of` that are wanted.
        num_workers: Processes that load images, at least 0.
        device: Where batches shall go from here; to a GPU they are copied while it computes.
    """
    # a generator of its own: selecting must not change what training draws afterwards
    loader: Any = DataLoader(
        _Indexed(images),
        batch_sampler=[list(one) for one in batches],
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
        pin_memory=device is not None and device.type == "cuda",
    )
    for indices, pixels, labels in loader:
        missing = BATCH_SIZE - len(pixels)
        padded = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])]) if missing else pixels
        yield indices, padded, labels


def own_batches(count: int) -> list[range]:
    """Those of :func:`batches_of` that this rank computes."""
    rank, world = rank_and_world()
    return batches_of(count)[rank::world]


def named_samples(images: Images, indices: Tensor) -> str:
    """The first ten of some images, for an error message; ``indices`` is ``[n]`` int64."""
    shown = ", ".join(images.name(index) for index in indices[:10].tolist())
    return f"{shown}, ... ({len(indices)} in all)" if len(indices) > 10 else shown


def _as_it_is(batch: Any) -> Any:
    return batch


class _Indexed(Dataset[tuple[int, Tensor, int]]):
    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, index: int) -> tuple[int, Tensor, int]:
        return index, *self.images[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """A batch at once, where the images give one."""
        at_once = getattr(self.images, "__getitems__", None)
        if at_once is None:
            pairs = [self.images[index] for index in indices]
            pixels, labels = torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
        else:
            pixels, labels = at_once(indices)
        return torch.tensor(indices), pixels, labels

    def __len__(self) -> int:
        return len(self.images)
