"""DataLoaders over viewed images: shared among processes, new in each epoch, and able to go on in the middle of one."""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, cast

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from tlprune.data.sampler import Batched, EpochCounter, EpochSampler, Reproducible
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
) -> "ResumableLoader":
    """A DataLoader of images ``[B, 3, S, S]`` float32 and labels ``[B]`` int64.

    Args:
        images: A set that gives batches through ``__getitems__``.
        batch_size: At least 1.
        shuffle: Whether each epoch has an order of its own; a last batch that is not full is then left out, unless
            it is the only one. Shuffled images are shared among the processes of a process group.
        num_workers: Processes that load images.
        seed: Decides order and augmentation where batches are shuffled.
        sizes: Of shuffled images, epoch by epoch; None for that of their view.
        pin_memory: Whether batches are put where a GPU can copy them from while it computes.
        run: What trains on the batches, if it can tell; None for any loop.
        epochs: Numbers the epochs that a loop does not number; None for a counter of the loader's own.
    """
    sampler = None
    if isinstance(images, TransformedDataset):
        images = copy(images)  # whether they are left as bytes is this loader's own affair
    if shuffle and len(images) > 0:
        on_set_epoch = None if run is None else run.on_set_epoch
        sampler = EpochSampler(len(images), batch_size, seed, epochs, on_set_epoch)
        by_epoch = None if sizes is None else _BySize(cast(TransformedDataset, images), sizes)
        images = Reproducible(images, seed, by_epoch)
    return ResumableLoader(
        cast("Dataset[Batch]", images),
        batch_size=batch_size,
        sampler=sampler,
        drop_last=sampler is not None and sampler.drops_last,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        # a generator of its own: loading must not change what a model draws
        generator=torch.Generator(),
        run=run,
    )


