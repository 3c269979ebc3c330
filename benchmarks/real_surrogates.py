"""How cheap a surrogate may be, on real images: what it keeps, beside what it costs.

    python benchmarks/real_surrogates.py --source /data/tinyimagenet --targets /data/superclasses/* /data/targets/*

Each surrogate votes for every target by Label Mapping. Its row has the share of classes that it keeps at 50, 80 and
90 % pruned which full surrogates (configs/source/real_surrogate.yaml) of other seeds keep too, and the same as a share
of what two full surrogates have in common. Cost is (S + L) / T: segments of each training alternate with segments of
the source model's (configs/source/real_large.yaml), and count the processor's seconds.
"""

import argparse
import json
import logging
import time
import warnings
from dataclasses import asdict, dataclass
from itertools import combinations, product
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning import Trainer
from measuring import machine, versions
from real_cost import Clock
from torch.nn.functional import interpolate
from training import Pretraining, pretrain

from tlprune import LabelMapping, LitClassifier, PrunedSourceDataModule, select
from tlprune.data.datasets import TensorImages
from tlprune.data.scanning import scan_class_folder
from tlprune.selection.ranking import Budget

OUTPUT = Path(__file__).parent / "results" / "real_surrogates.json"
RATIOS = (0.5, 0.8, 0.9)
LARGE, LARGE_EPOCHS = "resnet8_w32", 12


@dataclass(frozen=True)
class Recipe:
    """How a surrogate is trained.

    Args:
        backbone: Name of the network.
        epochs: Passes over its images.
        share: Share of the images of each class.
        size: Height and width in pixels.
    """

    backbone: str
    epochs: int
    share: float = 1.0
    size: int = 32

    @property
    def name(self) -> str:
        """Words for a table."""
        share = "" if self.share == 1 else f", {self.share:.0%} of the images"
        return f"{self.backbone}, {self.epochs} epochs, {self.size} px{share}".replace(" 1 epochs", " 1 epoch")


FULL = Recipe("resnet8_w16", 8)
RECIPES = (
    FULL,
    Recipe("resnet8_w16", 2),
    Recipe("resnet8_w16", 1),
    Recipe("resnet8_w8", 4),
    Recipe("resnet8_w8", 2),
    Recipe("resnet8_w8", 1),
    Recipe("resnet8_w8", 2, 0.5),
    Recipe("resnet8_w8", 1, 0.5),
    Recipe("resnet8_w4", 4),
    Recipe("resnet8_w4", 2),
    Recipe("resnet8_w16", 4, size=16),
    Recipe("resnet8_w16", 2, size=16),
    Recipe("resnet8_w8", 4, size=16),
)


def source_of(whole: TensorImages, recipe: Recipe) -> PrunedSourceDataModule:
    """The images that a recipe trains on, shrunk once."""
    images = whole
    if recipe.share < 1:
        members = [(whole.labels == label).nonzero().squeeze(1) for label in range(len(whole.classes))]
        images = whole.subset(torch.cat([each[: round(recipe.share * len(each))] for each in members]))
    if recipe.size != images.pixels.shape[-1]:
        size = (recipe.size, recipe.size)
        small = [
            interpolate(block, size, mode="bilinear", antialias=True).round().to(torch.uint8)
            for block in images.pixels.float().split(1000)
        ]
        images = TensorImages(torch.cat(small), images.labels, images.classes)
    data = PrunedSourceDataModule(images, image_size=recipe.size, augment="shift", val_share=0, batch_size=128)
    data.setup()
    return data


def votes(weights: Path, whole: TensorImages, target: str, size: int) -> tuple[list[set[int]], float]:
    """Classes kept at each ratio, and seconds of the selection."""
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = select(whole, target, surrogate=weights, selector=LabelMapping(), image_size=size, fresh=True)
    taken = time.process_time() - begin
    return [set(found.units_kept(Budget(ratio=ratio)).tolist()) for ratio in RATIOS], taken


