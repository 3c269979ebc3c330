"""What Feature Mapping is worth when nothing has labels: SimCLR on parts of the built-in source.

    python benchmarks/ssl_pruning.py --output benchmarks/results/ssl_pruning.json

For each seed: surrogates without labels, then a source model (``resnet8_w16``, SimCLR, 12 epochs) on each part of the
source, each as large as two fifths of it unless named otherwise, judged by nearest neighbours and by a linear probe on
digits and on photographs. Cells run side by side, one thread each.
"""

import argparse
import json
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from training import Pretraining, Transfer, pretrain, transfer

from tlprune.data.datasets import TensorImages
from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_classes, synthetic_source
from tlprune.data.target_splits import open_target
from tlprune.datamodules.pruned_source import PrunedSourceDataModule
from tlprune.experiments.fitting import quiet
from tlprune.experiments.neighbours import Neighbours
from tlprune.experiments.statistics import estimate, paired_difference
from tlprune.selection.baselines import RandomSelector, ReverseSelector
from tlprune.selection.feature_mapping import FeatureMapping
from tlprune.selection.selector import Selector
from tlprune.storage.cache import cache_root

TARGETS = ("digits", "photos")
SHARE = 0.4
FULL = "the whole source"
RANDOM = "random images"


@dataclass(frozen=True)
class Part:
    """A part of the source that is trained on.

    Args:
        name: For people.
        targets: Whom it is made for and judged on.
        selector: Who chooses; None takes ``families``.
        families: Families of drawn classes that are taken by hand; empty for all.
        surrogate: Which surrogate is looked through.
        share: Share of the source's images that is kept.
        equal_steps: Whether it trains as many steps as the whole source.
    """

    name: str
    targets: tuple[str, ...]
    selector: Selector | None = None
    families: tuple[str, ...] = ()
    surrogate: str = "short"
    share: float = SHARE
    equal_steps: bool = False


def parts(seed: int) -> list[Part]:
    """All parts of a seed, the largest first."""

    def mapping(clusters: int, center: bool) -> FeatureMapping:
        return FeatureMapping(num_clusters=clusters, center=center)

    found = [
        Part(FULL, TARGETS, share=1.0),
        Part(f"{RANDOM}, equal steps", TARGETS, RandomSelector(seed, "sample"), equal_steps=True),
        Part("textures and shapes, by hand", TARGETS, families=("texture", "shape")),
        Part("glyphs, by hand", TARGETS, families=("glyph",)),
        Part(RANDOM, TARGETS, RandomSelector(seed, "sample")),
        Part(f"{RANDOM}, a fifth", TARGETS, RandomSelector(seed, "sample"), share=0.2),
    ]
    for target in TARGETS:
        own = (target,)
        found += [
            Part("FM", own, mapping(100, False)),
            Part("FM reversed", own, ReverseSelector(mapping(100, False))),
            Part("FM, centred", own, mapping(100, True)),
            Part("FM, centred, K = 30", own, mapping(30, True)),
            Part("FM, centred, K = 300", own, mapping(300, True)),
            Part("FM, centred, surrogate trained twice as long", own, mapping(100, True), surrogate="long"),
            Part("FM, centred, equal steps", own, mapping(100, True), equal_steps=True),
            Part("FM, centred, a fifth", own, mapping(100, True), share=0.2),
            Part("FM, colourless", own, mapping(100, False), surrogate="colourless"),
            Part("FM, centred, colourless", own, mapping(100, True), surrogate="colourless"),
            Part("FM, centred, colourless, a fifth", own, mapping(100, True), surrogate="colourless", share=0.2),
        ]
    return found


def images() -> TensorImages:
    """The built-in source."""
    return TensorImages.from_images(scan_class_folder(synthetic_source(cache_root(None))))


def data(source: TensorImages, **options: Any) -> PrunedSourceDataModule:
    """The source in two views."""
    return PrunedSourceDataModule(source, batch_size=256, val_share=0.0, **{"augment": "simclr_small", **options})


def recipe(backbone: str, epochs: int, steps: int | None = None) -> Pretraining:
    """As in ``tlprune demo --method fm``."""
    return Pretraining(backbone, epochs, weight_decay=1e-4, method="simclr", batch_size=256, steps=steps)


def train_surrogates(seed: int, folder: Path, wanted: set[str]) -> None:
    """Surrogates without labels: of six epochs, of twelve, and of six on views whose colours tell nothing."""
    torch.set_num_threads(1)
    with quiet():
        plan = (("short", 6, "simclr_small"), ("long", 12, "simclr_small"), ("colourless", 6, "simclr_colour"))
        for name, epochs, augment in (one for one in plan if one[0] in wanted):
            whole = data(images(), augment=augment)
            whole.setup()
            pretrain(whole, recipe("resnet8_w8", epochs), 1000 + seed, folder / f"{name}-{seed}.safetensors")


