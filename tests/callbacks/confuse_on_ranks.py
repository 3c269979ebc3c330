"""Counts confusions on some ranks, by itself or in Lightning's launcher: ``confuse_on_ranks.py WORLD FOLDER``."""

import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from tlprune import ConfusionMonitor
from tlprune.callbacks.logger_adapters import adapt_loggers


class Told(LightningModule):
    """Its images are its logits."""

    def forward(self, images):
        return images

    def validation_step(self, batch, batch_idx):
        pass


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    world, folder = int(sys.argv[1]), sys.argv[2]
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(60, 5, generator=generator), torch.randint(0, 5, (60,), generator=generator)
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        logger=TensorBoardLogger(folder, name="", version=f"ranks{world}"),
        callbacks=[ConfusionMonitor()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(Told(), DataLoader(TensorDataset(logits, labels), batch_size=10), verbose=False)
    Path(folder, f"loggers{trainer.global_rank}of{world}").write_text(str(len(adapt_loggers(trainer))))
