"""Comparison of the test images of a sweep's targets with its source, as a stage for each target.

Test images that lie in the source make test accuracy say less about new images. That is a warning and never an error:
whatever keeps the images from being compared leaves the rest of the sweep as it is.
"""

import time
from typing import Any
from warnings import warn

from tlprune.data.datasets import ImageSet
from tlprune.data.target_splits import open_target
from tlprune.data.uncached import cache_for
from tlprune.datamodules.packing import in_memory
from tlprune.errors import InputError
from tlprune.experiments.fitting import quiet
from tlprune.experiments.results import Results
from tlprune.experiments.running import Note, noted
from tlprune.experiments.sweep_cells import tell
from tlprune.experiments.sweep_plan import Sweep
from tlprune.experiments.sweep_stages import comparison_stage, source_of
from tlprune.selection.copies import find_copies
from tlprune.selection.thumbnails import SourceThumbnails, read_thumbnails
from tlprune.storage.cache import cache_root, locked

__all__ = ["add_copies", "compare_with_source", "not_compared"]

_EXAMPLES = 3
"""Pairs that are named for each target."""


def not_compared(sweep: Sweep) -> list[str]:
    """Returns the targets whose test images were not compared with the source yet."""
    return [target for target in sweep.targets if comparison_stage(sweep, target).done is None]


def add_copies(sweep: Sweep, results: Results) -> None:
    """Adds finished comparisons to the targets of the results, as ``copies``."""
    for target in sweep.targets:
        if "copies" not in results.targets[target] and (done := comparison_stage(sweep, target).done) is not None:
            results.targets[target]["copies"] = done.result


def compare_with_source(sweep: Sweep) -> None:
    """Compares the test images of all targets with the source, unless this is finished."""
    begin = time.perf_counter()
    with quiet(), noted(sweep.output, Note("comparison", None, "", "test images and source")):
        try:
            _compare_all(sweep)
        except (InputError, OSError, RuntimeError) as error:  # the last of a loading process that ended
            warn(f"test images were not compared with the source: {error}", stacklevel=2)
            return
    tell("test images compared with the source", None, time.perf_counter() - begin)


def _compare_all(sweep: Sweep) -> None:
    source, data = source_of(sweep).transformed_source.images, sweep.pretrain.data
    with cache_for([source], cache_root(data.get("cache"))) as cache:
        version = source.fingerprint("bytes") if sweep.pretrain.verify_content else source.listed_fingerprint
        thumbnails = SourceThumbnails(source, cache, version, data.get("num_workers") or 0)
        if thumbnails.missing:
            thumbnails.images = _at_hand(source, data)
        for target in sweep.targets:
            _compare(sweep, target, source, thumbnails)


def _at_hand(source: ImageSet, data: dict[str, Any]) -> ImageSet:
    """Returns the source as pretraining in this process keeps it, so that it is decoded once for both."""
    if not data.get("in_memory"):
        return source
    try:
        return in_memory(source, bool(data.get("verify_content")))
    except InputError:  # pretraining reports it
        return source


def _compare(sweep: Sweep, target: str, source: ImageSet, thumbnails: SourceThumbnails) -> None:
    stage = comparison_stage(sweep, target)
    with locked(stage.folder):
        if stage.done is not None:
            return
        test = open_target(target).test
        if test is None or len(test) == 0:
            return
        thumbnails.make()
        copies = find_copies(read_thumbnails(test, thumbnails.num_workers), thumbnails)
        found = copies.found
        pairs = [
            [test.name(one), source.name(int(copies.source[one])), round(float(copies.share[one]), 4)]
            for one in found[:_EXAMPLES].tolist()
        ]
        stage.finish({"found": len(found), "of": len(test), "source_images": len(source), "examples": pairs})
