"""A network of timm, trained by a LightningModule on a LightningDataModule."""

import argparse

import lightning as L
import timm
import torch
from timm.data import create_dataset, create_transform, resolve_data_config
from torch import nn
from torch.utils.data import DataLoader

import tlprune


class ImageData(L.LightningDataModule):
    def __init__(self, root, config, batch_size=64, workers=8):
        super().__init__()
        self.save_hyperparameters(ignore="config")
        self.train_transform = create_transform(**config, is_training=True)
        self.val_transform = create_transform(**config)

    def setup(self, stage):
        root = self.hparams.root
        self.train_set = create_dataset("", root=root, split="train", transform=self.train_transform)
        self.val_set = create_dataset("", root=root, split="validation", transform=self.val_transform)

    @property
    def num_classes(self):
        return len(self.train_set.reader.class_to_idx)

    def loader(self, dataset, **options):
        return DataLoader(dataset, batch_size=self.hparams.batch_size, num_workers=self.hparams.workers, **options)

    def train_dataloader(self):
        return self.loader(self.train_set, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return self.loader(self.val_set)


class TimmClassifier(L.LightningModule):
    def __init__(self, name, num_classes, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.model = timm.create_model(name, num_classes=num_classes)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def forward(self, images):
        return self.model(images)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = self.criterion(self(images), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        correct = self(images).argmax(dim=1) == labels
        self.log("val/accuracy", correct.float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data/catalogue")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--output", default="timm.ckpt")
    args = parser.parse_args()
    L.seed_everything(1)

    config = resolve_data_config({"img_size": args.img_size}, model=timm.create_model(args.model))
    data = ImageData(args.data, config, args.batch_size, args.workers)
    data = tlprune.PrunedDataModule(data, "defects.safetensors", prune_ratio=0.5)
    data.setup("fit")
    module = TimmClassifier(args.model, data.num_classes)
    trainer = L.Trainer(max_epochs=args.epochs)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(args.output)


if __name__ == "__main__":
    main()
