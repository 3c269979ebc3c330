"""Batches that hold a share of other images: a target's training images beside those of the source, without labels."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tlprune.data.sampler import EpochCounter, EpochSampler, seed_from
from tlprune.data.transformed import Batch, TransformedDataset
from tlprune.errors import InputError

__all__ = ["MixedDataset", "MixedSampler", "included_in_batch"]


def included_in_batch(share: float, batch_size: int) -> int:
    """Returns the number of included images in a batch.

    Args:
        share: Share of each batch, in (0, 1).
        batch_size: Batch size of one process.

    Returns:
        ``round(share * batch_size)``, in [1, batch_size - 1].

    Raises:
        InputError: The share is out of range, or a batch would hold no image of one of the sets.

    Example:
        >>> included_in_batch(0.2, 256)
        51
    """
    if not 0 < share < 1:
        raise InputError(f"`include_target` must be in (0, 1), got {share}")
    included = round(share * batch_size)
    if not 0 < included < batch_size:
        what = f"`include_target` is {share}, which is {included} of the {batch_size} images in a batch"
        raise InputError(f"{what}: a batch must hold at least one image of the target and one of the source")
    return included


class MixedDataset(Dataset[tuple[Tensor, int]]):
    """A set of training images, followed by the images that its batches include. Batches are two views of each.

    Args:
        images: The training images, under a transform to two views.
        included: Further sets under the same transform, at least one image in all.
        share: Share of included images in each batch, in (0, 1).

    Raises:
        InputError: There is no image to include.
    """

    def __init__(self, images: TransformedDataset, included: Sequence[TransformedDataset], share: float) -> None:
        self.parts = (images, *included)
        self.share = share
        self.starts = torch.tensor([0, *(len(part) for part in self.parts)]).cumsum(0)
        if len(self) == len(images):
            raise InputError("`include_target`: the target has no training images")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns the two views of an image, ``[2, 3, S, S]`` float32, and its label."""
        views, labels = self.__getitems__([index])
        return torch.cat(list(views)), int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Returns a batch: two views, ``[B, 3, S, S]`` float32 each, and labels ``[B]`` int64.

        Images come in the order of their sets. The label of an included image is -1.
        """
        picked = torch.as_tensor(indices)
        views: list[list[Tensor]] = []
        labels: list[Tensor] = []
        for number, part in enumerate(self.parts):
            own = picked[(picked >= self.starts[number]) & (picked < self.starts[number + 1])] - self.starts[number]
            if len(own) == 0:
                continue
            seen, known = part.__getitems__(own.tolist())
            views.append(list(seen))
            labels.append(known if number == 0 else torch.full_like(known, -1))
        batch = [torch.cat(view) for view in zip(*views, strict=True)]
        return batch, torch.cat(labels)  # type: ignore[return-value]  # two views in place of images

    def at_size(self, image_size: int) -> Self:
        """Returns the same images with a height and width of ``image_size`` pixels."""
        images, *included = (part.at_size(image_size) for part in self.parts)
        return type(self)(images, included, self.share)


class MixedSampler(EpochSampler):
    """Samples batches of a :class:`MixedDataset`: an epoch is one pass over the training images.

    Each batch of one process holds ``batch_size - included`` training images and then ``included`` others. The others
    come from shuffled passes over all of them, one pass after the other, which processes share. A batch that is the
    only one of its epoch, since there are too few training images, holds others in proportion.

    Args:
        images: The dataset; its training images are sampled like those of an :class:`EpochSampler`.
        batch_size: Batch size of one process.
        seed: Seed of the order of every epoch.
        epochs: Counter for epochs that are not announced; None for a new counter.
        on_set_epoch: Callback for epochs announced by :meth:`set_epoch`.
        log_odds: Log of the odds of each training image; None for each training image once.

    Attributes:
        included: Number of included images in a batch.
        others: Number of images that may be included.
    """

    def __init__(
        self,
        images: MixedDataset,
        batch_size: int,
        seed: int,
        epochs: EpochCounter | None = None,
        on_set_epoch: Callable[[], None] | None = None,
        log_odds: Tensor | None = None,
    ) -> None:
        self.included = included_in_batch(images.share, batch_size)
        self.others = len(images) - len(images.parts[0])
        super().__init__(len(images.parts[0]), batch_size, seed, epochs, on_set_epoch, log_odds)

    @property
    def length(self) -> int:
        """Number of images that are numbered in an epoch, included ones among them."""
        return self.count + self.others

    def share(self, rank: int, world: int) -> None:
        """Restricts this process to its part of every epoch, as :meth:`EpochSampler.share`."""
        super().share(rank, world)
        batches, own, others = self._composition()
        self.num_samples = batches * (own + others)
        self.total_size = self.num_samples * world

    def _composition(self) -> tuple[int, int, int]:
        """Returns the batches of an epoch of one process, and the training images and others in each."""
        own, each = max(self.count // self.num_replicas, 1), self.batch_size - self.included
        if own >= each:
            return own // each, each, self.included
        return 1, own, max(round(own * self.included / each), 1)

    def _own_images(self) -> Tensor:
        batches, own, others = self._composition()
        images = super()._own_images()[: batches * own].view(batches, own)
        wanted = batches * others * self.num_replicas
        generator = torch.Generator().manual_seed(seed_from(self.seed, self.epoch, self.others))
        passes = [torch.randperm(self.others, generator=generator) for _ in range(-(-wanted // self.others))]
        included = torch.cat(passes)[:wanted][self.rank :: self.num_replicas].view(batches, others)
        return torch.cat([images, self.count + included], 1).flatten()
