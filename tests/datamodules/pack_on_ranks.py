"""Packs what is kept on each rank's share: ``pack_on_ranks.py SOURCE RESULTS``, a JSON file for each rank."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tlprune import PrunedSourceDataModule, RandomSelector
from tlprune.data import packed
from tlprune.storage.fingerprint import digest_tensors


def main() -> None:
    source, results = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group("gloo")
    packed.SHARD_SIZE = 3
    made = []
    write = packed.PackedImages._write
    packed.PackedImages._write = lambda self, number, images: (made.append(number), write(self, number, images))
    selector = RandomSelector(1)
    data = PrunedSourceDataModule(source, selector=selector, keep_units=2, image_size=32, image_cache="raw256")
    data.setup()
    images = data._sets["train"].images
    pixels = torch.stack([images[index][0] for index in range(len(images))])
    found = {"made": made, "shards": len(images.shards), "pixels": digest_tensors({"pixels": pixels})}
    (results / f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