def run(part: Part, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Trains on a part and judges on its targets."""
    torch.set_num_threads(1)
    source = images()
    with quiet():
        pruned = data(source) if part.selector is None else _pruned(part, seed, source, folder)
        if part.families:
            pruned = data(source.subset(_of_families(source, part.families)))
        pruned.setup()
        steps = 12 * (len(source) // 256) if part.equal_steps else None
        weights = folder / f"{'-'.join((*part.name.split(), *part.targets, str(seed)))}.safetensors"
        seconds, _ = pretrain(pruned, recipe("resnet8_w16", 12, steps), seed, weights)
        rows = []
        for name in part.targets:
            target = open_target(name, 0)
            scores = {"knn": Neighbours().score(weights, target).test}
            scores["probe"] = transfer(weights, target, Transfer("probe", 50, 0.03), seed).test
            row = {"part": part.name, "target": name, "seed": seed, "images": pruned.images_kept, "seconds": seconds}
            rows.append(row | scores | {"families": _shares(pruned)})
    return rows


def _pruned(part: Part, seed: int, source: TensorImages, folder: Path) -> PrunedSourceDataModule:
    return data(
        source,
        target=part.targets[0],
        selector=part.selector,
        surrogate=str(folder / f"{part.surrogate}-{seed}.safetensors"),
        keep_images=round(part.share * len(source)),
        cache=str(folder / f"cache-{part.surrogate}-{seed}"),
    )


def _of_families(source: TensorImages, families: tuple[str, ...]) -> Tensor:
    family = {drawn.name: drawn.family for drawn in synthetic_classes()}
    wanted = torch.tensor([family[name] in families for name in source.classes])
    return wanted[source.labels].nonzero().squeeze(1)


def _shares(pruned: PrunedSourceDataModule) -> dict[str, float]:
    family = {drawn.name: drawn.family for drawn in synthetic_classes()}
    kept = pruned._sets["train"].images
    found = [family[kept.classes[label]] for label in kept.labels.tolist()]
    return {name: round(found.count(name) / len(found), 3) for name in sorted(set(family.values()))}


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with intervals, and differences from random images and from the whole source."""
    found = []
    for target in TARGETS:
        of_target = [row for row in rows if row["target"] == target]
        for name in dict.fromkeys(row["part"] for row in of_target):
            line: dict[str, Any] = {"target": target, "part": name}
            mine = sorted((row for row in of_target if row["part"] == name), key=lambda row: row["seed"])
            line["images"] = round(sum(row["images"] for row in mine) / len(mine))
            for mode in ("knn", "probe"):
                scores = [row[mode] for row in mine]
                found_here = estimate(scores)
                line[mode] = {"mean": found_here.mean, "half_width_95": found_here.half_width, "seeds": len(scores)}
                fifth = name.endswith("fifth")
                for other in (f"{RANDOM}, a fifth" if fifth else RANDOM, FULL):
                    seeds = {row["seed"] for row in mine}
                    same = (row for row in of_target if row["part"] == other and row["seed"] in seeds)
                    theirs = sorted(same, key=lambda row: row["seed"])
                    gap = paired_difference(scores, [row[mode] for row in theirs])
                    line[mode][f"minus {other}"] = [gap.mean, gap.low, gap.high]
            found.append(line)
    return found


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="parts with this in their names; others keep the output's runs")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if given.only:
        before = json.loads(given.output.read_text())["runs"]
        rows = [row for row in before if given.only not in row["part"]]
    with (
        TemporaryDirectory() as scratch,
        ProcessPoolExecutor(given.workers, get_context("spawn")) as pool,
    ):
        folder, seeds = Path(scratch), range(given.seeds)
        images()
        wanted = {part.surrogate for part in parts(0) if given.only in part.name}
        list(pool.map(train_surrogates, seeds, [folder] * given.seeds, [wanted] * given.seeds))
        for seed in seeds:
            planned = [part for part in parts(seed) if given.only in part.name]
            for found in pool.map(run, planned, [seed] * len(planned), [folder] * len(planned)):
                rows += found
                for row in found:
                    said = f"{row['images']:>6} images {row['seconds']:5.0f} s"
                    said += f"  knn {row['knn']:.1f}  probe {row['probe']:.1f}"
                    print(f"seed {seed} {row['target']:<7}{row['part']:<46}{said}  {row['families']}", flush=True)
            machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
            result = {"machine": machine, "seeds": given.seeds, "table": table(rows), "runs": rows}
            # one seed has no interval
            given.output.write_text(json.dumps(result, indent=1).replace("NaN", "null") + "\n")


if __name__ == "__main__":
    main()
