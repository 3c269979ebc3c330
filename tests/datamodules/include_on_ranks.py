"""Notes which images each process gets in two epochs, with those of a target: ``include_on_ranks.py FOLDER``."""

import json
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from tlprune import PrunedSourceDataModule
from tlprune.data.datasets import TensorImages
from tlprune.data.target_splits import TargetSplits
from tlprune.data.two_views import RECIPES, ContrastRecipe


def grey(shades: range) -> TensorImages:
    pixels = torch.tensor(shades, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    return TensorImages(pixels, torch.zeros(len(shades), dtype=torch.int64), ["grey"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    rank = int(os.environ["RANK"])
    torch.manual_seed(100 + rank)
    RECIPES["simclr_small"] = ContrastRecipe(0.5, 0.0, 0.0, 0.0, 0.0, blur=0.0)
    dist.init_process_group("gloo")
    target = TargetSplits("greys", grey(range(101, 104)), grey(range(201, 202)), None, 8, "made for tests")
    options = {"augment": "simclr_small", "image_size": 8, "batch_size": 8, "val_share": 0.0}
    data = PrunedSourceDataModule(grey(range(40)), target, include_target=0.25, **options)
    data.setup()
    loader = data.train_dataloader()
    seen = [
        [(views[0][:, 0, 0, 0] * 0.229 + 0.485).mul(255).round().int().tolist() for views, _ in loader]
        for _ in range(2)
    ]
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(seen))
