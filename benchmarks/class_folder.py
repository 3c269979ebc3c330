"""A user's run on a class folder of JPEGs, from listing it to the kept list, timed stage by stage; and listing alone.

    python benchmarks/class_folder.py --output class_folder.json

The folder: the built-in source's hundred classes, a hundred images each, enlarged to JPEG files of 500 x 375 pixels,
the size of ImageNet's. The surrogate sees them at 32 pixels for three epochs; handwritten digits vote. Then listing
alone, of as many empty files as ImageNet has images, by tlprune and by torchvision's ImageFolder, by turns.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from tlprune.cli import main as tlprune
from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_source
from tlprune.selection.selection import Selection
from tlprune.storage.cache import cache_root

SIZE = (500, 375)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def write_jpegs(root: Path) -> None:
    """The built-in source in the size of photographs."""
    drawn = scan_class_folder(synthetic_source(cache_root(None)))
    for path in drawn.paths:
        goal = root / Path(path).with_suffix(".jpg")
        goal.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(drawn.root / path) as image:
            image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(goal, quality=90)


def run_stages(folder: Path, workers: int) -> dict[str, float]:
    """Every command that a user would type, and what selecting itself says of its parts."""
    root, surrogate = folder / "source", folder / "surrogate.safetensors"
    write_jpegs(root)
    stages: dict[str, float] = {}
    stages["list 10,000 files"], images = timed(lambda: scan_class_folder(root))
    stages["digest of the list"], _ = timed(lambda: images.digest)
    data = [f"--data.source={root}", "--data.image_size=32", "--data.augment=shift", f"--data.num_workers={workers}"]
    fit = ["fit", "--model=LitClassifier", "--model.backbone=resnet8_w16", "--model.optimizer=torch.optim.SGD"]
    fit += ["--model.optimizer.lr=0.2", "--model.optimizer.momentum=0.9", "--model.lr_scheduler=WarmupCosineLR"]
    fit += ["--data=PrunedSourceDataModule", *data, "--data.in_memory=false", "--trainer.max_epochs=3"]
    fit += ["--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"]
    fit += ["--trainer.callbacks=ExportBackbone", f"--trainer.callbacks.path={surrogate}"]
    stages["surrogate, 3 epochs at 32 pixels"], _ = timed(lambda: tlprune(fit))
    for name, more in (("LabelMapping", []), ("FeatureMapping", ["--selector.num_clusters=100"])):
        output = folder / f"{name}.safetensors"
        select = ["select", "--source", str(root), "--target", "digits", "--surrogate", str(surrogate)]
        select += ["--image_size", "32", "--selector", name, *more, "--output", str(output)]
        stages[f"tlprune select, {name}"], status = timed(lambda select=select: tlprune(select))
        if status:
            raise SystemExit(f"tlprune {' '.join(select)}: exit status {status}")
        for part, seconds in Selection.load(output).metadata["seconds"].items():
            stages[f"  of that: {part}"] = seconds
    kept = ["export", str(folder / "LabelMapping.safetensors"), "--format", "paths", "--prune_ratio", "0.7"]
    stages["tlprune export, kept list"], _ = timed(lambda: tlprune([*kept, "--output", str(folder / "kept.txt")]))
    return stages


def list_many(folder: Path, count: int, turns: int) -> list[dict[str, float]]:
    """Seconds of listing, of the digest, and of torchvision's listing, by turns."""
    for number in range(1000):
        (folder / f"n{number:08}").mkdir(parents=True)
        for image in range(count // 1000):
            os.close(os.open(folder / f"n{number:08}" / f"n{number:08}_{image}.JPEG", os.O_CREAT | os.O_WRONLY))
    rows = []
    for _ in range(turns):
        ours, images = timed(lambda: scan_class_folder(folder))
        digest, _ = timed(lambda images=images: images.digest)
        theirs, _ = timed(lambda: ImageFolder(str(folder)))
        rows.append({"listing": ours, "digest": digest, "torchvision": theirs})
        print("  ".join(f"{name} {seconds:.1f} s" for name, seconds in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    """Measures both and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--files", type=int, default=1_280_000, help="empty files to list")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        os.environ["TLPRUNE_CACHE"] = str(folder / "cache")
        if given.output:
            given.output = given.output.absolute()
        os.chdir(folder)  # commands write their configuration where they run
        stages = run_stages(folder, given.workers)
        for name, seconds in stages.items():
            print(f"{name:<45} {seconds:8.2f} s", flush=True)
        rows = list_many(folder / "many", given.files, given.turns)
    finally:
        shutil.rmtree(folder)
    medians = {name: median(row[name] for row in rows) for name in rows[0]}
    print(f"{given.files:,} files, medians: " + "  ".join(f"{name} {one:.1f} s" for name, one in medians.items()))
    if given.output:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
        listing = {"files": given.files, "medians": medians, "turns": rows}
        given.output.write_text(json.dumps({"machine": machine, "stages": stages, "listing": listing}, indent=1) + "\n")


if __name__ == "__main__":
    main()
