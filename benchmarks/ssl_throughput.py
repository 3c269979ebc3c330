"""Images per second of LitSSL and of our two views, next to lightly's, interleaved.

    git clone https://github.com/lightly-ai/lightly
    python benchmarks/ssl_throughput.py --lightly lightly/benchmarks/imagenet/resnet50 --output ssl_throughput.json

Training steps: lightly's own benchmark modules for ImageNet and ours get the same batches of two views, made
beforehand, and train the same ResNet-50 with the same optimiser for some steps, by turns, several times. lightly's
modules train a linear classifier on the side, which ours do not: it is a matrix product on detached features.

Views: images of 32 pixels in memory, and JPEG files of 500 x 375 to views of 224 pixels, from the file to the batch, in
one process.
"""

import argparse
import importlib
import json
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch
import pytorch_lightning
import torch
from PIL import Image
from torch import Tensor
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset

from tlprune.data.datasets import TensorImages
from tlprune.data.scanning import scan_folder
from tlprune.data.transformed import TransformedDataset
from tlprune.data.two_views import RECIPES, ContrastView
from tlprune.modules.ssl import LitSSL

BATCH, SIZE, CLASSES, SKIPPED = 32, 64, 10, 2


class Batches(Dataset[Any]):
    """So many batches of two views of noise."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = [torch.randn(2, BATCH, 3, SIZE, SIZE, generator=generator) for _ in range(count)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor, list[str]]:
        return [*self.batches[index]], torch.arange(BATCH) % CLASSES, [""] * BATCH


def train(library: Any, module: Any, steps: int) -> float:
    """Seconds of a training step under Lightning's Trainer, of the package that the module was written for."""
    ends: list[float] = []

    class Clock(library.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ends.append(time.perf_counter())

    trainer = library.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=20,  # lightly's schedule warms up for ten
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[Clock()],
    )
    trainer.fit(module, DataLoader(Batches(steps), batch_size=None))
    return median(after - before for before, after in pairwise(ends[SKIPPED:]))


def modules(folder: Path, method: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Makers of our module and of lightly's."""
    sys.path.insert(0, str(folder))
    theirs: Any = importlib.import_module("simclr" if method == "simclr" else "mocov2")

    def of_lightly() -> Any:
        if method == "simclr":
            return theirs.SimCLR(BATCH, CLASSES, 20, 0.1)
        return theirs.MoCoV2(BATCH, CLASSES)

    def of_tlprune() -> Any:
        if method == "simclr":
            from lightly.utils.lars import LARS

            return LitSSL("resnet50", temperature=0.1, optimizer=lambda p: LARS(p, 0.4, 0.9, weight_decay=1e-6))
        return LitSSL("resnet50", "moco", optimizer=lambda p: SGD(p, 0.004, 0.9, weight_decay=1e-4), decay_all=False)

    return of_tlprune, of_lightly


def views_small() -> tuple[Callable[[], int], Callable[[], int]]:
    """Two views of 32-pixel images in memory, as SimCLR's authors make them on CIFAR-10: ours and lightly's."""
    from lightly.transforms import SimCLRTransform

    pixels = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    viewed = TransformedDataset(
        TensorImages(pixels, torch.zeros(512, dtype=torch.int64), ["a"]), _view("simclr_small", 32)
    )
    opened = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    theirs = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    return _made(viewed, 512), lambda: _counted(theirs(image) for image in opened)


def views_large(folder: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    """Two views of 224 pixels of JPEG files, as SimCLR's authors make them on ImageNet: ours and lightly's."""
    from lightly.transforms import SimCLRTransform

    generator = torch.Generator().manual_seed(0)
    for number in range(48):
        coarse = torch.rand(1, 3, 24, 32, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, (375, 500), mode="bicubic")[0]
        noisy = (fine * 255 + 8 * torch.randn(fine.shape, generator=generator)).clamp(0, 255).byte()
        Image.fromarray(noisy.permute(1, 2, 0).numpy()).save(folder / f"{number:03}.jpg", quality=92)
    files = sorted(folder.iterdir())
    viewed = TransformedDataset(scan_folder(folder), _view("simclr", 224))
    theirs = SimCLRTransform(input_size=224)
    return _made(viewed, 16), lambda: _counted(theirs(Image.open(file).convert("RGB")) for file in files)


def _view(recipe: str, size: int) -> ContrastView:
    return ContrastView(size, RECIPES[recipe])


def _made(viewed: TransformedDataset, batch: int) -> Callable[[], int]:
    def make() -> int:
        for start in range(0, len(viewed), batch):
            viewed.__getitems__(list(range(start, min(start + batch, len(viewed)))))
        return len(viewed)

    return make


def _counted(views: Iterator[list[Tensor]]) -> int:
    """Makes a batch of the views, as a DataLoader does."""
    made = list(views)
    torch.stack([pair[0] for pair in made])
    torch.stack([pair[1] for pair in made])
    return len(made)


def rate(make: Callable[[], int]) -> float:
    """Images per second."""
    begin = time.perf_counter()
    return make() / (time.perf_counter() - begin)


def interleaved(name: str, ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> dict[str, Any]:
    """Both by turns; images per second of each, and the ratio of each pair."""
    found = [(ours(), theirs()) for _ in range(pairs)]
    ratios = sorted(mine / other for mine, other in found)
    row = {
        "name": name,
        "ours": median(mine for mine, _ in found),
        "lightly": median(other for _, other in found),
        "ratio": median(ratios),
        "ratios": ratios,
        "bar": 0.95,
        "pass": median(ratios) >= 0.95,
    }
    print(
        f"{name:<32} {row['ours']:8.1f} {row['lightly']:8.1f} images/s  ratio {row['ratio']:.2f} "
        f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]  {'pass' if row['pass'] else 'short'}",
        flush=True,
    )
    return row


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lightly", type=Path, required=True, help="its benchmarks/imagenet/resnet50")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=7)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for method in ("simclr", "moco"):
        ours, theirs = modules(given.lightly, method)
        rows.append(
            interleaved(
                f"training step, {method}",
                lambda ours=ours: BATCH / train(lightning.pytorch, ours(), given.steps),
                lambda theirs=theirs: BATCH / train(pytorch_lightning, theirs(), given.steps),
                given.pairs,
            )
        )
    mine, other = views_small()
    rows.append(interleaved("views, 32 pixels in memory", lambda: rate(mine), lambda: rate(other), given.pairs))
    with tempfile.TemporaryDirectory() as folder:
        mine, other = views_large(Path(folder))
        rows.append(interleaved("views, JPEG to 224 pixels", lambda: rate(mine), lambda: rate(other), given.pairs))
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    result = {"machine": machine | {"torch": torch.__version__}, "batch": BATCH, "size": SIZE, "rows": rows}
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
