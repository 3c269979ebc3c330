"""How cost grows from 10 to 100 thousand images, and whether memory does: each stage in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from measuring import Row
from torch import Tensor, nn

from tlprune.selection.centroids import class_means, nearest
from tlprune.selection.features import SourceFeatures
from tlprune.selection.kmeans import POINTS_PER_CENTROID, fit_clusters
from tlprune.selection.ranking import kept_samples
from tlprune.selection.selection import Selection
from tlprune.selection.votes import cast_votes

SMALL, LARGE, WIDTH, CLASSES = 10_000, 100_000, 512, 100
FLAT = (CLASSES * POINTS_PER_CENTROID, 4 * CLASSES * POINTS_PER_CENTROID)
"""Images above which clustering sees a sample of one size, and four times as many."""

LINEAR = ("voting", "assignment", "membership")


class Drawn:
    """Samples whose pixels are their features, made when they are asked for."""

    transform_config = {"view": "none", "image_size": 1}

    def __init__(self, count: int) -> None:
        self.noise = torch.randn(4099, WIDTH, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(count) * CLASSES // count

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self.labels[index])
        return (self.noise[index % 4099] + self.noise[label])[:, None, None], label

    def name(self, index: int) -> str:
        return f"sample {index}"

    def fingerprint(self) -> str:
        return f"drawn {len(self)}"


def held(name: str) -> int:
    """Memory of this process in kB: now, or the most there was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def run_stage(stage: str, count: int, folder: Path) -> dict[str, float]:
    """Seconds (the median of three), and MB above what the process held before."""
    source = Drawn(count)
    features = SourceFeatures(nn.Flatten(), source, folder)
    torch.manual_seed(0)
    surrogate = nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, CLASSES))
    none = torch.zeros(CLASSES)
    if stage == "assignment":
        points = torch.cat([source.noise.repeat(count // 4099 + 1, 1)])[:count]
    names = [str(label) for label in range(CLASSES)]
    selection = Selection("drawn", names, torch.arange(CLASSES), none, none, source.labels, torch.empty(0))
    work: dict[str, Callable[[], object]] = {
        "voting": lambda: cast_votes(surrogate, source, CLASSES),
        "assignment": lambda: nearest(points, source.noise[:1000]),
        "membership": lambda: [kept_samples(source.labels, torch.arange(0, CLASSES, 2), CLASSES) for _ in range(100)],
        "features": features.extract,
        "k-means and assignment": lambda: fit_clusters(features, CLASSES, 0),
        "class means": lambda: class_means(features, source.labels, CLASSES),
        "write, read and keep": lambda: (selection.save(folder / "s"), Selection.load(folder / "s").keep(ratio=0.5)),
    }
    if stage not in ("features", "assignment"):
        work[stage]()
    Path("/proc/self/clear_refs").write_text("5")  # forget the most that was held so far
    before, taken = held("VmRSS"), []
    for _ in range(1 if stage == "features" else 3):
        begin = time.perf_counter()
        work[stage]()
        taken.append(time.perf_counter() - begin)
    return {"seconds": median(taken), "mb": (held("VmHWM") - before) / 1000}


def measure(rounds: int) -> list[Row]:
    """Each stage at both sizes by turns, ``rounds`` times, and memory where the sample that is clustered is full."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def ask(stage: str, count: int, folder: str) -> dict[str, float]:
        arguments = [sys.executable, __file__, stage, str(count), folder]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=env)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found

    rows = []
    stages = ["voting", "assignment", "membership", "features", "k-means and assignment", "class means"]
    for stage in [*stages, "write, read and keep"]:
        grown, facts = [], {}
        for _ in range(rounds if stage in LINEAR else 1):
            with TemporaryDirectory() as folder:
                small, large = (ask(stage, count, folder) for count in (SMALL, LARGE))
            grown.append(large["seconds"] / small["seconds"] / (LARGE / SMALL))
            facts = {"seconds at 10k and 100k": [small["seconds"], large["seconds"]], "mb": [small["mb"], large["mb"]]}
        bar = 1.1 if stage in LINEAR else None
        rows.append(Row(f"cost growth, {stage}", "time ratio over size ratio", bar, grown, False, facts))
    for stage in ("features", "k-means and assignment", "class means"):
        with TemporaryDirectory() as folder:
            few, many = (ask(stage, count, folder)["mb"] for count in FLAT)
        facts = {"images": FLAT, "mb": [few, many], "mb of features on disk": [2e-6 * WIDTH * one for one in FLAT]}
        # 16 bytes an image: its label, its unit and their counts; the rest is noise of the allocator
        allowed = 16e-6 * (FLAT[1] - FLAT[0]) + 8
        rows.append(
            Row(f"selection memory, {stage}", "MB more for 4 x the images", allowed, [many - few], False, facts)
        )
    return rows


if __name__ == "__main__":
    print(json.dumps(run_stage(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
