"""What our DataModules share: batches that follow from the seed, also after a resume, and their way to a model."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from tlprune.data.datasets import FolderImages, ImageSet, TensorImages
from tlprune.data.loaders import EpochLayout, ResumableLoader, batches
from tlprune.data.sampler import Batched, EpochCounter
from tlprune.data.size_schedule import SizeSchedule
from tlprune.data.transformed import Batch, TransformedDataset
from tlprune.data.transforms import mean_and_std, normalize
from tlprune.datamodules.resuming import batches_before, go_on
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import OfLightning
from tlprune.preprocessing import Preprocessing
from tlprune.storage.fingerprint import digest_json, digest_tensors

__all__ = ["ResumableDataModule"]

_BEFORE, _MOVE, _AFTER = "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"
_SAMPLED = 64


class ResumableDataModule(OfLightning, LightningDataModule):
    """Order and augmentation follow from the seed that torch was given, by ``seed_everything`` or otherwise.

    A checkpoint keeps that seed, so a run goes on in the same order wherever it stopped: in the middle of an epoch,
    with another number of loading processes, under another seed. With other images, another batch size or another
    number of processes it goes on from the end of an epoch; in the middle of one it is refused.

    Training batches are shared among the processes of a process group, with a Trainer or without. A loop that numbers
    no epochs gets another order and other augmentation each time.

    Loaders give normalised floats. On an accelerator, a Trainer's own loops get images as bytes and
    :meth:`on_after_batch_transfer` normalises them there: a quarter of the memory to move. That is so for modules that
    say ``takes_bytes = True``, as ours do, unless a subclass of the module or of the DataModule overrides a hook that
    would see the bytes.
    """

    train_sizes: SizeSchedule | None = None
    """Height and width of training images, epoch by epoch; None for the same in all."""

    _run_seed: int | None = None
    _seed_is_spent = False
    """Whether the seed was that of a run that has ended."""

    _checkpoint: dict[str, Any] | None = None
    """The state that the run goes on from, until its first epoch begins."""

    def __init__(self) -> None:
        super().__init__()
        self._epochs = EpochCounter()
        self._identity: tuple[ImageSet, str] | None = None

    def depends_on(self, whole: bool | None = None) -> list[Any]:
        """What changes when any image does, as JSON values. Lists all images, and opens none.

        Args:
            whole: Whether every byte is read, as with ``verify_content``; None does as that says.
        """
        read = getattr(self, "verify_content", False) if whole is None else whole
        images = self._all_images()
        quick = [None if one is None else one.quick_fingerprint for one in images]
        if not read:
            return quick
        return [
            None if one is None else [known, one.fingerprint("bytes")] for one, known in zip(images, quick, strict=True)
        ]

    def _all_images(self) -> Sequence[ImageSet | None]:
        raise NotImplementedError

    def _expected(self) -> Preprocessing:
        """How the Trainer's module expects images; nothing where it does not say.

        A module of tlprune says so from ``setup()`` on, or once its checkpoint is read: ask when loaders are made.
        """
        module = self.trainer.lightning_module if self.trainer is not None else None
        said = getattr(module, "preprocessing", None)
        return said if isinstance(said, Preprocessing) else Preprocessing()

    def state_dict(self) -> dict[str, Any]:
        """The seed of the run, and what its epochs are made of."""
        loader, trainer = self._own_loader(), self.trainer
        epoch = {} if loader is None or trainer is None else asdict(self._layout(trainer, loader))
        return {"run_seed": self._run_seed, "epoch": epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the seed of the run that goes on."""
        seed = state_dict.get("run_seed")
        self._run_seed, self._seed_is_spent = None if seed is None else int(seed), False
        self._checkpoint = dict(state_dict)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalises images that came to the device as bytes, then does what the module's own hook does.

        Lightning calls a DataModule's hook in place of the module's, so it is called from here.

        Args:
            batch: Images ``[B, 3, S, S]`` and whatever comes with them.
            dataloader_idx: Which of several loaders it is from.

        Returns:
            The batch with images in the Trainer's precision.
        """
        if self.trainer is None:
            return batch
        if isinstance(batch, (tuple, list)) and isinstance(batch[0], Tensor) and batch[0].dtype == torch.uint8:
            images = self.trainer.precision_plugin.convert_input(normalize(batch[0], *mean_and_std(self._expected())))
            batch = type(batch)((images, *batch[1:]))
        return self.trainer.lightning_module.on_after_batch_transfer(batch, dataloader_idx)

    def _train_loader(self, images: Batched, batch_size: int, num_workers: int) -> DataLoader[Batch]:
        fitting = self.trainer is not None and _fits(self.trainer)  # else other processes may not be here
        if self._run_seed is None or (self._seed_is_spent and fitting):
            self._run_seed, self._seed_is_spent = broadcast_from_rank0(torch.initial_seed), False
        return batches(
            images,
            batch_size,
            shuffle=True,
            num_workers=num_workers,
            seed=self._run_seed,
            sizes=self.train_sizes,
            pin_memory=self._on_gpu,
            run=self,
            epochs=self._epochs,
        )

    def teardown(self, stage: str) -> None:
        """Has the next run ask for its seed."""
        self._seed_is_spent = stage == "fit"

    def _in_order(self, images: Batched, batch_size: int, num_workers: int) -> DataLoader[Batch]:
        return batches(images, batch_size, shuffle=False, num_workers=num_workers, pin_memory=self._on_gpu, run=self)

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def batches_behind(self, loader: DataLoader[Batch]) -> int | None:
        """Batches of the Trainer's present epoch that it has behind it.

        Args:
            loader: Whose batches are asked for.

        Returns:
            0 for a loader that is not the Trainer's own; None without a Trainer.
        """
        trainer = self.trainer
        if trainer is None:
            return None
        own = _fits(trainer) and any(one is loader for one in tree_leaves(trainer.train_dataloader))
        return trainer.fit_loop.epoch_loop.batch_progress.current.ready if own else 0

    def wants_bytes(self, loader: DataLoader[Batch]) -> bool:
        """Whether the Trainer that runs this loader has it normalised on its device."""
        trainer = self.trainer
        if trainer is None or not _runs(trainer) or not _worth_bytes(trainer):
            return False
        module = trainer.lightning_module
        seen = (
            is_overridden(_BEFORE, module)
            or is_overridden(_MOVE, module)
            or any(
                getattr(type(self), hook) is not getattr(ResumableDataModule, hook) for hook in (_BEFORE, _MOVE, _AFTER)
            )
        )
        if seen or not getattr(module, "takes_bytes", False):
            return False
        loaders = [trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders]
        return any(one is loader for one in tree_leaves([*loaders, trainer.predict_dataloaders]))

    def on_set_epoch(self) -> None:
        """Sees to it that the first epoch after a resume is one that the checkpoint's run could have gone on with.

        Raises:
            InputError: The checkpoint was written in the middle of an epoch of other batches.
        """
        state, self._checkpoint = self._checkpoint or {}, None
        trainer, loader = self.trainer, self._own_loader()
        if trainer is None or loader is None or not trainer.fit_loop.is_resuming:
            return
        saved = loader.take_saved()  # of a run that was given the loader alone, or whose DataModule keeps no state
        if state.get("run_seed") is None and "seed" in saved:
            self._run_seed = int(saved["seed"])
            loader.reseed(self._run_seed)
        before = EpochLayout.from_state(said) if (said := state.get("epoch") or saved) else None
        if before is not None and not state.get("epoch"):  # a loader does not know of the Trainer's limit
            before = replace(before, batches=batches_before(trainer))
        go_on(trainer, self._layout(trainer, loader), before)

    def _own_loader(self) -> ResumableLoader | None:
        """The Trainer's training loader; None where it has another, or several."""
        loaders = [] if self.trainer is None else tree_leaves(self.trainer.train_dataloader)
        own = [one for one in loaders if isinstance(one, ResumableLoader) and one.layout is not None]
        return own[0] if len(own) == 1 else None

    def _layout(self, trainer: Trainer, loader: ResumableLoader) -> EpochLayout:
        """What an epoch of the Trainer's training loader is made of."""
        layout = cast(EpochLayout, loader.layout)
        content = self._content(loader.dataset.images)  # type: ignore[attr-defined]
        batches_of_trainer = trainer.num_training_batches  # infinite beside a loader of others without an end
        return replace(layout, batches=int(min(batches_of_trainer, sys.maxsize)), content=content)

    def _content(self, images: Batched) -> str:
        """Tells one training set from another, and reads little; kept, since every checkpoint asks for it."""
        if not isinstance(images, TransformedDataset):
            return ""
        if self._identity is None or self._identity[0] is not images.images:
            self._identity = images.images, _identity(images.images)
        return self._identity[1]


def _runs(trainer: Trainer) -> bool:
    return trainer.state.status == TrainerStatus.RUNNING


def _fits(trainer: Trainer) -> bool:
    return _runs(trainer) and trainer.state.fn == TrainerFn.FITTING


def _worth_bytes(trainer: Trainer) -> bool:
    """Whether images have a way to go to the model."""
    return trainer.strategy.root_device.type != "cpu"


def _identity(images: ImageSet) -> str:
    if isinstance(images, FolderImages):
        return images.fingerprint()
    sampled = torch.linspace(0, len(images) - 1, min(len(images), _SAMPLED)).long()
    pixels = images.pixels[sampled] if isinstance(images, TensorImages) else torch.zeros(0)
    names = [images.name(index) for index in sampled.tolist()]
    return digest_json([digest_tensors({"labels": images.labels, "pixels": pixels}), names])
