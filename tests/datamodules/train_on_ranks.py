"""Trains on one rank or two, going on from what FOLDER holds: ``train_on_ranks.py FOLDER WORKERS RESULT``."""

import os
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from tlprune import AtomicCheckpointIO, LitClassifier, MixupCutMix, PrunedSourceDataModule, RandomSelector
from tlprune.data.datasets import TensorImages
from tlprune.storage.checkpoints import newest_whole, save_torch


def main() -> None:
    ranks = int(os.environ["WORLD_SIZE"])
    folder, workers, result = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.filterwarnings("ignore")
    seed_everything(0, verbose=False)
    pixels = torch.randint(0, 256, (80, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = PrunedSourceDataModule(
        TensorImages(pixels, torch.arange(80) % 8, [str(label) for label in range(8)]),
        selector=RandomSelector(1),
        keep_units=6,
        augment="trivialaugment",
        batch_size=10 // ranks,
        num_workers=workers,
        val_share=0,
    )
    module = LitClassifier("resnet8_w8", optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05, 0.9))
    save = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        devices=ranks,
        max_epochs=4,
        limit_val_batches=0,
        logger=False,
        callbacks=[save, MixupCutMix()],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    resume = newest_whole(folder) if folder.is_dir() else None
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    if trainer.is_global_zero:
        save_torch({"state_dict": module.state_dict(), "steps": trainer.global_step}, result)


if __name__ == "__main__":
    main()
