"""Selectors of single images at the scale of ImageNet: time against faiss and a sort, and memory an image.

    python benchmarks/single_images.py --output benchmarks/results/single_images.json

Draws features of 1.28 million images (512 numbers each, 1.3 GB on disk while it runs) and of 50 thousand target images.
Ways are run by turns on one thread, in seconds of this process, and the median of their ratios counts. Memory is the
most that a process holds of its own (``RssAnon``: pages of files that are mapped do not count), at a quarter of the
images and at all of them. Takes five minutes and 4 GiB on a fast core. Needs Linux.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
import torch
from measuring import Row, interleaved, machine, ratios, versions
from safetensors.torch import load_file
from selection_at_scale import CLASSES, FEATURES, VOTERS, DrawnFeatures, voters
from torch import Tensor, nn

from tlprune.selection.directions import Directions, spherical_centroids
from tlprune.selection.features import SourceFeatures
from tlprune.selection.importance_resampling import ImportanceResampling, log_importance, resampled
from tlprune.selection.nearest_images import NearestImages
from tlprune.selection.rounds import Rounds, order_in_rounds
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector, SourceImages, TargetImages

IMAGES, ANCHORS = 1_280_000, 100
LIST_OF_MANY = 2**23 // VOTERS
"""Images that each of 50 thousand anchors has in its list."""


class Voters:
    """A target whose pixels are its features."""

    classes = ("target",)
    transform_config = DrawnFeatures.transform_config

    def __init__(self, count: int) -> None:
        self.rows = voters()[:count]
        self.labels = torch.zeros(count, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.rows[index, :, None, None], 0

    def name(self, index: int) -> str:
        return f"voter {index}"


class Given(Selector):
    """Votes for a thousand clusters of equal size, a fifth of which have most."""

    method = "given"
    needs = ()

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        votes = torch.arange(CLASSES, dtype=torch.float64).remainder(5).eq(0) * 45.0 + 1
        return Selection(
            method=self.method,
            unit_names=source.classes,
            ranking=votes.sort(descending=True, stable=True).indices,
            votes=votes,
            scores=votes,
            unit_of_sample=source.labels,
            assignments=torch.empty(0),
        )


def take(source: DrawnFeatures, target: Voters, folder: Path) -> Selection:
    """``NearestImages``, once the features of both are there: mean, k-means, rounds and Selection."""
    features = SourceFeatures(
        nn.Flatten(), source, folder
    )  # which has read nothing yet, so that checksums are compared
    selector = NearestImages(num_anchors=min(ANCHORS, len(target)))
    return selector._take(features, target.rows.half().float(), {})


def shards(features: SourceFeatures) -> Iterator[Tensor]:
    """What is on disk, read without looking at checksums, ``[n, D]`` float32."""
    for path in sorted(features.folder.glob("*.safetensors")):
        yield load_file(path)["features"].float()


def few_anchors(images: int, count: int, rounds: int, folder: Path) -> list[Row]:
    """A hundred centroids of the target, held against one search by faiss and a sort."""
    source, target = DrawnFeatures(images), Voters(count)
    features = SourceFeatures(nn.Flatten(), source, folder)
    directions = Directions(features, "source")
    anchors = spherical_centroids(directions.of_target(target.rows), min(ANCHORS, count), 0)[0]
    single, mean = anchors.float(), directions.mean.float()
    each = max(1, images // len(anchors))
    index, of_anchors = faiss.IndexFlatIP(FEATURES), faiss.IndexFlatIP(FEATURES)
    of_anchors.add(single.numpy())
    for shard in shards(features):
        index.add(nn.functional.normalize(shard - mean).numpy())
    rows = faiss.rev_swig_ptr(index.get_xb(), images * FEATURES).reshape(images, FEATURES)
    similarity = np.random.default_rng(0).random(images, dtype=np.float32)

    def search() -> None:
        index.search(single.numpy(), each)
        similarity.argsort(kind="stable")

    def assign() -> None:
        of_anchors.search(rows, 1)[0].ravel().argsort(kind="stable")

    def stream() -> None:
        """Every similarity of the features on disk, none of which is kept."""
        best = torch.cat([(single @ nn.functional.normalize(shard - mean).T).amax(0) for shard in shards(features)])
        best.numpy().argsort(kind="stable")

    ways = {"search": search, "assign": assign, "stream": stream, "ours": lambda: take(source, target, folder)}
    taken = interleaved(ways, rounds, warm=False, clock=time.process_time)
    ours = taken["ours"]
    found = order_in_rounds(anchors, directions, images)
    facts = {"images": images, "anchors": len(anchors), "width": FEATURES, "seconds": taken}
    facts |= {"passes after the mean": found.passes, "features read, in sources": found.images_read / images}
    path = f"nearest images, {len(anchors)} anchors"
    return [
        Row(
            path,
            f"times faiss: search of the {each} best, and a sort",
            1.5,
            ratios(ours, taken["search"]),
            False,
            facts,
        ),
        Row(path, "times faiss: nearest anchor of each, in memory, and a sort", None, ratios(ours, taken["assign"])),
        Row(path, "times the product alone, from disk, and a sort", None, ratios(ours, taken["stream"])),
    ]


def many_anchors(images: int, count: int, rounds: int, folder: Path) -> list[Row]:
    """Every target image an anchor, at a tenth of the images and of the anchors: the same number of rounds."""
    images, count = images // 10, count // 10
    features = SourceFeatures(nn.Flatten(), DrawnFeatures(images), folder)
    directions = Directions(features, "source")
    anchors = directions.of_target(Voters(count).rows)
    single, mean = anchors.float(), directions.mean.float()
    index = faiss.IndexFlatIP(FEATURES)
    for shard in shards(features):
        index.add(nn.functional.normalize(shard - mean).numpy())
    found: list[Rounds] = []
    taken = interleaved(
        {
            "search": lambda: index.search(single.numpy(), images // count + 1),
            "ours": lambda: found.append(order_in_rounds(anchors, directions, images, LIST_OF_MANY)),
        },
        rounds,
        warm=False,
        clock=time.process_time,
    )
    facts = {"images": images, "anchors": count, "in a list": LIST_OF_MANY, "rounds": len(found[0].sizes)}
    facts |= {"passes": found[0].passes, "features read, in sources": found[0].images_read / images, "seconds": taken}
    what = f"times faiss: search of the {images // count + 1} best"
    return [Row(f"nearest images, {count} anchors", what, None, ratios(taken["ours"], taken["search"]), False, facts)]


def resampling(images: int, rounds: int, folder: Path) -> list[Row]:
    """A draw on given votes, held against one sort of as many numbers."""
    source = DrawnFeatures(images)
    numbers = np.random.default_rng(0).random(images)
    taken = interleaved(
        {
            "sort": lambda: numbers.argsort(kind="stable"),
            "ours": lambda: ImportanceResampling(Given()).order(source, None, None, folder),
        },
        rounds,
        clock=time.process_time,
    )
    facts = {"images": images, "seconds": taken}
    return [Row("importance resampling", "times one sort", None, ratios(taken["ours"], taken["sort"]), False, facts)]


def held() -> int:
    """Bytes of this process that are no pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def most_held(work: Callable[[], object]) -> int:
    """The most bytes that this process holds while it works, above what it held before."""
    before, most, done = held(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], held())

    watching = threading.Thread(target=watch)
    watching.start()
    result = work()
    most[0] = max(most[0], held())
    del result
    done.set()
    watching.join()
    return most[0] - before


