"""Run by itself and by Lightning's launcher: trains on a pruned folder and prints what was kept."""

import sys
import warnings

from lightning.pytorch import Trainer, seed_everything

from tlprune import LitClassifier, PrunedSourceDataModule

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    world, source, target, surrogate, cache = sys.argv[1:]
    seed_everything(0, verbose=False)
    data = PrunedSourceDataModule(
        source, target, surrogate=surrogate, prune_ratio=0.5, image_size=32, batch_size=int(world) + 1, cache=cache
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=int(world),
        strategy="ddp" if int(world) > 1 else "auto",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LitClassifier("resnet8_w8"), datamodule=data)
    print(f"rank {trainer.global_rank}: {data.selection.digest} {data.classes}", flush=True)