@dataclass(frozen=True)
class EpochLayout:
    """What the epochs of a run are made of; a checkpoint keeps it.

    Args:
        images: Training images.
        batch_size: Images in a batch of one process.
        processes: How many share an epoch.
        batches: Of an epoch, that each process trains on.
        content: Tells one training set from another of the same size; empty where that is not known.
    """

    images: int
    batch_size: int
    processes: int
    batches: int
    content: str = ""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "EpochLayout":
        """Reads what a checkpoint has; what it has besides is left aside."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})

    def changes(self, before: "EpochLayout") -> list[str]:
        """What was otherwise, in words, so that batches of the same number hold other images; empty for nothing."""
        names = {"images": "training images", "batch_size": "images in a batch", "processes": "processes"}
        found = [
            f"{words} were {getattr(before, name)}, are {getattr(self, name)}"
            for name, words in names.items()
            if getattr(before, name) != getattr(self, name)
        ]
        other = bool(before.content and self.content) and before.content != self.content
        return found or (["they were other images"] if other else [])


class Run(Protocol):
    """What trains on a loader's batches, and knows how far it is."""

    def batches_behind(self, loader: DataLoader[Batch]) -> int | None:
        """Batches of the epoch that begins which the run has behind it; None where it does not know."""
        ...

    def wants_bytes(self, loader: DataLoader[Batch]) -> bool:
        """Whether the run normalises batches of bytes itself."""
        ...

    def on_set_epoch(self) -> None:
        """Called when a trainer announces an epoch of a shuffled loader."""
        ...


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader that asks, when its first batch is wanted, which part of which epoch this process has to load.

    Only then is it known: a Trainer makes its loader before it reads the checkpoint that the run goes on from, and a
    loader may be made before there is a process group.

    Args:
        dataset: A set that gives batches through ``__getitems__``.
        run: What trains on the batches; None for any loop.
        **options: What a DataLoader takes besides.
    """

    def __init__(self, dataset: Dataset[Batch], *, run: Run | None = None, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.run = run
        self._begun = False
        self._given = 0
        self._saved: dict[str, Any] = {}
        self._agreed = rank_and_world()[1] > 1  # who made it then gave every process the same seed

    def __len__(self) -> int:
        """Batches of an epoch on this process."""
        self._share()
        return super().__len__()

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches of an epoch; nothing is loaded before the first is asked for."""
        first, wanted = not self._begun, self.run is None or self.run.wants_bytes(self)
        if first and self.run is not None:  # loading processes are started now, and keep to it
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
        """Has the sampler of a shuffled set give this process's part alone."""
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            return None
        sampler.share(*rank_and_world())
        if isinstance(self.batch_sampler, BatchSampler):
            self.batch_sampler.drop_last = sampler.drops_last
        return sampler

    @property
    def layout(self) -> EpochLayout | None:
        """What an epoch is made of; None where images are not shuffled."""
        sampler = self._share()
        if sampler is None:
            return None
        return EpochLayout(sampler.count, sampler.batch_size, sampler.num_replicas, super().__len__())

    def reseed(self, seed: int) -> None:
        """Has order and augmentation of epochs that have not begun follow from another seed."""
        if isinstance(self.sampler, EpochSampler) and isinstance(self.dataset, Reproducible):
            self.sampler.seed = self.dataset.seed = seed

    def state_dict(self) -> dict[str, Any]:
        """How far the present epoch is, for a Trainer that was given this loader without its DataModule."""
        layout = self.layout
        seed = getattr(self.sampler, "seed", None)
        return {} if layout is None else {"seed": seed, "given": self._given} | asdict(layout)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps what :meth:`state_dict` gave until the next epoch begins."""
        self._saved = state_dict

    def take_saved(self) -> dict[str, Any]:
        """What a checkpoint has of this loader, once; empty where there is nothing."""
        saved, self._saved = self._saved, {}
        return saved

    def _behind_by_itself(self) -> int:
        """Batches of the epoch that begins which a checkpoint's run had behind it, where no run can tell.

        Raises:
            InputError: Its epochs were made of other batches.
        """
        saved, now = self.take_saved(), self.layout
        if not saved or now is None:
            return 0
        if changes := now.changes(EpochLayout.from_state(saved)):
            raise InputError(
                f"the checkpoint's epochs were made of other batches: {'; '.join(changes)}. Go on as it was, or give "
                "the Trainer the DataModule in place of its loader, to go on from an epoch's end"
            )
        self.reseed(int(saved["seed"]))
        return int(saved["given"]) % max(now.batches, 1)


def _viewed(dataset: Any) -> list[TransformedDataset]:
    """The views of which a loader's set is made, one for each size of images."""
    if isinstance(dataset, Reproducible):
        by_size = list(dataset.by_epoch.seen.values()) if isinstance(dataset.by_epoch, _BySize) else []
        dataset = [dataset.images, *by_size]
    return [one for one in (dataset if isinstance(dataset, list) else [dataset]) if isinstance(one, TransformedDataset)]


def _leave_bytes(dataset: Any, wanted: bool) -> None:
    """Leaves batches as bytes, if that is wanted and their view allows it."""
    for one in _viewed(dataset):
        one.in_bytes = wanted and one.transform.ends_in_bytes


def _normalized(batch: Batch, dataset: Any) -> Batch:
    """The batch normalised, where a loader that leaves bytes to a Trainer is asked by somebody else."""
    views = _viewed(dataset)
    return (views[0].transform.normalize_batch(batch[0]), batch[1]) if views and views[0].in_bytes else batch


class _BySize:
    """What is seen in an epoch."""

    def __init__(self, images: TransformedDataset, sizes: SizeSchedule) -> None:
        self.sizes = sizes
        self.seen = {sizes.at(epoch): images.at_size(sizes.at(epoch)) for epoch in range(sizes.end + 1)}

    def __call__(self, epoch: int) -> TransformedDataset:
        return self.seen[self.sizes.at(epoch)]


def _as_it_is(batch: Any) -> Any:
    """Collates nothing: ``__getitems__`` gives whole batches."""
    return batch