def memory_of(step: str, images: int, count: int, folder: Path) -> int:
    """Runs one step in this process."""
    source, target = DrawnFeatures(images), Voters(count)
    features = SourceFeatures(nn.Flatten(), source, folder)
    if step == "order":
        directions = Directions(features, "source")
        anchors = directions.of_target(target.rows)
        anchors = spherical_centroids(anchors, min(ANCHORS, count), 0)[0]
        return most_held(lambda: order_in_rounds(anchors, directions, images))
    if step == "selection":
        return most_held(lambda: take(source, target, folder))
    votes = Given().order(source, None, None, folder)
    weights = log_importance(votes.votes, votes.unit_sizes, 1.0)[source.labels]
    if step == "draw":
        return most_held(lambda: resampled(weights, 2.0, 0))
    return most_held(lambda: ImportanceResampling(Given()).order(source, None, None, folder))


def memory(images: int, count: int, folder: Path) -> list[Row]:
    """Bytes an image, from the difference of two sizes, each in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    plan = {
        "order": ("nearest images, the order", 16),
        "selection": ("nearest images, with its Selection", None),
        "draw": ("importance resampling, the order", 16),
        "drawn selection": ("importance resampling, with its Selection", None),
    }
    rows = []
    for step, (path, bar) in plan.items():
        most = []
        for size in (images // 4, images):
            arguments = ["--memory", step, "--images", str(size), "--voters", str(count), "--folder", str(folder)]
            done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, env=env)
            if done.returncode:
                sys.exit(f"{step}: {done.stderr[-3000:]}")
            most.append(int(done.stdout.split()[-1]))
        each = (most[1] - most[0]) / (images - images // 4)
        facts = {"images": [images // 4, images], "MB": [some / 1e6 for some in most]}
        rows.append(Row(path, "bytes an image", bar, [each], False, facts))
    return rows


def measure(images: int, count: int, rounds: int, folder: Path) -> Iterator[Row]:
    """Every row, as soon as it is known."""
    for size in (images // 10, images // 4, images):
        SourceFeatures(nn.Flatten(), DrawnFeatures(size), folder).extract()
    yield from memory(images, count, folder)
    yield from resampling(images, rounds, folder)
    yield from few_anchors(images, count, rounds, folder)
    yield from many_anchors(images, count, rounds, folder)


def main() -> None:
    """Prints a line for each row, and writes a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"source images (default: {IMAGES})")
    parser.add_argument("--voters", type=int, default=VOTERS, help=f"target images (default: {VOTERS})")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default: 3)")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where features are kept (default: a temporary folder)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    if given.memory:
        print(memory_of(given.memory, given.images, given.voters, given.folder))
        return
    found: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for row in measure(given.images, given.voters, given.rounds, given.folder or Path(folder)):
            print(row.line(), flush=True)
            found.append(row.as_json())
            if given.output:  # what was measured is kept, should a later row fail
                known = {"machine": machine(), "versions": versions("torch", "faiss-cpu", "numpy"), "threads": 1}
                given.output.write_text(json.dumps(known | {"rounds": given.rounds, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
