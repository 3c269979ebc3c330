"""Run by each rank: selects from somebody's Datasets and trains on their DataModule, and prints what it got."""

import json
import random
import sys
import warnings

import torch
from lightning.pytorch import Trainer, seed_everything

from other_modules import EuroSatLike, NonGeoLike, Task
from tlprune import FeatureMapping, PrunedDataModule, RandomSelector, select
from tlprune.models.backbones import Classifier, create_backbone


class Flipped(EuroSatLike):
    """Augments inside."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return {**sample, "image": sample["image"].flip(2)} if random.random() < 0.5 else sample


class Listed(EuroSatLike):
    """Lists its labels, so ranks share the reading of pixels."""

    reads = 0

    @property
    def targets(self):
        return self.labels_of_files

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


class Noting(Task):
    def on_train_epoch_end(self):
        loader = self.trainer.train_dataloader
        self.samplers = [type(loader.sampler).__name__, len(loader.dataset), len(loader)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    world, cache = int(sys.argv[1]), sys.argv[2]
    seed_everything(0, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        max_epochs=2,
        reload_dataloaders_every_n_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.setup_environment()
    torch.manual_seed(1)
    network = Classifier(create_backbone("resnet8_w8"), 4)
    listed = Listed(30)
    options = {"surrogate": network, "image_size": 32, "cache": cache, "device": "cpu"}
    made = {}
    for name, source in (("changing", Flipped()), ("listed", listed), ("read", EuroSatLike())):
        made[name] = select(source, EuroSatLike(2), selector=FeatureMapping(num_clusters=3), **options).digest
        if name == "listed":
            made["reads"] = listed.reads
    selection = select(EuroSatLike(), selector=RandomSelector(seed=1), **options)
    task = Noting()
    trainer.fit(task, datamodule=PrunedDataModule(NonGeoLike(), selection, keep_units=2))
    made |= {"samplers": task.samplers, "given": task.given, "validated": task.validated}
    print(json.dumps(made), flush=True)
