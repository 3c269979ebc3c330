"""Kills `tlprune select` at random moments and runs it again: the same Selection, and no finished stage again.

    python benchmarks/faults/kill_select.py --surrogate runs/drawn/surrogate.safetensors --output kill_select.json

Feature Mapping and Label Mapping by turns, on the built-in source as a folder, with handwritten digits as target. Each
trial has a cache of its own; the whole process group gets SIGKILL after a time drawn from that of an uninterrupted run,
then the same command runs to its end. What the first attempt left finished in the cache must be left as it is.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tlprune.data.synthetic import synthetic_source
from tlprune.selection.selection import Selection
from tlprune.storage.cache import cache_root

CLUSTERS = 30


def select(source: Path, surrogate: Path, folder: Path, selector: str, kill_after: float | None = None) -> float:
    """Runs the command in a folder of its own; seconds that it took, or -1 where it was killed."""
    options = [f"--selector.num_clusters={CLUSTERS}"] if selector == "FeatureMapping" else []
    command = [sys.executable, "-m", "tlprune", "select", f"--source={source}", "--target", "digits"]
    command += ["--surrogate", str(surrogate), f"--selector={selector}", *options, "--image_size=32"]
    command += [f"--output={folder / 's.safetensors'}", f"--cache={folder / 'cache'}"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    try:
        _, said = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return -1
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{said}")
    return time.perf_counter() - begin


def finished(folder: Path) -> dict[str, int]:
    """Files of the cache that have taken their names, and when."""
    unfinished = (".part", ".lock")
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.endswith(unfinished) for part in path.relative_to(folder).parts)
    ]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def main() -> None:
    """Runs the trials and prints how each ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surrogate", type=Path, required=True, help="weights for the built-in source")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--images_per_class", type=int, default=50, help="of the source; more take longer")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    source = synthetic_source(cache_root(None), given.images_per_class)
    moments, rows = random.Random(0), []  # noqa: S311 - no secret
    wanted: dict[str, tuple[str, float]] = {}
    for trial in range(given.trials):
        selector = ("FeatureMapping", "LabelMapping")[trial % 2]
        folder = Path(tempfile.mkdtemp())
        try:
            if selector not in wanted:
                seconds = select(source, given.surrogate, folder, selector)
                wanted[selector] = Selection.load(folder / "s.safetensors").digest, seconds
                shutil.rmtree(folder)
                folder.mkdir()
            digest, seconds = wanted[selector]
            moment = moments.uniform(0.2, 1.0) * seconds
            killed = select(source, given.surrogate, folder, selector, kill_after=moment) < 0
            left = finished(folder / "cache")
            select(source, given.surrogate, folder, selector)
            now = finished(folder / "cache")
            row: dict[str, Any] = {"selector": selector, "moment": moment, "killed": killed, "stages left": len(left)}
            row["same selection"] = Selection.load(folder / "s.safetensors").digest == digest
            row["no stage again"] = all(now.get(name) == written for name, written in left.items())
            rows.append(row)
            print(row, flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    counts: dict[str, Any] = {"images per class": given.images_per_class}
    counts |= {name: sum(row[name] for row in rows) for name in ("killed", "same selection", "no stage again")}
    print(f"of {len(rows)} trials: {counts}")
    if given.output:
        given.output.write_text(json.dumps({"trials": len(rows), **counts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
