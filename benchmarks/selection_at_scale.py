"""Selection at the scale of ImageNet, without images: seconds and peak memory of each step, and how they grow.

    python benchmarks/selection_at_scale.py --output benchmarks/results/selection_at_scale.json

Draws features of 100 thousand and of 1.28 million samples in 1000 classes (512 numbers each), has 50 thousand target
features vote, and runs each step in a process of its own, so that its peak memory is its own. Steps that read features
from disk are timed three times at the smaller size, and the median counts.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 1000
FEATURES = 512
VOTERS = 50_000
SIZES = (100_000, 1_280_000)
CLUSTERS = (1000, 2000)


class DrawnFeatures:
    """Samples whose pixels are their features: a class centre and noise, the same for the same index."""

    classes = tuple(f"class {label}" for label in range(CLASSES))
    transform_config = {"view": "none", "image_size": 1}

    def __init__(self, count: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.centres = torch.randn(CLASSES, FEATURES, generator=generator)
        generator.manual_seed(seed + 1)
        self.noise = torch.randn(4099, FEATURES, generator=generator)  # a prime: pairs of class and noise do not repeat
        self.labels = torch.arange(count) * CLASSES // count
        self.drawn = f"drawn {count} {seed}"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self.labels[index])
        return (self.centres[label] + self.noise[index % len(self.noise)])[:, None, None], label

    def name(self, index: int) -> str:
        return f"sample {index}"

    def fingerprint(self) -> str:
        return self.drawn


def voters() -> Tensor:
    """Features of a target that resembles a fifth of the classes."""
    drawn = DrawnFeatures(VOTERS, seed=1)
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, CLASSES // 5, (VOTERS,), generator=generator)
    return drawn.centres[labels] + drawn.noise[torch.arange(VOTERS) % len(drawn.noise)]


def run_step(step: str, images: int, clusters: int, folder: Path) -> dict[str, Any]:
    """Runs one step in this process."""
    from tlprune.selection.centroids import class_means, nearest, summed_distances
    from tlprune.selection.features import SourceFeatures
    from tlprune.selection.kmeans import cached_clusters, fit_clusters
    from tlprune.selection.ranking import kept_samples
    from tlprune.selection.selection import Selection

    source = DrawnFeatures(images)
    features = SourceFeatures(nn.Flatten(), source, folder)
    ones = torch.ones(VOTERS, dtype=torch.float64)

    def vote() -> tuple[Tensor, Tensor]:
        return nearest(target, found.centroids), summed_distances(target, found.centroids, ones)

    def round_trip() -> None:
        path = folder / f"{images}.safetensors"
        selection.save(path)
        Selection.load(path).keep(ratio=0.5)

    work: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "features": features.extract,
        "k-means and assignment": lambda: fit_clusters(features, clusters, 0),
        "class means": lambda: class_means(features, source.labels, CLASSES),
        "vote": vote,
        "membership": lambda: kept_samples(source.labels, torch.arange(0, CLASSES, 2), CLASSES),
        "save, load, keep": round_trip,
    }
    if step == "vote":
        found, target = cached_clusters(features, clusters, 0, folder), voters()
    if step == "save, load, keep":
        none = torch.zeros(CLASSES)
        selection = Selection("drawn", source.classes, torch.arange(CLASSES), none, none, source.labels, torch.empty(0))
    repeats = 1 if step in ("features", "nothing") or (images > SIZES[0] and step.startswith("k-means")) else 3
    before = peak_mib()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work[step]()
        taken.append(time.perf_counter() - begin)
    return {"seconds": median(taken), "repeats": repeats, "peak_mib": peak_mib(), "peak_mib_before": before}


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path) -> list[dict[str, Any]]:
    """Every step at every size, each in a process of its own."""
    plan = [("nothing", 0)]
    plan += [("features", 0), ("class means", 0), ("membership", 0), ("save, load, keep", 0)]
    plan += [(step, clusters) for clusters in CLUSTERS for step in ("k-means and assignment", "vote")]
    rows = []
    for images in SIZES:
        for step, clusters in plan:
            arguments = ["--step", step, "--images", str(images), "--clusters", str(clusters), "--folder", str(folder)]
            done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
            row = {"step": step, "clusters": clusters, "images": images, **json.loads(done.stdout.splitlines()[-1])}
            rows.append(row)
            print(
                f"{images:>9,} {clusters or '':>5} {step:<24} {row['seconds']:9.3f} s  {row['peak_mib']:7.0f} MiB",
                flush=True,
            )
    return rows


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time at the larger size over time at the smaller, over the ratio of the sizes: 1 is linear, less is better."""
    found = []
    for row in rows:
        if row["images"] == SIZES[1] and row["step"] != "nothing":
            [small] = [
                r for r in rows if (r["step"], r["clusters"], r["images"]) == (row["step"], row["clusters"], SIZES[0])
            ]
            ratio = row["seconds"] / small["seconds"] / (SIZES[1] / SIZES[0])
            more = row["peak_mib"] - small["peak_mib"]
            found.append({"step": row["step"], "clusters": row["clusters"], "time_over_size": ratio, "more_mib": more})
            print(
                f"{row['clusters'] or '':>5} {row['step']:<24} time ratio / size ratio {ratio:5.2f}, {more:+6.0f} MiB"
            )
    return found


def main() -> None:
    """Runs one step, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--step")
    parser.add_argument("--images", type=int)
    parser.add_argument("--clusters", type=int)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(run_step(given.step, given.images, given.clusters, given.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    found = growth(rows)
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    result = {"machine": machine | {"torch": torch.__version__}, "voters": VOTERS, "steps": rows, "growth": found}
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
