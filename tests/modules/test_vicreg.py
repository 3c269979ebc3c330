"""VICReg as a method of LitSSL."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from forked import run_ranks
from tlprune import (
    ExportBackbone,
    FeatureMapping,
    NearestImages,
    PrunedSourceDataModule,
    prune,
    select,
)
from tlprune.errors import InputError
from tlprune.models.weights import load_backbone, read_weights
from tlprune.modules.optim import WarmupCosineLR
from tlprune.modules.ssl import LitSSL

SMALL = {"backbone": "resnet8_w8", "method": "vicreg", "hidden_dim": 32, "output_dim": 32}


def slow_vicreg(first, second):
    """Bardes et al., 2022, equations 1 to 6, image by image and dimension by dimension."""
    count, width = first.shape
    invariance = sum(((a - b) ** 2).sum() for a, b in zip(first, second, strict=True)) / (count * width)
    variance = covariance = 0.0
    for views in (first, second):
        means = [sum(views[:, j]) / count for j in range(width)]

        def together(j, k, views=views, means=means):
            products = [(views[i, j] - means[j]) * (views[i, k] - means[k]) for i in range(count)]
            return sum(products) / (count - 1)

        variance += sum(max(0.0, 1 - (together(j, j) + 1e-4) ** 0.5) for j in range(width)) / width
        covariance += sum(together(j, k) ** 2 for j in range(width) for k in range(width) if j != k) / width
    # the authors' code takes the mean of the two variance terms where the paper writes their sum
    return 25 * invariance + 25 * variance / 2 + covariance


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_equals_a_slow_reference(seed):
    draw = np.random.default_rng(seed)
    first, second = draw.normal(size=(2, 6, 5)) * draw.uniform(0.3, 1.5, 5)
    loss = LitSSL(**SMALL).vicreg(torch.tensor(first), torch.tensor(second))
    assert float(loss) == pytest.approx(slow_vicreg(first, second), rel=1e-12)


def test_each_view_is_normalised_by_itself_and_the_loss_is_of_projections():
    torch.manual_seed(0)
    module = LitSSL(**SMALL).double()
    first, second = torch.randn(2, 6, 3, 16, 16, dtype=torch.float64) * torch.tensor([1.0, 4.0]).view(2, 1, 1, 1, 1)
    projected = [module.projection(module.backbone(view)).detach().numpy() for view in (first, second)]
    # VICReg computes losses in float32
    assert float(module._vicreg(first, second).detach()) == pytest.approx(slow_vicreg(*projected), rel=1e-5)


def test_two_processes_take_the_step_of_one(tmp_path):
    script = Path(__file__).with_name("vicreg_on_ranks.py")
    out = "".join(run_ranks(2, [sys.executable, script], tmp_path))
    both = [json.loads(one) for one in re.findall(r"\{[^{}]*\}", out)]
    names = runpy.run_path(str(script))
    alone = names["loss_and_gradients"](names["Step"](), names["views_of_all"]())
    assert len(both) == 2
    assert sum(one["loss"] for one in both) / 2 == pytest.approx(alone["loss"], rel=1e-5)
    assert max(alone["gradients"]) > 0.1
    for one in both:
        assert one["gradients"] == pytest.approx(alone["gradients"], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("backbone", "width"), [("resnet8_w8", 128), ("resnet18", 2048)])
def test_the_projection_is_four_times_as_wide_as_the_features(backbone, width):
    module = LitSSL(backbone, "vicreg")
    linear = [layer for layer in module.projection.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [width] * 3
    assert (
        LitSSL("resnet8_w8", "simclr").projection(torch.zeros(2, module.backbone.num_features)[:, :32]).shape[1] == 128
    )


@pytest.fixture
def train(coloured, trainer, tmp_path):
    def run(name="run", epochs=2, resume=None, each=16, callbacks=(), **options):
        seed_everything(0, verbose=False)
        data = PrunedSourceDataModule(coloured(4, each), augment="vicreg", batch_size=16, val_share=0.0)
        rate = {"optimizer": lambda parameters: torch.optim.SGD(parameters, 0.02, 0.9), "lr_scheduler": WarmupCosineLR}
        save = ModelCheckpoint(tmp_path / name, "{epoch}", every_n_epochs=1, save_top_k=-1)
        fit = trainer(
            max_epochs=epochs, callbacks=[save, *callbacks], enable_checkpointing=True, limit_val_batches=0, **options
        )
        module = LitSSL(**SMALL, **rate)
        fit.fit(module, datamodule=data, ckpt_path=resume)
        return module, fit

    return run


def weights_of(module):
    return torch.cat([value.detach().flatten().double() for value in module.state_dict().values()])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_two_and_two_epochs_equal_four_bit_for_bit(train, tmp_path):
    whole, _ = train("whole", 4)
    resumed, fit = train("rest", 4, resume=tmp_path / "whole" / "epoch=1.ckpt")
    assert fit.current_epoch == 4
    assert torch.equal(weights_of(resumed), weights_of(whole))


def test_training_moves_the_loss_where_it_asks_for(train):
    """In one small training: the projection of random weights hardly varies over images, and the loss asks for 1."""

    def spread(module, fit):
        (first, _), _ = next(iter(fit.datamodule.train_dataloader()))
        with torch.inference_mode():
            return float(module.train().projection(module(first)).std(dim=0).mean())

    short, long = spread(*train("short", epochs=1)), spread(*train("long", epochs=12))
    assert long > short + 0.05


def test_loss_is_float32_under_bfloat16(train):
    _, fit = train(epochs=1, precision="bf16-mixed")
    assert fit.callback_metrics["train/loss"].dtype == torch.float32
    assert fit.callback_metrics["train/loss"].isfinite()


def test_a_batch_size_of_one_is_refused(coloured, trainer):
    data = PrunedSourceDataModule(coloured(2, 4), augment="simclr_small", batch_size=1, val_share=0.0)
    with pytest.raises(InputError, match="VICReg needs at least 2 images in each batch of a process, got 1"):
        trainer(limit_val_batches=0).fit(LitSSL(**SMALL), datamodule=data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.2}, "`temperature` does not apply to method 'vicreg', got 0.2: its loss has none"),
        ({"hidden_dim": 0}, "`hidden_dim` must be at least 1, got 0"),
        ({"output_dim": -8}, "`output_dim` must be at least 1, got -8"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        LitSSL(**SMALL | options)


@pytest.mark.filterwarnings("ignore:.* units are kept, but only")
@pytest.mark.parametrize("selector", [FeatureMapping(num_clusters=6), NearestImages()], ids=["clusters", "images"])
def test_a_surrogate_by_vicreg_is_exported_and_asks_for_images(train, coloured, tmp_path, selector):
    file = tmp_path / "surrogate.safetensors"
    module, _ = train(epochs=1, callbacks=[ExportBackbone(str(file))])
    assert read_weights(str(file)).backbone == "resnet8_w8"
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(load_backbone(file).eval()(images), module.eval()(images))
    checkpoint = load_backbone(tmp_path / "run" / "epoch=0.ckpt")
    torch.testing.assert_close(checkpoint.eval()(images), module.eval()(images))
    source, target = coloured(6, 8), coloured(2, 8, seed=1)
    selection = select(source, target, selector=selector, surrogate=str(file))
    assert 0 < len(prune(source, selection, ratio=0.5)) < len(source)
