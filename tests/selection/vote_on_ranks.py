"""Run by torchrun: every rank votes, by Label Mapping and by Feature Mapping, and writes what it got."""

import json
import os
import sys
from pathlib import Path
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import nn

from tlprune.selection import features
from tlprune.selection.difficulty import EL2N
from tlprune.selection.feature_mapping import FeatureMapping
from tlprune.selection.votes import cast_votes


class Numbered:
    """Images that hold their own number."""

    transform_config: ClassVar = {"view": "none", "image_size": 8}
    classes = ("even", "odd", "none", "none of these", "nor these", "nor those")

    def __init__(self, count: int) -> None:
        self.count = count
        self.labels = torch.arange(count) % 2

    def fingerprint(self) -> str:
        return f"{self.count} numbers"

    def name(self, index: int) -> str:
        return f"number {index}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 8, 8), index / 10), index % 2


def vote(images: int) -> dict[str, object]:
    torch.manual_seed(0)
    surrogate = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 6))
    assignments = cast_votes(surrogate, Numbered(images), 6)
    source, cache = Numbered(200), sys.argv[1] + f"/cache-{os.environ.get('WORLD_SIZE', 1)}"
    backbone = surrogate[:3]
    mapped = FeatureMapping(num_clusters=9).select(source, Numbered(images), backbone, cache=cache)
    hard = EL2N().select(source, surrogate=surrogate)
    return {
        "units": assignments.units.tolist(),
        "scores": assignments.scores.tolist(),
        "clusters": mapped.digest,
        "hardest": hard.digest,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    features.SHARD_SIZE = 128  # so that ranks have shards, and parts of shards, to compute
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    found = {images: vote(int(images)) for images in sys.argv[2:]}
    (Path(sys.argv[1]) / f"{os.environ.get('WORLD_SIZE', 1)}-{os.environ.get('RANK', 0)}.json").write_text(
        json.dumps(found)
    )
    if dist.is_initialized():
        dist.destroy_process_group()
