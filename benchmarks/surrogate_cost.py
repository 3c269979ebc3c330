"""What selection costs and what it saves, on the built-in source: a curve of surrogates, and the whole pipeline.

    python benchmarks/surrogate_cost.py --output benchmarks/results/surrogate_cost.json --picture surrogate-cost.png

The curve: surrogates trained shorter, on fewer images or on smaller ones. Each orders the classes for both targets;
told are its seconds, how many of the classes that it keeps at p = 0.5 the full-recipe surrogate of the same seed keeps
too, and the probe accuracy of a network pretrained on what it keeps. Anchors: full-recipe surrogates of other seeds,
no pruning, and random classes.

The pipeline: a larger network pretrained on all classes (T) and on what is kept at four ratios; surrogate (S) and
selection (L) are paid. The method's paper has RN-18 for RN-101 on ImageNet.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measuring import machine, versions
from surrogates import drawn
from training import Pretraining, Transfer, pretrain, transfer

from tlprune import PrunedSourceDataModule, RandomSelector, Selection
from tlprune.data.target_splits import open_target
from tlprune.experiments.fitting import quiet

TARGETS = ("digits", "photos")
JUDGED = Pretraining("resnet8_w16", 6)
PROBE = Transfer("probe", 20, 0.01)
LARGE = Pretraining("resnet8_w32", 12)
RATIOS = (0.2, 0.4, 0.6, 0.8)
PAPER = {0.2: 0.15, 0.8: 0.76}


@dataclass(frozen=True)
class Recipe:
    """How a surrogate is trained.

    Args:
        name: For people.
        epochs: Passes.
        share: Of each class's images.
        size: Height and width in pixels.
    """

    name: str
    epochs: int = 12
    share: float = 1.0
    size: int = 32

    @property
    def cost(self) -> float:
        """Pixels seen, as a share of what the full recipe sees."""
        return self.epochs / 12 * self.share * (self.size / 32) ** 2


FULL = Recipe("full recipe: 12 epochs, all images, 32 px")
RECIPES = (
    FULL,
    Recipe("4 epochs", 4),
    Recipe("2 epochs", 2),
    Recipe("1 epoch", 1),
    Recipe("12 epochs, a quarter of the images", 12, 0.25),
    Recipe("4 epochs, a quarter of the images", 4, 0.25),
    Recipe("4 epochs, 16 px", 4, 1.0, 16),
    Recipe("4 epochs, a quarter of the images, 16 px", 4, 0.25, 16),
)
CHEAP = RECIPES[2]


def train(recipe: Recipe, seed: int, folder: Path) -> tuple[Path, float]:
    """Trains a surrogate; its file and its seconds."""
    path = folder / f"{recipe.epochs}-{recipe.share}-{recipe.size}-{seed}.safetensors"
    source = drawn()
    if recipe.share < 1:
        first = [(source.labels == label).nonzero().squeeze(1) for label in range(len(source.classes))]
        source = source.subset(torch.cat([each[: round(recipe.share * len(each))] for each in first]))
    data = PrunedSourceDataModule(source, image_size=recipe.size, augment="shift")
    data.setup()
    seconds, _ = pretrain(data, Pretraining("resnet8_w8", recipe.epochs), seed, path)
    return path, seconds


def pruned(target: str, surrogate: Path | None, ratio: float, seed: int, size: int, cache: str) -> Any:
    """The source pruned for a target, set up, and the seconds that this took."""
    selector = RandomSelector(seed) if surrogate is None else None
    data = PrunedSourceDataModule(
        drawn(),
        target=None if surrogate is None else target,
        selector=selector,
        surrogate=None if surrogate is None else str(surrogate),
        prune_ratio=ratio,
        image_size=32,
        eval_size=size,
        augment="shift",
        cache=cache,
    )
    begin = time.perf_counter()
    data.setup()
    return data, time.perf_counter() - begin


def kept(selection: Selection) -> set[int]:
    """The classes kept at p = 0.5."""
    return set(selection.ranking[: selection.num_units // 2].tolist())


def probe(data: PrunedSourceDataModule, target: str, seed: int, folder: Path) -> float:
    """Test accuracy of a probe of a network that was pretrained on what is kept, in percent."""
    path = folder / "judged.safetensors"
    pretrain(data, JUDGED, seed, path)
    return transfer(path, open_target(target), PROBE, seed).test


def curve(seeds: int, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each surrogate."""
    reference: dict[tuple[str, int], set[int]] = {}
    for recipe in RECIPES:
        seconds, overlaps, accuracies = [], [], {target: [] for target in TARGETS}
        for seed in range(seeds):
            path, taken = train(recipe, seed, folder)
            seconds.append(taken)
            for target in TARGETS:
                data, _ = pruned(target, path, 0.5, seed, recipe.size, str(folder / "cache"))
                chosen = kept(data.selection)
                reference.setdefault((target, seed), chosen)
                overlaps.append(len(chosen & reference[target, seed]) / len(chosen))
                accuracies[target].append(probe(data, target, seed, folder))
        found = {"cost": recipe.cost, "seconds": median(seconds), "overlap": mean(overlaps), "probe": accuracies}
        row = asdict(recipe) | found
        yield row
    others = [
        len(reference[target, a] & reference[target, b]) / len(reference[target, a])
        for target in TARGETS
        for a in range(seeds)
        for b in range(a)
    ]
    yield {"name": "full recipe, another seed", "overlap": mean(others)}
    for name, ratio in (("no pruning", 0.0), ("random half", 0.5)):
        found = {target: [] for target in TARGETS}
        for seed in range(seeds):
            for target in TARGETS:
                data, _ = pruned(target, None, ratio, seed, 32, str(folder / "cache"))
                found[target].append(probe(data, target, seed, folder))
        yield {"name": name, "probe": found, **({"overlap": 0.5} if ratio else {})}


