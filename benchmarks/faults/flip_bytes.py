"""Flips a byte, or cuts a file off, in everything that tlprune reads back: each damage is noticed.

    python benchmarks/faults/flip_bytes.py --output flip_bytes.json

By turns in a Selection, a checkpoint (alone, and with an older one to fall back to), exported weights, features,
clusters and a Selection in the cache, the note of damaged images, and an image of the built-in source. A file that the
user gave must be refused by name; what is in the cache must be made again, the same as before, and the next reading
must find it whole. The only other outcome that is allowed is a changed byte that says nothing, such as white space.
"""

import argparse
import json
import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tlprune.checkpoint_io import AtomicCheckpointIO
from tlprune.data.damaged_images import find_damaged
from tlprune.data.datasets import TensorImages
from tlprune.data.decoding import decode_image
from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_source
from tlprune.data.target_splits import TargetSplits
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.models.weights import read_weights, save_classifier
from tlprune.pruning import select
from tlprune.selection.features import SourceFeatures
from tlprune.selection.kmeans import cached_clusters
from tlprune.selection.selection import Selection
from tlprune.storage.fingerprint import digest_json, digest_tensors

GOOD = ("refused", "fell back", "made again", "says the same")
CUTS = (0.0, 0.5, 0.99)
CLASSES = ("ant", "bee", "cat")


@dataclass(frozen=True)
class Kind:
    """Something that is read back.

    Args:
        name: What it is called here.
        paths: Its files; each trial damages one of them.
        read: Reads it and names what it found, content alone: by path, so that two files may lie beside each other.
        made_again: Whether it is made again where it is damaged; else it must be refused.
        warns: Whether that is said.
        instead: What is found in its place where it falls back.
    """

    name: str
    paths: tuple[Path, ...]
    read: Callable[[Path], str]
    made_again: bool = False
    warns: bool = True
    instead: str | None = None


