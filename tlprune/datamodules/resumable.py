"""What our DataModules share: batches that follow from the seed, also after a resume, and their way to a model."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader

from tlprune.data.images import ImageSet
from tlprune.data.sampler import Batched, Place
from tlprune.data.size_schedule import SizeSchedule
from tlprune.data.transforms import normalised
from tlprune.data.viewed import Batch, ViewedImages, batches
from tlprune.errors import OfLightning
from tlprune.selection.ranks import from_first_rank

__all__ = ["ResumableDataModule"]

_HOOK = "on_after_batch_transfer"


class ResumableDataModule(OfLightning, LightningDataModule):
    """Order and augmentation follow from the seed that torch was given, by ``seed_everything`` or otherwise.

    A checkpoint keeps that seed, so a run goes on in the same order wherever it stopped: in the middle of an epoch,
    with another number of loading processes, under another seed.

    Loaders give normalised floats. While a Trainer runs a module that says ``takes_bytes = True``, as ours do, images
    come from the loading processes as bytes and are normalised where the model is: a quarter of the memory to move. A
    module with an ``on_after_batch_transfer`` of its own gets floats.
    """

    train_sizes: SizeSchedule | None = None
    """Height and width of training images, epoch by epoch; None for the same in all."""

    _run_seed: int | None = None

    def depends_on(self, whole: bool | None = None) -> list[Any]:
        """What changes when any image does, as JSON values. Lists all images, and opens none.

        Args:
            whole: Whether every byte is read, as with ``verify_content``; None does as that says.
        """
        read = getattr(self, "verify_content", False) if whole is None else whole
        return [
            None if one is None else [one.mark, one.read_whole()] if read else one.mark for one in self._all_images()
        ]

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
        left = self._for_trainer(images)
        pinned = self._on_gpu
        return batches(left, batch_size, True, num_workers, self._run_seed, place, self.train_sizes, pinned)

    def _in_order(self, images: Batched, batch_size: int, num_workers: int) -> DataLoader[Batch]:
        left = self._for_trainer(images)
        return batches(left, batch_size, False, num_workers, pin_memory=self._on_gpu)

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _for_trainer(self, images: Batched) -> Batched:
        """The same images, to be normalised after the transfer where that can be done."""
        running = self.trainer is not None and self.trainer.state.status == TrainerStatus.RUNNING
        module = self.trainer.lightning_module if self.trainer is not None and running else None
        if not getattr(module, "takes_bytes", False) or is_overridden(_HOOK, module):
            self.__dict__.pop(_HOOK, None)  # of a run before this one: it would take the place of this module's own
            return images
        if not isinstance(images, ViewedImages):
            return images
        # on this object, not its class: Lightning takes a DataModule's hook in place of the model's
        setattr(self, _HOOK, self._normalised)
        return images.as_bytes()

    def _normalised(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is None or not isinstance(batch, (tuple, list)) or not isinstance(batch[0], torch.Tensor):
            return batch
        if batch[0].dtype != torch.uint8:
            return batch
        images = self.trainer.precision_plugin.convert_input(normalised(batch[0]))
        return type(batch)((images, *batch[1:]))


def _place_in(trainer: Trainer | None) -> Place:
    if trainer is None:
        return Place()
    # Lightning writes checkpoints between batches, before it counts the last one as completed
    done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
    return Place(trainer.global_rank, trainer.world_size, done, trainer.limit_train_batches)
