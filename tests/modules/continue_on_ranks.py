"""Run by each rank: trains from weights at a rate of 0, and prints a digest of the weights before and after."""

import sys
import warnings

import torch
from lightning.pytorch import Trainer

from tlprune import LitClassifier, PrunedSourceDataModule
from tlprune.data.datasets import TensorImages
from tlprune.models.weights import load_classifier
from tlprune.storage.fingerprint import digest_tensors

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    images = TensorImages(torch.zeros(32, 3, 32, 32, dtype=torch.uint8), torch.arange(32) % 4, ["a", "b", "c", "d"])
    module = LitClassifier(weights=sys.argv[1], optimizer=lambda parameters: torch.optim.SGD(parameters, 0.0))
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_steps=2,
        limit_val_batches=0,
        enable_model_summary=False,
        **silent,
    )
    trainer.fit(module, datamodule=PrunedSourceDataModule(images, augment="none", batch_size=8, val_share=0.0))
    network, _ = load_classifier(sys.argv[1])
    expected, found = (digest_tensors(dict(one.named_parameters())) for one in (network, module))
    print(f"\ndigests {expected} {found}", flush=True)