def images(count: int, seed: int) -> TensorImages:
    """Noise of 32 x 32 pixels in three classes."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return TensorImages(pixels, torch.arange(count) % len(CLASSES), CLASSES)


def named(tensors: dict[str, Tensor], *more: object) -> str:
    """A digest of tensors and JSON values."""
    return digest_json([digest_tensors(tensors), *more])


def made_selection(selection: Selection) -> str:
    """Names a Selection, seconds and where it came from apart."""
    record = {key: value for key, value in selection.metadata.items() if key not in ("seconds", "cached")}
    return digest_json([selection.digest, record])


def given_kinds(folder: Path, classifier: Classifier, selection: Selection) -> list[Kind]:
    """Files that the user gives."""
    selection.save(folder / "s.safetensors")
    save_classifier(folder / "w.safetensors", "resnet8_w8", classifier.backbone, classifier.head, CLASSES, seconds=3.25)
    older, newer = ({"state_dict": classifier.state_dict(), "epoch": epoch, "rate": 0.5} for epoch in (1, 2))
    AtomicCheckpointIO().save_checkpoint(newer, folder / "alone" / "last.ckpt")
    AtomicCheckpointIO().save_checkpoint(older, folder / "two" / "epoch=1.ckpt")
    AtomicCheckpointIO().save_checkpoint(newer, folder / "two" / "last.ckpt")

    def a_selection(path: Path) -> str:
        found = Selection.load(path)
        return digest_json([found.digest, found.metadata])

    def weights(path: Path) -> str:
        found = read_weights(path)
        return named(dict(found.state), found.backbone, found.classes, found.seconds)

    def checkpoint(path: Path, fall_back: bool = False) -> str:
        found = AtomicCheckpointIO(fall_back).load_checkpoint(path)
        return named(found["state_dict"], found["epoch"], found["rate"])

    instead = checkpoint(folder / "two" / "epoch=1.ckpt")
    return [
        Kind("selection", (folder / "s.safetensors",), a_selection),
        Kind("checkpoint", (folder / "alone" / "last.ckpt",), checkpoint),
        Kind(
            "checkpoint, one to fall back to",
            (folder / "two" / "last.ckpt",),
            partial(checkpoint, fall_back=True),
            instead=instead,
        ),
        Kind("weights", (folder / "w.safetensors",), weights),
    ]


def cached_kinds(
    folder: Path, classifier: Classifier, selecting: Callable[[], Selection], source: TensorImages
) -> list[Kind]:
    """Files of the cache, each made here for the first time."""
    cache = folder / "cache"
    features = SourceFeatures(classifier.backbone, TransformedDataset(source, EvalTransform(32)), cache)
    features.extract()

    def rows(_: Path) -> str:
        return named({"rows": features.rows(torch.arange(len(features)))})

    def clusters(_: Path) -> str:
        found = cached_clusters(features, 12, 0, cache)
        return named({"centroids": found.centroids, "unit_of_sample": found.unit_of_sample}, found.empty)

    def selection(_: Path) -> str:
        return made_selection(selecting())

    for make in (clusters, selection):
        make(cache)
    kinds = [Kind("cached features", tuple(features.folder.glob("*.safetensors")), rows, made_again=True)]
    for name, read in (("clusters", clusters), ("selections", selection)):
        kinds.append(Kind(f"cached {name}", tuple((cache / name).glob("*.safetensors")), read, made_again=True))
    return [*kinds, damaged_images(folder / "images", cache), drawn_images(cache)]


def damaged_images(root: Path, cache: Path) -> Kind:
    """What is remembered of a folder in which one image of a hundred and twenty is no image."""
    pixels = images(120, 3).pixels
    for number, image in enumerate(pixels):
        path = root / CLASSES[number % len(CLASSES)] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    (root / CLASSES[1] / "001.png").write_bytes(b"<html>")
    source = scan_class_folder(root)

    def read(_: Path) -> str:
        return digest_json([list(one) for one in find_damaged(source, cache)])

    read(cache)
    return Kind("damaged images", tuple((cache / "damaged").glob("*.json")), read, made_again=True, warns=False)


def drawn_images(cache: Path) -> Kind:
    """The built-in source with one image a class."""
    paths = tuple(sorted(synthetic_source(cache, 1).glob("*/*.png")))

    def read(path: Path) -> str:
        synthetic_source(cache, 1)
        return named({"pixels": decode_image(path)})

    return Kind("drawn images", paths, read, made_again=True)


def all_kinds(folder: Path) -> list[Kind]:
    """All of them, of one small source, target and surrogate."""
    torch.manual_seed(0)
    classifier = Classifier(create_backbone("resnet8_w8"), len(CLASSES))
    surrogate = folder / "surrogate.safetensors"
    save_classifier(surrogate, "resnet8_w8", classifier.backbone, classifier.head, CLASSES)
    source, target = images(300, 0), TargetSplits("noise", images(60, 1), images(30, 2), images(30, 2), 32, "made up")
    options = {"surrogate": str(surrogate), "image_size": 32, "device": "cpu", "cache": folder / "cache"}
    selecting = partial(select, source, target, **options)
    made = selecting()
    return [*given_kinds(folder, classifier, made), *cached_kinds(folder, classifier, selecting, source)]


def damage(content: bytes, cut: float | None, chance: random.Random) -> tuple[bytes, str]:
    """Changes one byte, or keeps the share ``cut`` of the file; the result, and what was done."""
    if cut is not None:
        return content[: min(int(cut * len(content)), len(content) - 1)], f"cut off at {cut:.0%}"
    place = chance.randrange(len(content))
    changed = bytearray(content)
    changed[place] ^= chance.randrange(1, 256)
    return bytes(changed), f"byte {place} of {len(content)}"


def outcome(kind: Kind, path: Path, wanted: str) -> str:
    """What came of reading a damaged file: one of :data:`GOOD`, or what went wrong."""
    damaged = path.read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = kind.read(path)
        except InputError as error:
            refused = not kind.made_again and str(error).startswith(f"{path}: ")
            return "refused" if refused else f"refused in other words: {error}"
        except BaseException as error:  # panics of safetensors' Rust code are no Exception
            return f"{type(error).__name__}: {error}"
    said = any(str(path) in str(one.message) for one in caught)
    if found == kind.instead and kind.instead is not None:
        return "fell back" if said else "fell back without a word"
    if found != wanted:
        return "another content, unnoticed"
    if path.read_bytes() == damaged:
        return "says the same"
    return "made again" if said == kind.warns and is_whole(kind, path, wanted) else "made again in other ways"


def is_whole(kind: Kind, path: Path, wanted: str) -> bool:
    """Whether a file is read as before, nothing is said, and it is left as it is."""
    content = path.read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return kind.read(path) == wanted and not caught and path.read_bytes() == content


def main() -> None:
    """Runs the trials and prints how each ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    chance, rows, begin = random.Random(given.seed), [], time.perf_counter()  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as folder:
        kinds = all_kinds(Path(folder))
        for trial in range(given.trials):
            turn, kind = trial // len(kinds), kinds[trial % len(kinds)]
            path = chance.choice(kind.paths)
            wanted = kind.read(path)
            content = path.read_bytes()
            # three bytes for every three cuts
            damaged, done = damage(content, None if turn % 2 == 0 else CUTS[turn // 2 % len(CUTS)], chance)
            path.write_bytes(damaged)
            rows.append({"kind": kind.name, "damage": done, "outcome": outcome(kind, path, wanted)})
            path.write_bytes(content)
            print(rows[-1], flush=True)
    counts = Counter(row["outcome"] for row in rows)
    by_kind = {kind.name: Counter(row["outcome"] for row in rows if row["kind"] == kind.name) for kind in kinds}
    failed = [row for row in rows if row["outcome"] not in GOOD]
    print(f"of {len(rows)} trials in {time.perf_counter() - begin:.0f} s: {dict(counts)}; failed: {failed}")
    if given.output:
        result = {"trials": len(rows), "failed": len(failed), **counts, "by kind": by_kind, "rows": rows}
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
