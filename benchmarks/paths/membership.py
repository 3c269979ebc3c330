"""Which of ImageNet's images belong to the classes kept: against the reference's table of images by classes."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from measuring import Row, interleaved, ratios

from tlprune.selection.ranking import kept_samples

IMAGES, CLASSES, KEPT = 1_281_167, 1000, 500


def measure(rounds: int) -> list[Row]:
    """Time in this process, memory in one of its own."""
    labels = torch.arange(IMAGES) * CLASSES // IMAGES
    kept = torch.arange(0, CLASSES, CLASSES // KEPT)

    def table() -> None:
        (labels[:, None] == kept[None]).any(1).nonzero()

    taken = interleaved({"table": table, "ours": lambda: kept_samples(labels, kept, CLASSES)}, max(rounds, 7))
    where = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True, env=where)
    return [
        Row("membership", "times the reference's table", 50, ratios(taken["table"], taken["ours"])),
        Row("membership", "MB above the labels themselves", 50, [float(done.stdout)], least=False),
    ]


def held(name: str) -> int:
    """Memory of this process in kB: now, or the most there was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    known = torch.arange(IMAGES) * CLASSES // IMAGES
    kept_samples(known[:1000], torch.arange(KEPT), CLASSES)
    Path("/proc/self/clear_refs").write_text("5")  # forget the most that was held so far
    before = held("VmRSS")
    kept_samples(known, torch.arange(KEPT), CLASSES)
    print((held("VmHWM") - before) / 1000)
