"""The order of training images as a function of only the seed of the run and the epoch.

This makes runs resumable at any batch. Lightning saves no random state, so an order drawn from it would differ after a
resume. Here the order of an epoch depends on seed and epoch, and the augmentation of an image on seed, epoch and batch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

__all__ = ["Batched", "EpochCounter", "EpochSampler", "Reproducible", "seed_from"]


class Batched(Protocol):
    """A Dataset that returns whole batches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]: ...


class EpochCounter:
    """Numbers the epochs of training loops that do not announce them, so that no two epochs are alike."""

    def __init__(self) -> None:
        self.following = 0

    def advance(self, epoch: int | None = None) -> int:
        """Starts an epoch and returns its number.

        Args:
            epoch: Number of the epoch, if known; None for the previous epoch plus one.
        """
        number = self.following if epoch is None else epoch
        self.following = max(self.following, number + 1)
        return number


class EpochSampler(DistributedSampler[int]):
    """Samples image numbers in the order of an epoch. Each number encodes the epoch: ``epoch * length + index``.

    The class is a DistributedSampler, so that Lightning and Fabric do not replace it and call :meth:`set_epoch` for
    each epoch. Without such a call, every iteration is a new epoch. The sampler gives all images until :meth:`share`
    is called.

    Args:
        count: Number of images in the set, at least 1.
        batch_size: Batch size of one process.
        seed: Seed of the order of every epoch.
        epochs: Counter for epochs that are not announced; None for a new counter.
        on_set_epoch: Callback for epochs announced by :meth:`set_epoch`.
        log_odds: Log of the odds of each image, ``[count]`` float, finite: an epoch then draws ``count`` images with
            replacement. None for an epoch that holds each image once.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        epochs: EpochCounter | None = None,
        on_set_epoch: Callable[[], None] | None = None,
        log_odds: Tensor | None = None,
    ) -> None:
        dataset = cast("Dataset[int]", range(count))
        super().__init__(dataset, num_replicas=1, rank=0, seed=seed)
        self.count = count
        self.batch_size = batch_size
        self.epochs = epochs or EpochCounter()
        self.on_set_epoch = on_set_epoch
        self.log_odds = log_odds
        self.skip = 0
        self._announced = False
        self.share(0, 1)

    def share(self, rank: int, world: int) -> None:
        """Restricts this process to its part of every epoch; parts have equal size and do not overlap.

        Args:
            rank: Rank of this process.
            world: Number of processes. If there are more processes than images, images are repeated.
        """
        self.rank, self.num_replicas = rank, world
        self.num_samples = max(self.count // world, 1)
        self.total_size = self.num_samples * world
        self.drop_last = self.count >= world

    def agree(self) -> int:
        """Sets the seed of rank 0 on every process. Every process must call this.

        Returns:
            The seed.
        """
        if self.num_replicas > 1:
            shared = [self.seed]
            dist.broadcast_object_list(shared)
            self.seed = shared[0]
        return self.seed

    @property
    def drops_last(self) -> bool:
        """Whether an incomplete last batch is dropped: unless it is the only batch."""
        return self.num_samples >= self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Announces the next epoch."""
        super().set_epoch(epoch)
        self._announced = True
        if self.on_set_epoch is not None:
            self.on_set_epoch()

    def __iter__(self) -> Iterator[int]:
        """Iterates over this process's part of the epoch, without its first ``skip`` images."""
        self.epoch = self.epochs.advance(self.epoch if self._announced else None)
        self._announced = False
        own = self._own_images()
        begin, self.skip = self.skip, 0
        return iter((own[begin:] + self.epoch * self.length).tolist())

    @property
    def length(self) -> int:
        """Number of images that are numbered in an epoch."""
        return self.count

    def _own_images(self) -> Tensor:
        """Returns this process's images of the epoch in order, ``[num_samples]`` int64."""
        order = self._order()
        own = max(self.count // self.num_replicas, 1) * self.num_replicas
        return order.repeat(-(-own // self.count))[:own][self.rank :: self.num_replicas]

    def _order(self) -> Tensor:
        """Returns the images of the epoch of all processes, ``[count]`` int64."""
        generator = torch.Generator().manual_seed(seed_from(self.seed, self.epoch))
        if self.log_odds is None:
            return torch.randperm(self.count, generator=generator)
        below = self.log_odds.double().softmax(0).cumsum(0)
        drawn = torch.rand(self.count, generator=generator, dtype=torch.float64)
        return torch.searchsorted(below / below[-1], drawn, right=True)


class Reproducible(Dataset[tuple[Tensor, int]]):
    """A Dataset whose random augmentation depends on seed, epoch and batch, not on earlier draws from the random state.

    Args:
        images: The Dataset, which draws random numbers from the global state of torch.
        seed: Seed of the augmentation.
        by_epoch: Function from an epoch to its Dataset, for Datasets that differ between epochs.
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
        """Returns the batch for ``numbers`` of an :class:`EpochSampler`."""
        state = torch.get_rng_state()
        try:
            # torch.manual_seed also checks for accelerators, which takes longer than loading a small batch
            torch.default_generator.manual_seed(seed_from(self.seed, *numbers))
            count = len(self.images)
            images = self.images if self.by_epoch is None else self.by_epoch(numbers[0] // count)
            return images.__getitems__([number % count for number in numbers])
        finally:
            torch.set_rng_state(state)


def seed_from(*numbers: int) -> int:
    """Derives a seed for torch from integers; the hash of a tuple of integers is the same in every process."""
    return hash(numbers) & 0x7FFF_FFFF_FFFF_FFFF
