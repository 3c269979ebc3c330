"""A sweep's cells: training a small network against a bare loop, starting a run, and the linear probe."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import chdir
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from lightning.pytorch import Trainer, seed_everything
from measuring import Row, interleaved, ratios
from surrogates import train_surrogate
from torch import Tensor, nn
from torch.optim import SGD, Adam
from training import Transfer, transfer

from tlprune import LitClassifier, PrunedSourceDataModule
from tlprune.data.datasets import TensorImages
from tlprune.data.target_splits import open_target
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform, random_shift
from tlprune.experiments.fitting import quiet
from tlprune.experiments.frozen_transfers import Labelled
from tlprune.experiments.linear_probe import PENALTIES, LinearProbe
from tlprune.lightning_cli import run
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.selection.features import extract_features

ROOT = Path(__file__).parents[2]
IMAGES, BATCH, SIZE, CLASSES, EPOCHS = 3000, 128, 32, 30, 4
sgd = partial(SGD, lr=0.2, momentum=0.9, weight_decay=5e-4, nesterov=True)


def drawn() -> TensorImages:
    """Noise, since only time counts."""
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    return TensorImages(pixels.to(torch.uint8), torch.arange(IMAGES) % CLASSES, [str(one) for one in range(CLASSES)])


def bare(source: TensorImages) -> None:
    """The same steps on the same augmentation, by hand."""
    seed_everything(0, verbose=False)
    network = Classifier(create_backbone("resnet8_w16"), CLASSES)
    optimizer = sgd(network.parameters())
    mean, std = (255 * torch.tensor(one)[:, None, None] for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for _ in range(EPOCHS):
        for rows in torch.randperm(IMAGES).split(BATCH)[: IMAGES // BATCH]:
            images = (random_shift(source.pixels[rows], SIZE // 8).float() - mean) / std
            loss = F.cross_entropy(network(images), source.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def ours(source: TensorImages) -> None:
    """As a sweep's cell trains: our DataModule, our module, Lightning's Trainer."""
    seed_everything(0, verbose=False)
    data = PrunedSourceDataModule(source, augment="shift", batch_size=BATCH, val_share=0)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(LitClassifier("resnet8_w16", optimizer=sgd), datamodule=data)


def starts(rounds: int) -> list[float]:
    """Seconds of ``fit`` for one step in a process that has run it before: parser, configs, data, Trainer."""
    options = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_steps=1"]
    options += ["--trainer.limit_val_batches=0", "--trainer.enable_model_summary=false"]
    taken = []
    with TemporaryDirectory() as folder, chdir(folder), quiet():
        for seed in range(rounds + 1):
            begin = time.process_time()
            config = str(ROOT / "configs/source/drawn_sweep.yaml")
            run(["fit", "--config", config, f"--seed_everything={seed}", *options], save_config=False)
            taken.append(time.process_time() - begin)
    return taken[1:]


def adam(train: Labelled, val: Labelled, test: Labelled, steps: int = 3000) -> float:
    """Test accuracy of the same regressions by Adam on all images at once, until nothing changes."""
    mean, deviation = train.features.double().mean(0), train.features.double().std(0, correction=0)
    seen, on_val, on_test = (
        (one.features.double() - mean) / deviation.where(deviation > 0, torch.ones(())) for one in (train, val, test)
    )
    best, found = -1.0, 0.0
    for penalty in PENALTIES:
        weight = torch.zeros(int(train.labels.max()) + 1, seen.shape[1], dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(len(weight), dtype=torch.float64, requires_grad=True)
        optimizer = Adam([weight, bias], lr=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

        def right(features: Tensor, labels: Tensor, weight: Tensor = weight, bias: Tensor = bias) -> float:
            return float(((features @ weight.T + bias).argmax(1) == labels).double().mean())

        for _ in range(steps):
            loss = F.cross_entropy(seen @ weight.T + bias, train.labels)
            loss = loss + weight.square().sum() / (2 * penalty * len(seen))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if (accuracy := right(on_val, val.labels)) > best:
            best, found = accuracy, right(on_test, test.labels)
    return found


def probes() -> Iterator[Row]:
    """L-BFGS against Adam on the features of a trained network, for both built-in targets."""
    with TemporaryDirectory() as folder:
        backbone = train_surrogate(folder, "resnet8_w16", epochs=4)[0].backbone
        yield from probes_on(backbone, Path(folder) / "surrogate.safetensors")


def probes_on(backbone: nn.Module, weights: Path) -> Iterator[Row]:
    """The same on a network that is there."""
    for name in ("digits", "photos"):
        target = open_target(name)
        parts = [
            Labelled(extract_features(backbone, TransformedDataset(part, EvalTransform(SIZE))), part.labels)
            for part in (target.train, target.val, target.test)
            if part is not None
        ]
        begin = time.process_time()
        _, accuracy = LinearProbe().classify(*parts)
        middle = time.process_time()
        transfer(weights, target, Transfer("probe", 60, 0.03), 0)
        end = time.process_time()
        converged = adam(*parts)
        path = f"linear probe, {name}"
        facts = {"accuracy": 100 * accuracy, "by Adam": 100 * converged, "seconds": middle - begin}
        away = 100 * abs(accuracy - converged)
        yield Row(path, "points of accuracy from converged Adam", 0.1, [away], least=False, facts=facts)
        yield Row(
            path, "times 60 epochs of Adam under the Trainer", 10, [(end - middle) / (middle - begin)], facts=facts
        )


def measure(rounds: int) -> list[Row]:
    """ResNet-8 of 16 channels at 32 pixels, four epochs of 23 batches; one thread, seconds of this process."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    source = drawn()
    ways = {"bare": lambda: bare(source), "ours": lambda: ours(source)}
    taken = interleaved(ways, rounds, clock=time.process_time)
    rows = [
        Row("a sweep's cell, ResNet-8 at 32 px", "of a bare loop", 0.9, ratios(taken["bare"], taken["ours"])),
        Row("a sweep's cell, start in a warm process", "seconds", 1.0, starts(rounds), least=False),
        *probes(),
    ]
    torch.set_num_threads(threads)
    return rows
