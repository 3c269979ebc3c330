"""The order of training images, as a function of the run's seed and the epoch alone.

A run that stops anywhere can go on as if it had not: Lightning saves no random state, and an order drawn from it would
be another one after a resume. Here the order of an epoch follows from seed and epoch, and what varies in an image
follows from seed, epoch and the batch that it is in.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

__all__ = ["Batched", "EpochCounter", "EpochSampler", "Reproducible"]


class Batched(Protocol):
    """A set that gives whole batches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]: ...


class EpochCounter:
    """Numbers the epochs of loops that do not say which epoch they are in, so that no two are alike."""

    def __init__(self) -> None:
        self.following = 0

    def advance(self, epoch: int | None = None) -> int:
        """The epoch that begins.

        Args:
            epoch: Its number, if it is known; None for the one after the last.
        """
        number = self.following if epoch is None else epoch
        self.following = max(self.following, number + 1)
        return number


class EpochSampler(DistributedSampler[int]):
    """Numbers of images in the order of an epoch, each with the epoch in it: ``epoch * count + index``.

    It is a DistributedSampler, so Lightning and Fabric leave it as it is and tell it of each new epoch. Who tells it
    nothing gets a new epoch each time. It gives all images until :meth:`share` is called.

    Args:
        count: Images in the set, at least 1.
        batch_size: Images in a batch of one process.
        seed: Decides every epoch's order.
        epochs: Numbers the epochs that nobody does; None for a counter of its own.
        on_set_epoch: Called when an epoch is announced by :meth:`set_epoch`.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        epochs: EpochCounter | None = None,
        on_set_epoch: Callable[[], None] | None = None,
    ) -> None:
        dataset = cast("Dataset[int]", range(count))
        super().__init__(dataset, num_replicas=1, rank=0, seed=seed)
        self.count = count
        self.batch_size = batch_size
        self.epochs = epochs or EpochCounter()
        self.on_set_epoch = on_set_epoch
        self.skip = 0
        self._announced = False
        self.share(0, 1)

    def share(self, rank: int, world: int) -> None:
        """Gives this process its part of every epoch; parts are of one size, without overlap.

        Args:
            rank: Of this process.
            world: How many processes there are. Where they are more than images, images are repeated.
        """
        self.rank, self.num_replicas = rank, world
        self.num_samples = max(self.count // world, 1)
        self.total_size = self.num_samples * world
        self.drop_last = self.count >= world

    def agree(self) -> int:
        """Gives every process the seed of the first; every process must call this.

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
        """Whether a last batch that is not full is left out: unless it is the only one."""
        return self.num_samples >= self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next."""
        super().set_epoch(epoch)
        self._announced = True
        if self.on_set_epoch is not None:
            self.on_set_epoch()

    def __iter__(self) -> Iterator[int]:
        """This process's part of the epoch, without the first ``skip`` images of it."""
        self.epoch = self.epochs.advance(self.epoch if self._announced else None)
        self._announced = False
        generator = torch.Generator().manual_seed(_mixed(self.seed, self.epoch))
        order = torch.randperm(self.count, generator=generator)
        own = order.repeat(-(-self.total_size // self.count))[: self.total_size][self.rank :: self.num_replicas]
        begin, self.skip = self.skip, 0
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