def milliseconds(whole: TensorImages, rounds: int, steps: int) -> dict[str, float]:
    """The processor's milliseconds of a step of each network, by turns."""
    kinds = sorted({(one.backbone, one.size) for one in RECIPES} | {(LARGE, 32)})
    sources = {size: source_of(whole, Recipe(LARGE, 1, size=size)) for _, size in kinds}
    found: dict[str, list[float]] = {f"{backbone}, {size} px": [] for backbone, size in kinds}
    for _ in range(rounds):
        for backbone, size in kinds:
            clock = Clock(clock=time.process_time)
            quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
            quiet |= {"enable_model_summary": False, "accelerator": "cpu"}
            trainer = Trainer(max_steps=steps, limit_val_batches=0, num_sanity_val_steps=0, callbacks=[clock], **quiet)
            trainer.fit(LitClassifier(backbone, num_classes=len(whole.classes)), datamodule=sources[size])
            found[f"{backbone}, {size} px"].append(1000 * clock.each)
    return {name: median(each) for name, each in found.items()}


def agreement(one: list[set[int]], other: list[set[int]]) -> list[float]:
    """Share of the classes of one that the other keeps too, for each ratio."""
    return [len(a & b) / len(a) for a, b in zip(one, other, strict=True)]


def measure(source: str, targets: list[str], seeds: int, rounds: int, steps: int, folder: Path) -> dict[str, Any]:
    """All rows."""
    whole = TensorImages.from_images(scan_class_folder(Path(source)))
    each = milliseconds(whole, rounds, steps)
    print(json.dumps(each), flush=True)
    per_epoch = len(whole) / 128
    training = LARGE_EPOCHS * per_epoch * each[f"{LARGE}, 32 px"]
    kept: dict[tuple[Recipe, int], list[list[set[int]]]] = {}
    rows, selecting = [], []
    for recipe in RECIPES:
        data = source_of(whole, recipe)
        for seed in range(seeds):
            path = folder / f"{recipe.backbone}-{recipe.epochs}-{recipe.share}-{recipe.size}-{seed}.safetensors"
            if not path.is_file():
                warmup = min(1, recipe.epochs / 4)
                pretrain(data, Pretraining(recipe.backbone, recipe.epochs, warmup_epochs=warmup), 1000 + seed, path)
            found = [votes(path, whole, target, recipe.size) for target in targets]
            kept[recipe, seed] = [classes for classes, _ in found]
            selecting += [taken for _, taken in found]
        pairs = (
            combinations(range(seeds), 2)
            if recipe == FULL
            else ((a, b) for a, b in product(range(seeds), repeat=2) if a != b)
        )
        alike = [
            agreement(mine, theirs)
            for a, b in pairs
            for mine, theirs in zip(kept[recipe, a], kept[FULL, b], strict=True)
        ]
        common = [mean(column) for column in zip(*alike, strict=True)]
        steps_run = recipe.epochs * recipe.share * per_epoch
        seconds = steps_run * each[f"{recipe.backbone}, {recipe.size} px"] / 1000
        rows.append({"name": recipe.name, **asdict(recipe), "S": seconds, "alike": common})
        rows[-1]["of another full seed's"] = [a / b for a, b in zip(common, rows[0]["alike"], strict=True)]
        print(json.dumps(rows[-1]), flush=True)
    selection = median(selecting)
    for row in rows:
        row["(S + L) / T"] = (row["S"] + selection) * 1000 / training
    return {
        "ratios": RATIOS,
        "targets": len(targets),
        "seeds": seeds,
        "seconds": {"L": selection, "T": training / 1000},
        "milliseconds_a_step": each,
        "rows": rows,
        "machine": machine(),
        "versions": versions(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="/data/tinyimagenet")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="where surrogates are kept, for a run that goes on")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    with TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        result = measure(given.source, given.targets, given.seeds, given.rounds, given.steps, folder)
    given.output.write_text(json.dumps(result, indent=1) + "\n")
