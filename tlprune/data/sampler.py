"""The order of a training run, as a function of its seed alone: a run that stops anywhere goes on as if it had not.

Lightning saves no random state, so an order drawn from it would be another one after a resume. Here the order of an
epoch follows from seed and epoch, what varies in an image follows from seed, epoch and the batch that it is in, and a
run that goes on skips the batches that it has seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

__all__ = ["Batched", "EpochSampler", "Place", "Reproducible"]


class Batched(Protocol):
    """A set that gives whole batches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Place:
    """Where a run is, and which process this is.

    Args:
        rank: Of this process.
        world: How many processes there are.
        batches_done: Batches of this process that the run has behind it.
        batches_limit: The most batches of an epoch that are trained on, or the share of them; None for all.
    """

    rank: int = 0
    world: int = 1
    batches_done: int = 0
    batches_limit: int | float | None = None


class EpochSampler(DistributedSampler[int]):
    """Numbers of images in the order of an epoch, each with the epoch in it: ``epoch * count + index``.

    It is a DistributedSampler, which Lightning leaves as it is, and tells of each new epoch.

    Args:
        count: Images in the set, at least 1.
        batch_size: Images in a batch of one process.
        seed: Decides every epoch's order.
        place: Where the run is.
    """

    def __init__(self, count: int, batch_size: int, seed: int, place: Place) -> None:
        dataset = cast("Dataset[int]", range(count))
        super().__init__(dataset, num_replicas=place.world, rank=place.rank, seed=seed, drop_last=count >= place.world)
        self.count = count
        self.drops_last = self.num_samples >= batch_size
        per_epoch = self.num_samples // batch_size if self.drops_last else 1
        if isinstance(place.batches_limit, float):
            per_epoch = int(per_epoch * place.batches_limit)
        elif place.batches_limit is not None:
            per_epoch = min(per_epoch, place.batches_limit)
        self.first_epoch, behind = divmod(place.batches_done, max(per_epoch, 1))
        self.epoch = self.first_epoch
        self.behind = behind * batch_size

    def __iter__(self) -> Iterator[int]:
        """This process's share of the present epoch, without what the run has behind it."""
        generator = torch.Generator().manual_seed(_mixed(self.seed, self.epoch))
        order = torch.randperm(self.count, generator=generator)
        own = order.repeat(-(-self.total_size // self.count))[: self.total_size][self.rank :: self.num_replicas]
        begin = self.behind if self.epoch == self.first_epoch else 0
        return iter((own[begin:] + self.epoch * self.count).tolist())


class Reproducible(Dataset[tuple[Tensor, int]]):
    """A set whose batches vary by seed, epoch and number, not by who drew from the random state before.

    Args:
        images: The set; what is random in it draws from torch's global state.
        seed: Decides what varies.
        by_epoch: The set as it is in an epoch, where that differs from one to the next.
    """

    def __init__(self, images: Batched, seed: int, by_epoch: Callable[[int], Batched] | None = None) -> None:
        self.images = images
        self.seed = seed
        self.by_epoch = by_epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        images, labels = self.__getitems__([number])
        return images[0], int(labels[0])

    def __getitems__(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A batch; ``numbers`` are those of :class:`EpochSampler`."""
        state = torch.get_rng_state()
        try:
            # torch.manual_seed would look for accelerators each time, which takes longer than a small batch
            torch.default_generator.manual_seed(_mixed(self.seed, *numbers))
            count = len(self.images)
            images = self.images if self.by_epoch is None else self.by_epoch(numbers[0] // count)
            return images.__getitems__([number % count for number in numbers])
        finally:
            torch.set_rng_state(state)


def _mixed(*numbers: int) -> int:
    """A seed that torch takes, out of any integers: the hash of a tuple of integers is the same in every process."""
    return hash(numbers) & 0x7FFF_FFFF_FFFF_FFFF
