"""DataLoaders over transformed images, sharded over processes, reshuffled per epoch, and resumable within an epoch."""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from tlprune.data.mixed import MixedDataset, MixedSampler
from tlprune.data.sampler import Batched, EpochCounter, EpochSampler, Reproducible
from tlprune.data.shared_batches import as_list
from tlprune.data.size_schedule import SizeSchedule
from tlprune.data.transformed import Batch, TransformedDataset
from tlprune.errors import InputError
from tlprune.processes import rank_and_world

__all__ = ["ResumableLoader", "Run", "batches"]


def batches(
    images: Batched,
    batch_size: int,
    shuffle: bool,
    num_workers: int,
    seed: int = 0,
    sizes: SizeSchedule | None = None,
    pin_memory: bool = False,
    run: "Run | None" = None,
    epochs: EpochCounter | None = None,
    log_odds: Tensor | None = None,
) -> "ResumableLoader":
    """Creates a DataLoader of images ``[B, 3, S, S]`` float32 and labels ``[B]`` int64.

    Args:
        images: Dataset that returns batches from ``__getitems__``.
        batch_size: Batch size of one process, at least 1.
        shuffle: Whether to reshuffle in each epoch. An incomplete last batch is then dropped unless it is the only one,
            and images are sharded over the processes of a process group.
        num_workers: Number of loading processes.
        seed: Seed of order and augmentation of shuffled batches.
        sizes: Image sizes of shuffled images by epoch; None for the size of their transform.
        pin_memory: Whether to put batches in pinned memory, from which copies to a GPU overlap with computation.
        run: The training run, which knows its progress; None for any other loop.
        epochs: Counter for epochs that a loop does not announce; None for a new counter.
        log_odds: Log of the odds by which shuffled images are drawn with replacement, ``[N]``; None gives each image
            once per epoch. With a :class:`MixedDataset`, of its first part.
    """
    sampler: EpochSampler | None = None
    if isinstance(images, TransformedDataset):
        images = copy(images)  # each loader decides separately whether its batches stay bytes
    if shuffle and len(images) > 0:
        on_set_epoch = None if run is None else run.on_set_epoch
        if isinstance(images, MixedDataset):
            sampler = MixedSampler(images, batch_size, seed, epochs, on_set_epoch, log_odds)
        else:
            sampler = EpochSampler(len(images), batch_size, seed, epochs, on_set_epoch, log_odds)
        by_epoch = None if sizes is None else _BySize(cast(TransformedDataset | MixedDataset, images), sizes)
        images = Reproducible(images, seed, by_epoch)
    return ResumableLoader(
        cast("Dataset[Batch]", images),
        batch_size=batch_size,
        sampler=sampler,
        drop_last=sampler is not None and sampler.drops_last,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=as_list,
        pin_memory=pin_memory,
        # a separate generator, so that loading does not change the random numbers of a model
        generator=torch.Generator(),
        run=run,
    )


