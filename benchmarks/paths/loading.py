"""Loading JPEGs for training: against PIL and torchvision, against decoding alone, and against FFCV.

FFCV lives in an environment of its own, whose Python is named by ``--ffcv``; how to build one is in docs/speed.md.
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torchvision.transforms as v1
from measuring import Row, interleaved, not_measured, processor_seconds, ratios
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder

from tlprune.data.datasets import FolderImages
from tlprune.data.decoding import decode_image
from tlprune.data.loaders import batches
from tlprune.data.scanning import scan_class_folder
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import MEAN, STD, TrainTransform, normalize
from tlprune.datamodules.packing import pack

FILES, BATCH, SIZE, WORKERS = 1280, 64, 224, 2


def write_files(folder: Path, count: int = FILES) -> None:
    """JPEGs of 500 x 375 pixels and some 75 kB, as ImageNet's: smooth shapes and grain."""
    drawn = np.random.default_rng(0)
    for number in range(count):
        smooth = Image.fromarray(drawn.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375), Image.BICUBIC)
        grain = np.asarray(smooth) + drawn.normal(0, 12, (375, 500, 3))
        label = folder / f"class{number % 8}"
        label.mkdir(exist_ok=True)
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(label / f"{number:05}.jpg", quality=88)


class Decoded(Dataset[int]):
    """Files that are decoded and thrown away."""

    def __init__(self, images: FolderImages) -> None:
        self.files = [images.root / path for path in images.paths]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> int:
        decode_image(self.files[index])
        return 0


def epoch(loader: Any, finish: bool = False) -> Callable[[], None]:
    """Runs through a loader."""

    def run() -> None:
        for batch in loader:
            if finish:
                normalize(batch[0])

    return run


def thrice(way: Callable[[], object]) -> Callable[[], None]:
    """Runs longer, since the processor's time is counted in hundredths of a second."""

    def run() -> None:
        for _ in range(3):
            way()

    return run


def measure(rounds: int, ffcv: str | None = None) -> list[Row]:
    """A random half of the files, two loading processes, batches of 64 random crops of 224 pixels."""
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        root.mkdir()
        write_files(root)
        return _measure(rounds, root, Path(folder), ffcv)


def _measure(rounds: int, root: Path, scratch: Path, ffcv: str | None) -> list[Row]:
    half = torch.randperm(FILES, generator=torch.Generator().manual_seed(0))[: FILES // 2].sort().values
    kept = scan_class_folder(root).subset(half)
    theirs = v1.Compose([v1.RandomResizedCrop(SIZE), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)])

    def ours(images: Any) -> Any:
        seen = TransformedDataset(images, TrainTransform(SIZE, "crop_flip")).as_bytes()
        return batches(seen, BATCH, shuffle=True, num_workers=WORKERS)

    folder_loader = ours(kept)
    pil = DataLoader(
        Subset(ImageFolder(root, theirs), half.tolist()), BATCH, shuffle=True, num_workers=WORKERS, drop_last=True
    )
    packed = {packing: pack(kept, packing, scratch / "cache", WORKERS) for packing in ("jpeg256", "raw256")}
    ways: dict[str, Callable[[], object]] = {
        "pil": epoch(pil),
        "folder": epoch(folder_loader),
        "folder, floats": epoch(folder_loader, finish=True),
        "decoding": epoch(DataLoader(Decoded(kept), BATCH, num_workers=WORKERS, persistent_workers=True)),
        **{packing: epoch(ours(images)) for packing, images in packed.items()},
    }
    peers = {how: _Peer(ffcv, root, scratch, how, half.tolist()) for how in ("jpeg", "raw")} if ffcv else {}
    ways |= {f"ffcv {how}": peer for how, peer in peers.items()}
    taken = interleaved(ways, rounds)
    worked: dict[str, list[float]] = {}
    if peers and sys.platform == "linux":
        compared = [*packed, *(f"ffcv {how}" for how in peers)]
        worked = interleaved({name: thrice(ways[name]) for name in compared}, rounds, clock=processor_seconds)
    for peer in peers.values():
        peer.end()
    sizes = {
        packing: sum(file.stat().st_size for file in images.folder.glob("*.safetensors")) / len(kept)
        for packing, images in packed.items()
    }
    original = sum((kept.root / path).stat().st_size for path in kept.paths) / len(kept)
    facts = {"kB an image": {"files": original / 1e3, **{name: size / 1e3 for name, size in sizes.items()}}}
    facts |= {"images a second": {name: len(kept) / min(seconds) for name, seconds in taken.items()}}
    rows = [
        Row("loader, plain folder", "times PIL ImageFolder", 1.6, ratios(taken["pil"], taken["folder"]), facts=facts),
        Row("loader, plain folder", "of decoding alone", 0.6, ratios(taken["decoding"], taken["folder"])),
        Row(
            "loader, plain folder",
            "times PIL, floats made on this CPU too",
            None,
            ratios(taken["pil"], taken["folder, floats"]),
        ),
        Row("loader, JPEG-256 cache", "times PIL ImageFolder", 2.7, ratios(taken["pil"], taken["jpeg256"])),
        Row("loader, raw-256 cache", "times PIL ImageFolder", 5.5, ratios(taken["pil"], taken["raw256"])),
    ]
    for how, packing, name, bar in (
        ("jpeg", "jpeg256", "all JPEG", 1.1),
        ("raw", "raw256", "as the reference writes it", 1.0),
    ):
        what, path = f"of FFCV, {name}", f"loader, {packing.replace('256', '-256')} cache"
        if ffcv:
            rows.append(Row(path, what, bar, ratios(taken[f"ffcv {how}"], taken[packing])))
            if worked:
                rows.append(Row(path, f"{what}, processor time", bar, ratios(worked[f"ffcv {how}"], worked[packing])))
        else:
            rows.append(not_measured(path, what, "no --ffcv given"))
    return rows


class _Peer:
    """FFCV in a process of its own, which runs an epoch when it is told to."""

    def __init__(self, python: str, root: Path, scratch: Path, how: str, half: list[int]) -> None:
        asked = str(scratch / f"{how}.json")
        where = {"root": str(root), "file": str(scratch / f"{how}.beton"), "how": how, "half": half}
        Path(asked).write_text(json.dumps(where))
        script = str(Path(__file__).with_name("ffcv_peer.py"))
        subprocess.run([python, script, "write", asked], check=True, stdout=sys.stderr)
        self.process = subprocess.Popen(
            [python, script, "load", asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("epoch\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("done"):
            assert line, "FFCV ended"

    def end(self) -> None:
        """Lets it go: loading processes of others hold its input open."""
        self.process.kill()
        self.process.wait()
