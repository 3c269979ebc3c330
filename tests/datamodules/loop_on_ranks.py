"""Trains in a way of others and notes which images each process saw: ``loop_on_ranks.py HOW RESULTS``."""

import json
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.pytorch import Trainer

from tlprune import LitClassifier, PrunedSourceDataModule
from tlprune.data.datasets import TensorImages

IMAGES, EPOCHS = 40, 2


def numbered() -> PrunedSourceDataModule:
    """Images that say their number in every pixel; each process has another random state, as in a user's script."""
    torch.manual_seed(100 + int(os.environ["RANK"]))
    pixels = torch.arange(IMAGES, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    images = TensorImages(pixels, torch.arange(IMAGES) % 2, ["even", "odd"])
    return PrunedSourceDataModule(images, image_size=8, augment="none", batch_size=5, val_share=0.0)


class Notes(LitClassifier):
    def __init__(self) -> None:
        super().__init__("resnet8_w8", 2, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.01))
        self.seen: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch, batch_idx):
        self.seen[-1] += numbers_in(batch[0])
        return super().training_step(batch, batch_idx)


def numbers_in(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0] * 0.229 + 0.485).mul(255).round().int().tolist()


def trainer() -> Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    silent |= {"enable_model_summary": False, "limit_val_batches": 0}
    return Trainer(accelerator="cpu", devices=int(os.environ["WORLD_SIZE"]), max_epochs=EPOCHS, **silent)


def loader_alone(data: PrunedSourceDataModule) -> list[list[int]]:
    module = Notes()
    data.setup()
    trainer().fit(module, data.train_dataloader())
    return module.seen


def datamodule(data: PrunedSourceDataModule) -> list[list[int]]:
    module = Notes()
    trainer().fit(module, datamodule=data)
    return module.seen


def fabric(data: PrunedSourceDataModule) -> list[list[int]]:
    fabric = Fabric(accelerator="cpu", devices=int(os.environ["WORLD_SIZE"]))
    fabric.launch()
    data.setup()
    loader = fabric.setup_dataloaders(data.train_dataloader())
    return [[one for images, _ in loader for one in numbers_in(images)] for _ in range(EPOCHS)]


def loop(data: PrunedSourceDataModule) -> list[list[int]]:
    dist.init_process_group("gloo")
    data.setup()
    return [[one for images, _ in data.train_dataloader() for one in numbers_in(images)] for _ in range(EPOCHS)]


def resharded(data: PrunedSourceDataModule) -> list[list[int]]:
    """As accelerate does: every process takes each second of the batches that the loader's own sampler gives."""
    dist.init_process_group("gloo")
    data.setup()
    loader = data.train_dataloader()
    rank, world = dist.get_rank(), dist.get_world_size()
    seen = []
    for _ in range(EPOCHS):
        own = [batch for number, batch in enumerate(loader.batch_sampler) if number % world == rank]
        pixels = [loader.collate_fn(loader.dataset.__getitems__(batch))[0] for batch in own]
        seen.append([one for images in pixels for one in numbers_in(images)])
    return seen


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    seen = globals()[sys.argv[1]](numbered())
    Path(sys.argv[2], f"{os.environ['RANK']}.json").write_text(json.dumps(seen))