def pipeline(repeats: int, folder: Path) -> dict[str, Any]:
    """S, L and T, and what is saved, for digits; the median of some repeats, by turns."""
    taken: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        taken.setdefault(name, []).append(seconds)

    for repeat in range(repeats):
        for name, recipe in (("S, full recipe", FULL), ("S, short", CHEAP)):
            path, seconds = train(recipe, 100 + repeat, folder)
            note(name, seconds)
        for ratio in (0.0, *RATIOS):
            cache = str(folder / f"cache-{repeat}-{ratio}")
            data, selecting = pruned("digits", path, ratio, repeat, 32, cache)
            note("L", selecting)
            seconds, _ = pretrain(data, LARGE, repeat, folder / "large.safetensors")
            note(f"T at {ratio:g}", seconds)
    middle = {name: median(seconds) for name, seconds in taken.items()}
    full = middle["T at 0"]
    rows = []
    for ratio in RATIOS:
        row = {"p": ratio, "pruned pretraining over T": middle[f"T at {ratio:g}"] / full, "paper": PAPER.get(ratio)}
        for name in ("S, full recipe", "S, short"):
            row[f"saving, {name}"] = 1 - (middle[name] + middle["L"] + middle[f"T at {ratio:g}"]) / full
        row["saving, surrogate at hand"] = 1 - (middle["L"] + middle[f"T at {ratio:g}"]) / full
        rows.append(row)
    overheads = {f"({name} + L) / T": (middle[name] + middle["L"]) / full for name in ("S, full recipe", "S, short")}
    return {"seconds": middle, "all": taken, "overheads": overheads | {"L / T": middle["L"] / full}, "rows": rows}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Overlap and probe accuracy over seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trained = [row for row in rows if "seconds" in row]
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for row, marker in zip(trained, "osDv^P*X", strict=True):
        share = 100 * row["cost"]
        axes[0].plot(share, 100 * row["overlap"], marker, ms=8, label=row["name"])
        points = mean(mean(row["probe"][target]) for target in TARGETS)
        axes[1].plot(share, points, marker, ms=8)
    other = next(row for row in rows if row["name"] == "full recipe, another seed")
    axes[0].axhline(100 * other["overlap"], color="0.5", ls="--", lw=1)
    axes[0].annotate("full recipe, another seed", (3, 100 * other["overlap"]), va="bottom", color="0.35", fontsize=8)
    axes[0].axhline(50, color="0.5", ls=":", lw=1)
    axes[0].annotate("classes drawn by chance", (3, 50), va="bottom", color="0.35", fontsize=8)
    for name, style in (("no pruning", "--"), ("random half", ":")):
        level = mean(mean(next(row for row in rows if row["name"] == name)["probe"][target]) for target in TARGETS)
        axes[1].axhline(level, color="0.5", ls=style, lw=1)
        axes[1].annotate(name, (3, level), va="bottom", color="0.35", fontsize=8)
    axes[0].set_ylabel("classes kept alike at p = 0.5 (%)")
    axes[1].set_ylabel("probe accuracy, mean of digits and photos (%)")
    for axis in axes:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("pixels that the surrogate is trained on (% of the full recipe's)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints both tables and writes files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--picture", type=Path, help="PNG file to write")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("pipeline", "curve"), help="the other stays as --output has it")
    given = parser.parse_args()
    known: dict[str, Any] = {}
    if given.output and given.output.is_file():
        known = json.loads(given.output.read_text())
    models = {"surrogate": "resnet8_w8", "judged": asdict(JUDGED), "large": asdict(LARGE), "probe": asdict(PROBE)}
    known |= {"machine": machine(), "versions": versions("torch"), "models": models}
    with TemporaryDirectory() as folder, quiet():
        if given.only != "curve":
            known["pipeline"] = pipeline(given.repeats, Path(folder)) | {"repeats": given.repeats}
            print(json.dumps(known["pipeline"], indent=1), flush=True)
        if given.only != "pipeline":
            known |= {"seeds": given.seeds, "curve": []}
            for row in curve(given.seeds, Path(folder)):
                known["curve"].append(row)
                print(json.dumps(row), flush=True)
    if given.picture and "curve" in known:
        draw(known["curve"], given.picture)
    if given.output:
        given.output.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
