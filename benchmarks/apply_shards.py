"""Images a second of ``tlprune apply`` on tars, beside the bare forward pass, and what is held of each shard.

    OMP_NUM_THREADS=1 python benchmarks/apply_shards.py --output benchmarks/results/apply_shards.json

Writes tars of drawn JPEGs of 256 x 256 pixels. Rates are of one process and thread: indexing alone, by labels, by the
nearest of a hundred centroids of a network's features, and the bare forward pass of the same network over a batch that
is in memory. Memory is the most that the process holds of its own (``RssAnon``) while it applies to few and to many
shards. Takes three minutes. Needs Linux.
"""

import argparse
import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from measuring import Row, machine, versions
from PIL import Image

from tlprune import FeatureMapping, Selection, apply
from tlprune.data.tar_shards import TarShard
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import running

SIZE, CENTROIDS, CLASSES = 224, 100, 10


def write_tars(folder: Path, shards: int, images: int) -> None:
    """Writes shards of JPEGs with labels; all shards have the same bytes."""
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for number in range(images):
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            picture = io.BytesIO()
            Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC).save(picture, "JPEG", quality=90)
            for ending, written in (("jpg", picture.getvalue()), ("cls", str(number % CLASSES).encode())):
                header = tarfile.TarInfo(f"{number:06}.{ending}")
                header.size = len(written)
                tar.addfile(header, io.BytesIO(written))
    for number in range(shards):
        (folder / f"{number:04}.tar").write_bytes(content.getvalue())


def selections(network: Classifier) -> dict[str, Selection]:
    """A Selection of classes, and one of clusters with drawn centroids."""
    with running(network.backbone) as run:
        width = run(torch.zeros(1, 3, SIZE, SIZE)).shape[1]

    def made(units: int, names: tuple[str, ...], centroids: torch.Tensor) -> Selection:
        kind = "class" if names else "cluster"
        ranking, zeros = torch.arange(units), torch.zeros(units)
        view = {"view": "EvalView", "image_size": SIZE}
        config = {"view": view, "options": {}}
        fields = {"config": config, "unit_kind": kind, "centroids": centroids}
        return Selection(FeatureMapping.method, names, ranking, zeros, zeros, ranking.int(), zeros[:0], **fields)

    drawn = torch.randn(CENTROIDS, width, generator=torch.Generator().manual_seed(0))
    names = tuple(str(number) for number in range(CLASSES))
    return {"labels": made(CLASSES, names, torch.empty(0, 0)), "centroids": made(CENTROIDS, (), drawn)}


class Peak:
    """The most anonymous memory of this process while it is entered, in bytes."""

    def __enter__(self) -> "Peak":
        self.bytes, self.ended = 0, threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.ended.wait(0.02):
            line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("RssAnon"))
            self.bytes = max(self.bytes, int(line.split()[1]) * 1024)

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


def measure(images: int, many: int, backbone: str, rounds: int) -> list[Row]:
    """All rows; ``images`` in each shard, ``many`` shards for memory and labels."""
    torch.manual_seed(0)
    network = Classifier(create_backbone(backbone), CLASSES)
    made = selections(network)
    rows: dict[str, list[float]] = {"index": [], "labels": [], "centroids": [], "forward": []}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_tars(folder, many, images)
        batch = torch.randn(BATCH_SIZE, 3, SIZE, SIZE)
        for number in range(rounds):
            begin = time.perf_counter()
            TarShard(folder / "0000.tar")
            rows["index"].append(images / (time.perf_counter() - begin))
            begin = time.perf_counter()
            apply(made["labels"], f"webdataset:{folder}/*.tar", folder / f"by labels {number}", units=5)
            rows["labels"].append(many * images / (time.perf_counter() - begin))
            begin = time.perf_counter()
            out = folder / f"by centroids {number}"
            apply(made["centroids"], f"webdataset:{folder}/0000.tar", out, units=50, surrogate=network, device="cpu")
            rows["centroids"].append(images / (time.perf_counter() - begin))
            with running(network.backbone) as run:
                run(batch)
                begin = time.perf_counter()
                for _ in range(images // BATCH_SIZE):
                    run(batch)
                rows["forward"].append(images // BATCH_SIZE * BATCH_SIZE / (time.perf_counter() - begin))
        held = []
        for count in (many // 10, many):
            with Peak() as peak:
                pattern = f"webdataset:{folder}/{{0000..{count - 1:04}}}.tar"
                apply(made["labels"], pattern, folder / f"memory {count}", units=5)
            held.append(peak.bytes)
    found = [Row(f"apply, {name}", "images a second, one thread", None, values) for name, values in rows.items()]
    share = [a / b for a, b in zip(rows["centroids"], rows["forward"], strict=True)]
    found.append(Row("apply by centroids / forward", "of the rate of the bare forward pass", None, share))
    growth = (held[1] - held[0]) / (many - many // 10)
    facts = {"bytes": held, "shards": [many // 10, many], "images in a shard": images}
    found.append(Row("memory of a further shard", "bytes", None, [growth], facts=facts))
    return found


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = measure(given.images, given.shards, given.backbone, given.rounds)
    for row in rows:
        print(row.line())
    if given.output is not None:
        content = {"machine": machine(), "versions": versions("torch", "numpy"), "load": os.getloadavg()[0]}
        content |= {"threads": torch.get_num_threads(), "median": {row.path: median(row.values) for row in rows}}
        given.output.write_text(json.dumps(content | {"rows": [row.as_json() for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
