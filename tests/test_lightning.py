"""What works with Lightning: it says so to pytorch_lightning, and it can be sent to other processes."""

import pickle

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

import tlprune
from tlprune.data.datasets import TensorImages
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import save_classifier
from tlprune.modules.optim import DefaultOptimizer

KINDS = (LightningModule, LightningDataModule, Callback)
PUBLIC = [
    name
    for name in tlprune.__all__
    if isinstance(getattr(tlprune, name), type) and issubclass(getattr(tlprune, name), KINDS)
]
SETTINGS = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": 1}
SETTINGS |= {"enable_progress_bar": False, "enable_model_summary": False}


def built(name, tmp_path):
    """With defaults, small where the default is large."""
    kind = getattr(tlprune, name)
    if name in ("CountForgetting", "ExportBackbone"):
        return kind(str(tmp_path / "x.safetensors"))
    if name == "ProgressiveResize":
        return kind(16)
    if name == "PrunedDataModule":
        images = TensorImages(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), ["a", "b"])
        selection = tlprune.select(images, selector=tlprune.RandomSelector())
        return kind(tlprune.PrunedSourceDataModule(images), selection, keep_units=1)
    if issubclass(kind, LightningModule):
        return kind("resnet8_w8")
    return kind()


def test_all_that_works_with_lightning_is_tested_here():
    assert {"LitClassifier", "LitSSL", "TransferModule", "PrunedSourceDataModule", "KNNProbe"} <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.filterwarnings("ignore")
def test_pytorch_lightning_is_told_what_to_import(name, tmp_path):
    other = pytest.importorskip("pytorch_lightning")

    class Theirs(other.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    ours, loader = built(name, tmp_path), DataLoader([(torch.zeros(3), 0)])
    message = f"{name} works with `lightning.pytorch`.*write `from lightning.pytorch import Trainer`"
    with pytest.raises(TypeError, match=message):
        if isinstance(ours, LightningModule):
            other.Trainer(**SETTINGS).fit(ours, loader)
        elif isinstance(ours, LightningDataModule):
            other.Trainer(**SETTINGS).fit(Theirs(), datamodule=ours)
        else:
            other.Trainer(**SETTINGS, callbacks=[ours]).fit(Theirs(), loader)


@pytest.mark.parametrize("name", PUBLIC)
def test_it_can_be_sent_to_another_process(name, tmp_path):
    ours = built(name, tmp_path)
    again = pickle.loads(pickle.dumps(ours))  # noqa: S301 - ours
    assert type(again) is type(ours)
    assert isinstance(again, type(ours).__mro__[1])
    if isinstance(ours, LightningModule):
        parameters = [torch.nn.Parameter(torch.zeros(2))]
        assert isinstance(ours.optimizer, DefaultOptimizer)
        assert again.optimizer(parameters).defaults == ours.optimizer(parameters).defaults


def test_an_inherited_default_can_be_sent_and_ones_own_optimiser_stays():
    class Sub(tlprune.LitClassifier):
        pass

    assert Sub("resnet8_w8").optimizer == DefaultOptimizer(tlprune.LitClassifier)
    own = torch.optim.SGD
    assert tlprune.LitClassifier("resnet8_w8", optimizer=own).optimizer is own


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ddp_spawn_trains_in_two_processes(coloured, tmp_path):
    weights = tmp_path / "w.safetensors"
    save_classifier(weights, "resnet8_w8", create_backbone("resnet8_w8"), None)
    module = tlprune.TransferModule(weights=str(weights), num_classes=3)
    before = module.head.weight.clone()
    options = SETTINGS | {"strategy": "ddp_spawn", "devices": 2}
    Trainer(**options).fit(module, datamodule=tlprune.PrunedSourceDataModule(coloured(3, 20), batch_size=8))
    assert not torch.equal(module.head.weight, before)
