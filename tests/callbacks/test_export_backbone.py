import re
from pathlib import Path

import pytest
import torch
import torchvision.models
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tlprune import DownstreamDataModule, ExportBackbone, LitClassifier, PrunedSourceDataModule, TransferModule
from tlprune.errors import InputError
from tlprune.models.weights import load_backbone, load_classifier, read_weights


def trainer(*callbacks):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", devices=1, max_epochs=1, callbacks=list(callbacks), **quiet)


def test_file_holds_the_trained_model_and_its_classes(coloured, tmp_path):
    path = tmp_path / "deep" / "model.safetensors"
    module = LitClassifier("resnet8_w8")
    trainer(ExportBackbone(str(path))).fit(module, datamodule=PrunedSourceDataModule(coloured(3, 20), batch_size=8))
    classifier, saved = load_classifier(path)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(classifier.eval()(images), module.eval()(images))
    assert saved.classes == ("colour00", "colour01", "colour02")
    assert TransferModule(weights=str(path)).hparams["backbone"] == "resnet8_w8"


def test_other_endings_and_modules_are_refused_before_training(coloured):
    with pytest.raises(InputError, match="must end in .safetensors, got model.pt"):
        ExportBackbone("model.pt")

    class Plain(LightningModule):
        def training_step(self, batch, batch_idx):
            raise AssertionError("trained")

        def configure_optimizers(self):
            return None

        def validation_step(self, batch, batch_idx):
            raise AssertionError("validated")

    with pytest.raises(InputError, match="needs a module with a network called `backbone`, got Plain"):
        trainer(ExportBackbone("m.safetensors")).fit(Plain(), datamodule=PrunedSourceDataModule(coloured(3, 20)))


class Own(LightningModule):
    """A user's module: a plain network, and a head of its own."""

    def __init__(self, backbone, width):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(width, 3)

    def training_step(self, batch, batch_idx):
        return cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def validation_step(self, batch, batch_idx):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def plain(name):
    """A network of torchvision, of timm, or of the user's, that gives features; and their width."""
    if name == "torchvision":
        network = torchvision.models.resnet18()
        network.fc = nn.Identity()
        return network, 512
    if name == "timm":
        timm = pytest.importorskip("timm")
        return timm.create_model("resnet10t", num_classes=0), 512
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4


@pytest.mark.parametrize(
    ("name", "recognised"), [("torchvision", "resnet18"), ("timm", "timm:resnet10t"), ("own", None)]
)
def test_any_network_called_backbone_is_written_and_read(name, recognised, coloured, tmp_path):
    path = tmp_path / "own.safetensors"
    module = Own(*plain(name))
    trainer(ExportBackbone(str(path))).fit(module, datamodule=PrunedSourceDataModule(coloured(3, 8), batch_size=8))
    saved = read_weights(path)
    assert saved.backbone == recognised
    assert saved.num_classes == 3
    images = torch.randn(2, 3, 32, 32)
    expected = module.eval().backbone(images)
    if recognised is not None:
        for given in (None, recognised):
            found = TransferModule(backbone=given, weights=str(path), num_classes=3)
            torch.testing.assert_close(found.eval().backbone(images), expected)
        torch.testing.assert_close(load_backbone(path).eval()(images), expected)
    else:
        with pytest.raises(InputError, match="TransferModule needs `backbone`"):
            TransferModule(weights=str(path))
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    snippet = next(one for one in re.findall(r"```python\n(.*?)```", page, re.S) if "load_exported" in one)
    exec(snippet, documented := {})
    network, _ = plain(name)
    documented["load_exported"](network, str(path))
    torch.testing.assert_close(network.eval()(images), expected)


def test_one_of_our_backbones_in_a_users_module_is_recognised(coloured, tmp_path):
    from tlprune.models.backbones import create_backbone

    path = tmp_path / "own.safetensors"
    network = create_backbone("resnet8_w8")
    trainer(ExportBackbone(str(path))).fit(Own(network, 32), datamodule=PrunedSourceDataModule(coloured(3, 8)))
    assert read_weights(path).backbone == "resnet8_w8"


class OwnData(LightningDataModule):
    """A user's DataModule, which says nothing of sizes."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.rand(8, 3, 24, 24), torch.arange(8) % 2), batch_size=4)

    val_dataloader = train_dataloader


@pytest.mark.parametrize("image_size", [24, 48])
def test_files_and_checkpoints_record_the_size_of_images(coloured, tmp_path, image_size):
    data = PrunedSourceDataModule(coloured(3, 20), image_size=16, eval_size=image_size, batch_size=8)
    fitting = trainer(ExportBackbone(str(tmp_path / "m.safetensors")))
    fitting.fit(LitClassifier("resnet8_w8"), datamodule=data)
    fitting.save_checkpoint(tmp_path / "m.ckpt")
    assert read_weights(tmp_path / "m.safetensors").preprocessing.image_size == image_size
    assert read_weights(tmp_path / "m.ckpt").preprocessing.image_size == image_size


def test_weights_of_other_data_modules_record_the_size_of_their_batches(tmp_path):
    fitting = trainer(ExportBackbone(str(tmp_path / "m.safetensors")))
    fitting.fit(LitClassifier("resnet8_w8", num_classes=2), datamodule=OwnData())
    assert read_weights(tmp_path / "m.safetensors").preprocessing.image_size == 24


def test_a_transfer_shows_weights_images_of_the_size_they_were_trained_with(coloured, tmp_path, class_folder):
    fitting = trainer(ExportBackbone(str(tmp_path / "m.safetensors")))
    fitting.fit(LitClassifier("resnet8_w8"), datamodule=PrunedSourceDataModule(coloured(3, 20), batch_size=8))
    for part in ("train", "val"):
        class_folder(f"target/{part}", {"cat": 6, "dog": 6})
    data = DownstreamDataModule(str(tmp_path / "target"))
    assert data.eval_image_size == 224  # of folders, where weights say nothing
    trainer().fit(TransferModule(mode="finetune", weights=str(tmp_path / "m.safetensors")), datamodule=data)
    assert data.eval_image_size == 32
