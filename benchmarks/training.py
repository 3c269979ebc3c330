"""How benchmarks pretrain on part of the built-in source and transfer, without a sweep's files."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import SGD, Adam

from tlprune.callbacks.export_backbone import ExportBackbone
from tlprune.data.target_splits import TargetSplits
from tlprune.data.transforms import Augment, TwoViews
from tlprune.datamodules.downstream import DownstreamDataModule
from tlprune.experiments.results import Score
from tlprune.modules.classifier import LitClassifier
from tlprune.modules.optim import WarmupCosineLR
from tlprune.modules.ssl import LitSSL
from tlprune.modules.transfer import TransferModule

__all__ = ["Pretraining", "Transfer", "pretrain", "transfer"]


@dataclass(frozen=True)
class Pretraining:
    """How a source model is trained.

    Args:
        backbone: Name of the network.
        epochs: Passes over what is kept.
        lr: Peak learning rate of SGD with momentum 0.9, Nesterov's where labels are learned.
        weight_decay: Of SGD.
        warmup_epochs: Epochs in which the rate rises; then it falls along a cosine.
        steps: Optimiser steps in place of ``epochs``, for runs of equal length whatever is kept.
        method: ``supervised``, or ``simclr`` without labels.
        augment: What training images are seen as; two views where no labels are learned.
        batch_size: Images in a batch.
    """

    backbone: str
    epochs: int
    lr: float = 0.2
    weight_decay: float = 5e-4
    warmup_epochs: float = 1.0
    steps: int | None = None
    method: Literal["supervised", "simclr"] = "supervised"
    augment: Augment | TwoViews = "shift"
    batch_size: int = 128


@dataclass(frozen=True)
class Transfer:
    """How a backbone is fitted to the target, with Adam and a cosine schedule.

    Args:
        mode: ``probe`` or ``finetune``.
        epochs: Passes over the target's training images.
        lr: First learning rate.
        batch_size: Images in a batch.
        check_every: Epochs between two looks at the validation images.
    """

    mode: Literal["probe", "finetune"]
    epochs: int
    lr: float
    batch_size: int = 50
    check_every: int = 5


def _trainer(callbacks: list[Callback], **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **options,
    )


def pretrain(data: LightningDataModule, recipe: Pretraining, seed: int, path: Path) -> tuple[float, float | None]:
    """Trains a network on what a DataModule gives, and writes its backbone, with its head if it has one.

    Args:
        data: Set up already, so that its time is not counted here.
        recipe: How to train.
        seed: Decides first weights, order and augmentation.
        path: The safetensors file to write.

    Returns:
        Seconds of training, and accuracy on held-out source images in percent; None where no labels are learned
        or no source images are held out.
    """
    seed_everything(seed, verbose=False)
    supervised = recipe.method == "supervised"
    sgd = partial(SGD, lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=supervised)
    schedule = partial(WarmupCosineLR, warmup_epochs=recipe.warmup_epochs)
    module: LightningModule
    if supervised:
        module = LitClassifier(recipe.backbone, optimizer=sgd, lr_scheduler=schedule)
    else:
        module = LitSSL(
            recipe.backbone, temperature=0.2, hidden_dim=128, output_dim=64, optimizer=sgd, lr_scheduler=schedule
        )
    length = {"max_epochs": recipe.epochs} if recipe.steps is None else {"max_epochs": -1, "max_steps": recipe.steps}
    trainer = _trainer(
        [ExportBackbone(str(path))],
        enable_checkpointing=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        **length,
    )
    begin = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - begin
    if not supervised:
        return seconds, None
    checker = _trainer([], enable_checkpointing=False)
    scores = checker.validate(module, datamodule=data, verbose=False)
    return seconds, 100 * scores[0]["val/accuracy"] if scores else None


def transfer(weights: Path, target: TargetSplits, recipe: Transfer, seed: int) -> Score:
    """Fits a pretrained backbone to the target; validation chooses the epoch, the test set is looked at once.

    Args:
        weights: What :func:`pretrain` wrote.
        target: The downstream set, with a test part.
        recipe: How to train.
        seed: Decides the head's first weights and the order.
    """
    seed_everything(seed, verbose=False)
    augment: Literal["none", "shift"] = "none" if recipe.mode == "probe" else "shift"
    data = DownstreamDataModule(target, augment=augment, batch_size=recipe.batch_size)
    module = TransferModule(
        weights=str(weights), mode=recipe.mode, optimizer=partial(Adam, lr=recipe.lr), lr_scheduler=WarmupCosineLR
    )
    begin = time.perf_counter()
    with TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, "best", monitor="val/accuracy", mode="max", save_weights_only=True)
        trainer = _trainer(
            [best],
            max_epochs=recipe.epochs,
            check_val_every_n_epoch=recipe.check_every,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, datamodule=data)
        scores = trainer.test(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)[0]
        chosen = best.best_model_score
    if chosen is None:
        raise RuntimeError("no validation took place")
    return Score(100 * float(chosen), 100 * scores["test/accuracy"], time.perf_counter() - begin)
