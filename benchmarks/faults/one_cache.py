"""Several processes select at once on one cache: what they share is computed once, and all get the same.

    python benchmarks/faults/one_cache.py --output one_cache.json

Two and four processes by turns, each trial with a new cache; they begin at random moments within a tenth of a second.
By turns they select for one target and for two, so that they share the Selection, or features and clusters alone. Each
is forked from a process that has imported everything, so that they are as near to each other in time as can be.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import torch

from tlprune import FeatureMapping, PrunedSourceDataModule
from tlprune.data.datasets import TensorImages
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.models.weights import save_classifier
from tlprune.selection import features, kmeans
from tlprune.selection.selection import Selection

SIZE = 32


def images(count: int, seed: int) -> TensorImages:
    """Random pixels of three classes."""
    pixels = torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed))
    return TensorImages(pixels.to(torch.uint8), torch.arange(count) % 3, ["ant", "bee", "cat"])


def write_folder(root: Path, part: TensorImages) -> None:
    """A class folder of PNG."""
    from torchvision.utils import save_image

    for index in range(len(part)):
        pixels, label = part[index]
        path = root / part.classes[label] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(pixels / 255, path)


def count_work(folder: Path) -> None:
    """Has every computation of features and of clusters leave a file."""
    compute, fit = features.SourceFeatures._compute, kmeans.fit_clusters

    def counted(self: features.SourceFeatures, numbers: list[int]) -> None:
        if numbers:
            (folder / f"features-{os.getpid()}").touch()
        compute(self, numbers)

    def clustered(found: features.SourceFeatures, num_clusters: int, seed: int) -> kmeans.Clusters:
        (folder / f"clusters-{os.getpid()}").touch()
        return fit(found, num_clusters, seed)

    features.SourceFeatures._compute = counted  # type: ignore[method-assign]
    kmeans.fit_clusters = clustered


def select(folder: Path, inputs: Path, target: str, number: int, wait: float) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    count_work(folder)
    time.sleep(wait)
    data = PrunedSourceDataModule(
        str(inputs / "source"),
        str(inputs / target),
        FeatureMapping(num_clusters=9),
        str(inputs / "surrogate.safetensors"),
        prune_ratio=0.5,
        image_size=SIZE,
        cache=str(folder / "cache"),
    )
    data.setup()
    data.selection.save(folder / f"{number}.safetensors")


def main() -> None:
    """Runs the trials and prints how each ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    moments, rows, inputs = random.Random(0), [], Path(tempfile.mkdtemp())  # noqa: S311 - no secret
    write_folder(inputs / "source", images(300, 0))
    for number, name in enumerate(("pets", "birds"), 1):
        write_folder(inputs / name / "train", images(90, number))
    classifier = Classifier(create_backbone("resnet8_w8"), 3)
    path = inputs / "surrogate.safetensors"
    save_classifier(path, "resnet8_w8", classifier.backbone, classifier.head, ["ant", "bee", "cat"])
    wanted: dict[str, str] = {}
    for trial in range(given.trials):
        folder, processes, targets = Path(tempfile.mkdtemp()), (2, 4)[trial % 2], (1, 2)[trial // 2 % 2]
        names = [("pets", "birds")[number % targets] for number in range(processes)]
        started = [
            get_context("fork").Process(target=select, args=(folder, inputs, name, number, moments.uniform(0, 0.1)))
            for number, name in enumerate(names)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(120)
        row = {
            "processes": processes,
            "targets": targets,
            "ended": [one.exitcode for one in started] == [0] * processes,
        }
        for stage in ("features", "clusters"):
            row[f"{stage} computed"] = len(list(folder.glob(f"{stage}-*")))
        digests = [Selection.load(folder / f"{number}.safetensors").digest for number in range(processes)]
        row["alike"] = all(
            digest == wanted.setdefault(name, digest) for name, digest in zip(names, digests, strict=True)
        )
        rows.append(row)
        print(row, flush=True)
        shutil.rmtree(folder)
    shutil.rmtree(inputs)
    good = sum(
        row["ended"] and row["alike"] and row["features computed"] == row["clusters computed"] == 1 for row in rows
    )
    print(f"{good} of {len(rows)} trials: computed once, read alike")
    if given.output:
        given.output.write_text(json.dumps({"trials": len(rows), "good": good, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
