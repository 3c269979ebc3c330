"""What our DataModules share: training batches that follow from the run's seed, also after a resume."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from tlprune.data.images import ImageSet
from tlprune.data.sampler import Batched, Place
from tlprune.data.size_schedule import SizeSchedule
from tlprune.data.viewed import Batch, batches
from tlprune.selection.ranks import from_first_rank

__all__ = ["ResumableDataModule"]


class ResumableDataModule(LightningDataModule):
    """Order and augmentation follow from the seed that torch was given, by ``seed_everything`` or otherwise.

    A checkpoint keeps that seed, so a run goes on in the same order wherever it stopped: in the middle of an epoch,
    with another number of loading processes, under another seed.
    """

    train_sizes: SizeSchedule | None = None
    """Height and width of training images, epoch by epoch; None for the same in all."""

    _run_seed: int | None = None

    def depends_on(self) -> list[Any]:
        """What changes when any image does, as JSON values. Lists all images, and opens none."""
        return [None if one is None else one.mark for one in self._all_images()]

    def _all_images(self) -> Sequence[ImageSet | None]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The seed of the run."""
        return {"run_seed": self._run_seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the seed of the run that goes on."""
        seed = state_dict.get("run_seed")
        self._run_seed = None if seed is None else int(seed)

    def _train_loader(self, images: Batched, batch_size: int, num_workers: int) -> DataLoader[Batch]:
        if self._run_seed is None:
            self._run_seed = from_first_rank(torch.initial_seed)
        place = _place_in(self.trainer)
        return batches(images, batch_size, True, num_workers, self._run_seed, place, self.train_sizes)


def _place_in(trainer: Trainer | None) -> Place:
    if trainer is None:
        return Place()
    # Lightning writes checkpoints between batches, before it counts the last one as completed
    done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
    return Place(trainer.global_rank, trainer.world_size, done, trainer.limit_train_batches)