@dataclass(frozen=True)
class EpochLayout:
    """Composition of the epochs of a run, which is saved in checkpoints.

    Args:
        images: Number of training images.
        batch_size: Batch size of one process.
        processes: Number of processes that share an epoch.
        batches: Number of batches per epoch and process.
        content: Identifier that distinguishes training sets of the same size; empty if not known.
        included: Number of images in a batch that are of another set than the training images.
    """

    images: int
    batch_size: int
    processes: int
    batches: int
    content: str = ""
    included: int = 0

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "EpochLayout":
        """Reads the layout from the state in a checkpoint and ignores other keys."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})

    def changes(self, before: "EpochLayout") -> list[str]:
        """Describes changes that give batches of the same number other images; empty if nothing changed."""
        names = {"images": "training images", "batch_size": "images in a batch", "processes": "processes"}
        names["included"] = "target images in a batch"
        differences = [
            f"{words} were {getattr(before, name)}, are {getattr(self, name)}"
            for name, words in names.items()
            if getattr(before, name) != getattr(self, name)
        ]
        other = bool(before.content and self.content) and before.content != self.content
        return differences or (["they were other images"] if other else [])


class Run(Protocol):
    """A training run that iterates a loader and knows its progress."""

    def batches_behind(self, loader: DataLoader[Batch]) -> int | None:
        """Returns the number of finished batches of the epoch that begins; None if not known."""
        ...

    def wants_bytes(self, loader: DataLoader[Batch]) -> bool:
        """Returns whether the run normalises batches of bytes itself."""
        ...

    def on_set_epoch(self) -> None:
        """Is called when a trainer announces an epoch of a shuffled loader."""
        ...


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader that determines the part of the epoch for this process when its first batch is requested.

    The part is not known earlier: a Trainer creates its loader before it reads the checkpoint to resume from, and a
    loader may exist before the process group does.

    Args:
        dataset: Dataset that returns batches from ``__getitems__``.
        run: The training run; None for any other loop.
        **options: Further arguments of a DataLoader.
    """

    def __init__(self, dataset: Dataset[Batch], *, run: Run | None = None, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.run = run
        self._begun = False
        self._given = 0
        self._saved: dict[str, Any] = {}
        self._agreed = rank_and_world()[1] > 1  # in a process group, the creator passes the same seed on every process

    def __len__(self) -> int:
        """Returns the number of batches per epoch on this process."""
        self._share()
        return super().__len__()

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Iterates over the batches of an epoch; loading starts with the first request."""
        first, wanted = not self._begun, self.run is None or self.run.wants_bytes(self)
        if first and self.run is not None:  # the loading processes that start now keep this setting
            _leave_bytes(self.dataset, wanted)
        self._begun = True
        sampler = self._share()
        if sampler is not None:
            behind = None if self.run is None else self.run.batches_behind(self)
            behind = self._behind_by_itself() if behind is None else behind if first else 0
            if not self._agreed:
                self.reseed(sampler.agree())
                self._agreed = sampler.num_replicas > 1
            sampler.skip, self._given = sampler.batch_size * behind, behind
        for batch in super().__iter__():
            self._given += 1
            yield batch if wanted else _normalized(batch, self.dataset)

    def _share(self) -> EpochSampler | None:
        """Restricts the sampler of a shuffled set to the part of this process."""
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            return None
        sampler.share(*rank_and_world())
        if isinstance(self.batch_sampler, BatchSampler):
            self.batch_sampler.drop_last = sampler.drops_last
        return sampler

    @property
    def layout(self) -> EpochLayout | None:
        """Composition of an epoch; None if images are not shuffled."""
        sampler = self._share()
        if sampler is None:
            return None
        included = sampler.included if isinstance(sampler, MixedSampler) else 0
        batches = super().__len__()
        return EpochLayout(sampler.count, sampler.batch_size, sampler.num_replicas, batches, included=included)

    def reseed(self, seed: int) -> None:
        """Sets another seed for the order and augmentation of epochs that have not begun."""
        if isinstance(self.sampler, EpochSampler) and isinstance(self.dataset, Reproducible):
            self.sampler.seed = self.dataset.seed = seed

    def state_dict(self) -> dict[str, Any]:
        """Returns the progress within the current epoch, for a Trainer that has this loader without its DataModule."""
        layout = self.layout
        seed = getattr(self.sampler, "seed", None)
        return {} if layout is None else {"seed": seed, "given": self._given} | asdict(layout)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Stores a result of :meth:`state_dict` until the next epoch begins."""
        self._saved = state_dict

    def take_saved(self) -> dict[str, Any]:
        """Returns the stored state of a checkpoint and clears it; empty if there is none."""
        saved, self._saved = self._saved, {}
        return saved

    def _behind_by_itself(self) -> int:
        """Returns the number of finished batches of the epoch that begins from the stored state, without a run.

        Raises:
            InputError: The epochs of the checkpoint had other batches.
        """
        saved, now = self.take_saved(), self.layout
        if not saved or now is None:
            return 0
        if changes := now.changes(EpochLayout.from_state(saved)):
            raise InputError(
                f"the epochs of the checkpoint had other batches: {'; '.join(changes)}. Restore the settings, or give "
                "the Trainer the DataModule instead of its loader, to resume from the end of an epoch"
            )
        self.reseed(int(saved["seed"]))
        return int(saved["given"]) % max(now.batches, 1)


def _viewed(dataset: Any) -> list[TransformedDataset]:
    """Returns the transformed Datasets of a loader, one for each image size."""
    if isinstance(dataset, Reproducible):
        by_size = list(dataset.by_epoch.seen.values()) if isinstance(dataset.by_epoch, _BySize) else []
        dataset = [dataset.images, *by_size]
    datasets = dataset if isinstance(dataset, list) else [dataset]
    return [images for images in datasets if isinstance(images, TransformedDataset)]


def _leave_bytes(dataset: Any, wanted: bool) -> None:
    """Leaves batches as bytes if wanted and if their transform allows it."""
    for images in _viewed(dataset):
        images.in_bytes = wanted and images.transform.ends_in_bytes


def _normalized(batch: Batch, dataset: Any) -> Batch:
    """Normalises the batch if a loader that leaves bytes for a Trainer is iterated by another loop."""
    views = _viewed(dataset)
    if not views or not views[0].in_bytes:
        return batch
    return cast(Batch, [views[0].normalized(batch[0]), batch[1]])


class _BySize:
    """The Dataset of each epoch by its image size."""

    def __init__(self, images: TransformedDataset | MixedDataset, sizes: SizeSchedule) -> None:
        self.sizes = sizes
        self.seen: dict[int, TransformedDataset | MixedDataset] = {
            sizes.at(epoch): images.at_size(sizes.at(epoch)) for epoch in range(sizes.end + 1)
        }

    def __call__(self, epoch: int) -> TransformedDataset | MixedDataset:
        return self.seen[self.sizes.at(epoch)]
