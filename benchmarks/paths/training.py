"""Training under Lightning's Trainer with our modules: against a bare loop over the same network and loader."""

import logging
import warnings

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from lightning.pytorch import Trainer, seed_everything
from measuring import Row, interleaved, ratios
from torch.optim import SGD

from tlprune import LitClassifier, PrunedSourceDataModule
from tlprune.data.datasets import TensorImages
from tlprune.models.backbones import Classifier, create_backbone

IMAGES, BATCH, SIZE, CLASSES = 1536, 64, 32, 10


def measure(rounds: int) -> list[Row]:
    """ResNet-18 on images of 32 pixels in memory; an epoch of 24 batches, figures logged as our modules do."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    source = TensorImages(pixels.to(torch.uint8), torch.arange(IMAGES) % CLASSES, [str(one) for one in range(CLASSES)])

    def data() -> PrunedSourceDataModule:
        seed_everything(0, verbose=False)
        module = PrunedSourceDataModule(source, augment="crop_flip", batch_size=BATCH, val_share=0)
        module.setup()
        return module

    def bare() -> None:
        loader = data().train_dataloader()
        network = Classifier(create_backbone("resnet18"), CLASSES)
        optimizer = SGD(network.parameters(), 0.01, 0.9)
        for images, labels in loader:
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def ours() -> None:
        module = LitClassifier("resnet18", CLASSES, optimizer=lambda parameters: SGD(parameters, 0.01, 0.9))
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=data())

    taken = interleaved({"bare": bare, "ours": ours}, rounds)
    return [Row("Trainer, RN-18 at 32 px", "of a bare loop", 0.95, ratios(taken["bare"], taken["ours"]))]
