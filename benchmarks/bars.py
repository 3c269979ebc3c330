"""Every path whose speed has a bar, by one command: pass or short, with ratio, spread and hardware.

    python benchmarks/bars.py --output benchmarks/results/bars.json [--rounds 5] [--only loading voting] [--ffcv PYTHON]

Each path is measured in a process of its own, in interleaved pairs of runs; the median of their ratios counts. Takes
twenty minutes on two fast cores. ``--ffcv`` names the Python of an environment with FFCV; without it, and for what
needs a GPU where there is none, rows say ``not measured``.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from measuring import Row, machine, versions

PATHS = (
    *("voting", "assignment", "clustering", "membership", "loading", "training", "cells", "ranks"),
    *("starting", "growth"),
)


def measured(path: str, rounds: int, ffcv: str | None) -> list[Row]:
    """Measures one path in this process."""
    options = {"ffcv": ffcv} if path == "loading" else {}
    rows: list[Row] = import_module(f"paths.{path}").measure(rounds, **options)
    return rows


def apart(path: str, rounds: int, ffcv: str | None) -> list[Row]:
    """Measures one path in a process of its own."""
    arguments = [sys.executable, __file__, "--one", path, "--rounds", str(rounds)]
    arguments += ["--ffcv", ffcv] if ffcv else []
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{path}: {done.stderr[-3000:]}")
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Prints a line for each row, and writes a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument("--only", nargs="+", choices=PATHS, default=PATHS, help="paths to measure (default: all)")
    parser.add_argument("--ffcv", help="Python of an environment with FFCV")
    parser.add_argument("--one", choices=PATHS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        rows = measured(given.one, given.rounds, given.ffcv)
        print(json.dumps([vars(row) for row in rows], default=float))
        return
    where = machine()
    print(f"{where['processor']}, {where['cores']} cores, {' '.join(where['instructions'])}, GPU: {where['gpu']}\n")
    found: list[dict[str, Any]] = []
    begin = time.perf_counter()
    packages = versions("torch", "torchvision", "lightning", "faiss-cpu", "scikit-learn", "pillow", "simplejpeg")
    for path in given.only:
        for row in apart(path, given.rounds, given.ffcv):
            print(row.line(), flush=True)
            found.append(row.as_json())
        if given.output:  # what was measured is kept, should a later path fail
            known = {"machine": where, "versions": packages, "rounds": given.rounds, "rows": found}
            given.output.write_text(json.dumps(known, indent=1) + "\n")
    short = sum(row["verdict"] == "SHORT" for row in found)
    print(f"\n{len(found)} rows, {short} short, {(time.perf_counter() - begin) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
