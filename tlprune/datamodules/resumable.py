"""Base class of the DataModules: reproducible batches, exact resumption, and normalisation on the device."""

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
from tlprune.data.mixed import MixedDataset
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
_SHARE_OF_DEVICE = 4
"""Images take at most this part of the free memory of a GPU: a quarter."""


class ResumableDataModule(OfLightning, LightningDataModule):
    """DataModule whose order and augmentation depend on the seed of torch, set by ``seed_everything`` or otherwise.

    A checkpoint contains the seed, so a run resumes in the same order at any point: within an epoch, with another
    number of loading processes, or under another seed. With other images, another batch size or another number of
    processes, a run resumes only at the end of an epoch; within an epoch this is an error.

    Training batches are sharded over the processes of a process group, with or without a Trainer. Loops that do not
    announce epochs get a new order and augmentation each time.

    Loaders return normalised floats. On an accelerator, the loops of a Trainer instead receive images as bytes, and
    :meth:`on_after_batch_transfer` normalises them there, which transfers a quarter of the memory. This applies to
    modules with ``takes_bytes = True``, such as those of tlprune, unless a subclass of the module or the DataModule
    overrides a hook that would receive the bytes.
    """

    train_sizes: SizeSchedule | None = None
    """Height and width of training images by epoch; None for a constant size."""

    _run_seed: int | None = None
    _seed_is_spent = False
    """Whether the seed belongs to a run that has ended."""

    _checkpoint: dict[str, Any] | None = None
    """State to resume from, until the first epoch begins."""

    def __init__(self) -> None:
        super().__init__()
        self._epochs = EpochCounter()
        self._identity: tuple[list[ImageSet], str] | None = None

    def depends_on(self, whole: bool | None = None) -> list[Any]:
        """Returns JSON values that change with any image. Lists all images without opening one.

        Args:
            whole: Whether to read every byte; None for ``verify_content``.
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
        """Preprocessing that the module of the Trainer expects; empty if the module does not define it.

        Modules of tlprune define it from ``setup()`` on, or once a checkpoint is read, so it is read when loaders are
        created.
        """
        module = self.trainer.lightning_module if self.trainer is not None else None
        declared = getattr(module, "preprocessing", None)
        return declared if isinstance(declared, Preprocessing) else Preprocessing()

    def state_dict(self) -> dict[str, Any]:
        """Returns the seed of the run and the composition of its epochs."""
        loader, trainer = self._own_loader(), self.trainer
        epoch = {} if loader is None or trainer is None else asdict(self._layout(trainer, loader))
        return {"run_seed": self._run_seed, "epoch": epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the seed of the resumed run."""
        seed = state_dict.get("run_seed")
        self._run_seed, self._seed_is_spent = None if seed is None else int(seed), False
        self._checkpoint = dict(state_dict)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalises images that arrive on the device as bytes, then calls the hook of the module.

        Lightning calls the hook of a DataModule instead of the module's, so the module's hook is called here.

        Args:
            batch: Batch of images ``[B, 3, S, S]`` and other values.
            dataloader_idx: Index of the loader.

        Returns:
            The batch with images in the precision of the Trainer.
        """
        if self.trainer is None:
            return batch
        if isinstance(batch, (tuple, list)) and isinstance(batch[0], Tensor) and batch[0].dtype == torch.uint8:
            images = self.trainer.precision_plugin.convert_input(normalize(batch[0], *mean_and_std(self._expected())))
            batch = type(batch)((images, *batch[1:]))
        return self.trainer.lightning_module.on_after_batch_transfer(batch, dataloader_idx)

    def _train_loader(
        self, images: Batched, batch_size: int, num_workers: int, log_odds: Tensor | None = None
    ) -> DataLoader[Batch]:
        fitting = self.trainer is not None and _fits(self.trainer)  # otherwise other processes may not take part
        if self._run_seed is None or (self._seed_is_spent and fitting):
            self._run_seed, self._seed_is_spent = broadcast_from_rank0(torch.initial_seed), False
        held = images if self.train_sizes is not None else self._held(images, num_workers)
        return batches(
            held,
            batch_size,
            shuffle=True,
            num_workers=num_workers,
            seed=self._run_seed,
            sizes=self.train_sizes,
            pin_memory=self._pins(held),
            run=self,
            epochs=self._epochs,
            log_odds=log_odds,
        )

    def teardown(self, stage: str) -> None:
        """Makes the next run draw its own seed."""
        self._seed_is_spent = stage == "fit"

    def _in_order(self, images: Batched, batch_size: int, num_workers: int) -> DataLoader[Batch]:
        held = self._held(images, num_workers)
        return batches(held, batch_size, shuffle=False, num_workers=num_workers, pin_memory=self._pins(held), run=self)

    def _held(self, images: Batched, num_workers: int) -> Batched:
        """Returns images in memory, held on the GPU where the Trainer has one and its module takes bytes.

        A small network is otherwise done with a batch before the next one is copied.
        """
        trainer = self.trainer
        if trainer is None or num_workers > 0 or not isinstance(images, TransformedDataset):
            return images
        if not getattr(self, "in_memory", False) or not self._bytes_reach(trainer):
            return images
        room = _free_on_gpu(trainer) // _SHARE_OF_DEVICE
        return images.held_on(trainer.strategy.root_device, room) if room else images

    def _pins(self, images: Batched) -> bool:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return on_gpu and getattr(images, "on_device", None) is None

    def batches_behind(self, loader: DataLoader[Batch]) -> int | None:
        """Returns the number of finished batches in the Trainer's current epoch.

        Args:
            loader: Loader that starts an epoch.

        Returns:
            Number of batches; 0 for a loader that is not the Trainer's own, None without a Trainer.
        """
        trainer = self.trainer
        if trainer is None:
            return None
        own = _fits(trainer) and any(leaf is loader for leaf in tree_leaves(trainer.train_dataloader))
        return trainer.fit_loop.epoch_loop.batch_progress.current.ready if own else 0

    def wants_bytes(self, loader: DataLoader[Batch]) -> bool:
        """Returns whether the Trainer that iterates this loader normalises its batches on the device."""
        trainer = self.trainer
        if trainer is None or not _runs(trainer) or not _worth_bytes(trainer):
            return False
        if not self._bytes_reach(trainer):
            return False
        loaders = [trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders]
        return any(leaf is loader for leaf in tree_leaves([*loaders, trainer.predict_dataloaders]))

    def _bytes_reach(self, trainer: Trainer) -> bool:
        """Returns whether the module takes bytes, and nobody overrides a hook that would see them."""
        module = trainer.lightning_module
        seen = (
            is_overridden(_BEFORE, module)
            or is_overridden(_MOVE, module)
            or any(
                getattr(type(self), hook) is not getattr(ResumableDataModule, hook) for hook in (_BEFORE, _MOVE, _AFTER)
            )
        )
        return not seen and bool(getattr(module, "takes_bytes", False))

    def on_set_epoch(self) -> None:
        """Checks that the first epoch after a resume is consistent with the checkpoint.

        Raises:
            InputError: The checkpoint is from the middle of an epoch with other batches.
        """
        state, self._checkpoint = self._checkpoint or {}, None
        trainer, loader = self.trainer, self._own_loader()
        if trainer is None or loader is None or not trainer.fit_loop.is_resuming:
            return
        saved = loader.take_saved()  # state of a run without this DataModule, or whose DataModule saves no state
        if state.get("run_seed") is None and "seed" in saved:
            self._run_seed = int(saved["seed"])
            loader.reseed(self._run_seed)
        before = EpochLayout.from_state(layout) if (layout := state.get("epoch") or saved) else None
        if before is not None and not state.get("epoch"):  # a loader does not know the batch limit of the Trainer
            before = replace(before, batches=batches_before(trainer))
        go_on(trainer, self._layout(trainer, loader), before)

    def _own_loader(self) -> ResumableLoader | None:
        """Returns the only shuffled ResumableLoader among the training loaders of the Trainer, or None."""
        loaders = [] if self.trainer is None else tree_leaves(self.trainer.train_dataloader)
        own = [loader for loader in loaders if isinstance(loader, ResumableLoader) and loader.layout is not None]
        return own[0] if len(own) == 1 else None

    def _layout(self, trainer: Trainer, loader: ResumableLoader) -> EpochLayout:
        """Returns the composition of an epoch of the Trainer's training loader."""
        layout = cast(EpochLayout, loader.layout)
        content = self._content(loader.dataset.images)  # type: ignore[attr-defined]
        if (log_odds := loader.sampler.log_odds) is not None:  # type: ignore[attr-defined]
            content = digest_json([content, digest_tensors({"log_odds": log_odds})])
        batches_of_trainer = trainer.num_training_batches  # infinite next to another loader without an end
        return replace(layout, batches=int(min(batches_of_trainer, sys.maxsize)), content=content)

    def _content(self, images: Batched) -> str:
        """Identifies a training set with little reading; cached, because every checkpoint needs it."""
        if not isinstance(images, (TransformedDataset, MixedDataset)):
            return ""
        parts = images.parts if isinstance(images, MixedDataset) else (images,)
        sets = [part.images for part in parts]
        if self._identity is None or [*map(id, sets)] != [*map(id, self._identity[0])]:
            known = [_identity(one) for one in sets]
            self._identity = sets, known[0] if len(known) == 1 else digest_json(known)
        return self._identity[1]


def _runs(trainer: Trainer) -> bool:
    return trainer.state.status == TrainerStatus.RUNNING


def _fits(trainer: Trainer) -> bool:
    return _runs(trainer) and trainer.state.fn == TrainerFn.FITTING


def _free_on_gpu(trainer: Trainer) -> int:
    """Returns the free bytes of the GPU that the Trainer runs on; 0 where it has none."""
    device = trainer.strategy.root_device
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _worth_bytes(trainer: Trainer) -> bool:
    """Returns whether images are transferred to another device, so that bytes save time."""
    return trainer.strategy.root_device.type != "cpu"


def _identity(images: ImageSet) -> str:
    if isinstance(images, FolderImages):
        return images.fingerprint()
    sampled = torch.linspace(0, len(images) - 1, min(len(images), _SAMPLED)).long()
    pixels = images.pixels[sampled] if isinstance(images, TensorImages) else torch.zeros(0)
    names = [images.name(index) for index in sampled.tolist()]
    return digest_json([digest_tensors({"labels": images.labels, "pixels": pixels}), names])
