"""Selects single images on each of several ranks: ``select_on_ranks.py WORLD WORKERS SOURCE TARGET WEIGHTS CACHE``."""

import sys

import torch.distributed as dist

import tlprune


def main(world: int, workers: int, source: str, target: str, surrogate: str, cache: str) -> None:
    if world > 1:
        dist.init_process_group("gloo")
    clusters = tlprune.FeatureMapping(num_clusters=5, seed=0)
    selectors = {
        "nearest": tlprune.NearestImages(num_workers=workers),
        "anchors": tlprune.NearestImages(num_anchors=3, num_workers=workers),
        "resampled": tlprune.ImportanceResampling(seed=3),
        "resampled clusters": tlprune.ImportanceResampling(clusters, seed=3, unit="same"),
        "typical": tlprune.TypicalImages(num_workers=workers),
    }
    for name, selector in selectors.items():
        how = {"selector": selector, "surrogate": surrogate, "image_size": 16, "num_workers": workers, "cache": cache}
        made = tlprune.select(source, target, **how)
        print(f"<{name}: {made.digest}>", flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
