"""How evenly two processes share a selection and an embedding: efficiency, beside that of two commands at once."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import Row, interleaved

from paths.loading import write_files
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import save_classifier

ROOT = Path(__file__).parents[2]
IMAGES, FEW, SIZE = 1200, 64, 112
_MOST_ROUNDS = 3
"""A round takes minutes."""


def started(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    """A command in a process, one thread, with a cache of its own."""
    own = os.environ | {"OMP_NUM_THREADS": "1", "TLPRUNE_CACHE": str(folder / "cache")}
    run = [sys.executable, "-m", "tlprune", *command]
    return subprocess.Popen(run, cwd=ROOT, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def ended(*processes: "subprocess.Popen[bytes]") -> None:
    """Waits for all."""
    for process in processes:
        said = process.communicate()[1].decode()
        if process.returncode:
            raise RuntimeError(f"{process.args} failed: {said}")


def commands(source: Path, folder: Path, devices: int, place: int = 0) -> dict[str, list[str]]:
    """An embedding of all images of a source, and a selection that clusters them for a few of its own."""
    common = [f"--surrogate={folder / 'surrogate.safetensors'}", f"--image_size={SIZE}", "--accelerator=cpu"]
    common += [f"--devices={devices}", f"--source={source}", "--fresh"]
    select = ["--target", f"unlabelled:{folder / 'target'}", "--selector=FeatureMapping", "--selector.num_clusters=8"]
    return {
        "embedding": ["embed", *common, f"--output={folder / f'features-{place}.npz'}"],
        "selection": ["select", *common, *select, f"--output={folder / f'selection-{place}.safetensors'}"],
    }


def measure(rounds: int) -> list[Row]:
    """ResNet-18 at 112 pixels over 1,200 JPEGs, one thread a process; the time of 64 images is taken off."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, count in (("many", IMAGES), ("half", IMAGES // 2), ("few", FEW), ("target", 16)):
            (folder / name).mkdir()
            write_files(folder / name, count)
        network = create_backbone("resnet18")
        save_classifier(folder / "surrogate.safetensors", "resnet18", network, None)

        def run(source: str, work: str, devices: int, times: int) -> None:
            places = [commands(folder / source, folder, devices, place)[work] for place in range(times)]
            ended(*(started(command, folder / str(place)) for place, command in enumerate(places)))

        rows = []
        for work in ("embedding", "selection"):
            ways = {
                f"{source}, {devices} processes, {times} at once": partial(run, source, work, devices, times)
                for source, devices, times in (
                    ("many", 1, 1),
                    ("few", 1, 1),
                    ("many", 2, 1),
                    ("few", 2, 1),
                    ("half", 1, 2),
                    ("few", 1, 2),
                )
            }
            one, begin, two, begin_two, apart, begin_apart = interleaved(
                ways, min(rounds, _MOST_ROUNDS), warm=False
            ).values()
            each = zip(one, begin, two, begin_two, apart, begin_apart, strict=True)
            shares = [((a - b) / (2 * (c - d)), (a - b) / (2 * (e - f))) for a, b, c, d, e, f in each]
            facts = {"two commands at once, half each": [both for _, both in shares]}
            facts |= {"seconds": {"one": one, "few": begin, "two": two, "few by two": begin_two}}
            rows += [
                Row(f"{work}, two processes", "efficiency", 0.9, [ours for ours, _ in shares], facts=facts),
                Row(f"{work}, two processes", "of two commands at once", None, [a / b for a, b in shares]),
            ]
        return rows
