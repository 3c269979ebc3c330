import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from tlprune import ExportBackbone, LitClassifier, PrunedSourceDataModule, TransferModule
from tlprune.errors import InputError
from tlprune.models.weights import load_classifier


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

    with pytest.raises(InputError, match="needs a module with a `backbone` of tlprune, got Plain"):
        trainer(ExportBackbone("m.safetensors")).fit(Plain(), datamodule=PrunedSourceDataModule(coloured(3, 20)))
