"""Applies a Selection on each of several ranks: ``apply_on_ranks.py WORLD WORKERS SELECTION SOURCE OUTPUT``."""

import sys

import torch.distributed as dist

import tlprune


def main(world: int, workers: int, selection: str, source: str, output: str) -> None:
    if world > 1:
        dist.init_process_group("gloo")
    made = tlprune.apply(selection, source, output, units=2, write="shards", num_workers=workers, device="cpu")
    print(f"<{made.kept} of {made.images}>", flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
