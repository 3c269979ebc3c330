"""Image batches of one fixed shape, so that a network's output for an image does not depend on the caller.

The composition of a batch changes the last bits of float32 results. Batches are therefore fixed: they always hold the
same images, the last batch is padded, and batch ``b`` belongs to rank ``b mod W``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

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
"""Number of images per batch. Votes depend on it."""


class Images(Protocol):
    """Protocol of labelled images as the surrogate receives them.

    ``images[i]`` returns a float image ``[3, H, W]``, of the same size for every ``i``, and its label.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def name(self, index: int) -> str:
        """Returns the display name of image ``index``, such as its path."""
        ...


@runtime_checkable
class _Bytes(Protocol):
    """Protocol of images that can be loaded as bytes, and normalised later."""

    def as_bytes(self) -> Images: ...

    def normalized(self, batch: Tensor) -> Tensor: ...


SampleReader = Iterator[tuple[Tensor, Tensor, Tensor]]
"""Reader that yields indices ``[b]``, pixels ``[B, 3, H, W]`` whose rows past ``b`` are padding, and labels ``[b]``."""


def batches_of(count: int) -> list[range]:
    """Returns the indices of each batch of ``count`` images."""
    return [range(start, min(start + BATCH_SIZE, count)) for start in range(0, count, BATCH_SIZE)]


def fixed_batches(
    images: Images, batches: Sequence[range], num_workers: int, device: torch.device | None = None
) -> SampleReader:
    """Loads batches, each padded to :data:`BATCH_SIZE`.

    Args:
        images: Images to load.
        batches: Batches of :func:`batches_of` to load.
        num_workers: Number of processes that load images, at least 0.
        device: Device the caller moves batches to; for a GPU, the copy overlaps with computation, and images that can
            travel as bytes, a quarter of the memory, do so and are normalised there.
    """
    given = images if isinstance(images, _Bytes) and _normalizes(device) else None
    # A separate generator, so that selecting does not change the random numbers of later training
    loader: Any = DataLoader(
        _Indexed(images if given is None else given.as_bytes()),
        batch_sampler=[list(one) for one in batches],
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
        pin_memory=device is not None and device.type == "cuda",
    )
    for indices, pixels, labels in loader:
        if given is not None:
            pixels = given.normalized(pixels.to(device, non_blocking=True))
        missing = BATCH_SIZE - len(pixels)
        padded = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])]) if missing else pixels
        yield indices, padded, labels


def _normalizes(device: torch.device | None) -> bool:
    """Returns whether images are normalised on the device."""
    return device is not None and device.type == "cuda"


def own_batches(count: int) -> list[range]:
    """Returns the batches of :func:`batches_of` that this rank computes."""
    rank, world = rank_and_world()
    return batches_of(count)[rank::world]


class Named(Protocol):
    """Protocol of images that have names."""

    def name(self, index: int) -> str:
        """Returns the display name of image ``index``."""
        ...


def named_samples(images: Named, indices: Tensor) -> str:
    """Returns the names of the first ten of some images for an error message; ``indices`` is int64 ``[n]``."""
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
        """Loads a whole batch at once if the images support it."""
        at_once = getattr(self.images, "__getitems__", None)
        if at_once is None:
            pairs = [self.images[index] for index in indices]
            pixels, labels = torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
        else:
            pixels, labels = at_once(indices)
        return torch.tensor(indices), pixels, labels

    def __len__(self) -> int:
        return len(self.images)
