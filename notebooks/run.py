"""Runs the notebooks from top to bottom, each in a folder of its own; an error in a cell is an error.

``make notebooks`` looks whether they run; ``make notebooks NOTEBOOKS=--write`` also keeps what they printed and drew.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent


def run(path: Path, top: Path, write: bool) -> bool:
    """Runs one notebook.

    Args:
        path: The notebook.
        top: The folder in which it gets a folder of its own.
        write: Whether it is written back with its outputs, without paths of this machine and times of day.

    Returns:
        Whether every cell ran.
    """
    notebook = nbformat.read(path, as_version=4)
    begin, before = time.monotonic(), os.times()
    folder = top / path.stem
    folder.mkdir()
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where, coalesce_streams=True)
    try:
        client.execute()
    except CellExecutionError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return False
    if write:
        _clean(notebook, folder)
        nbformat.write(notebook, path)
    spent = sum(os.times()[2:4]) - sum(before[2:4])  # of the kernel and of the commands that it ran
    print(f"{path.name}: {time.monotonic() - begin:.0f} s, {spent:.0f} s of processor time", flush=True)
    return True


def _clean(notebook: nbformat.NotebookNode, folder: Path) -> None:
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "text" in output:
                # colours, and how a progress bar moves the cursor
                output.text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.text).replace("\r\n", "\n")
                text = re.sub(rf"(/private)?{re.escape(str(folder))}/?", "", output.text)
                text = re.sub(r", expected end \d\d:\d\d", "", text)
                output.text = re.sub(r"/\S+\.py:\d+: ", "", text)  # where a warning comes from


def main() -> int:
    """Runs those that are named, or all.

    Returns:
        The exit status: 1 if a cell failed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks, such as 01_quick_start (default: all)")
    parser.add_argument("--write", action="store_true", help="keep the outputs in the notebooks")
    given = parser.parse_args()
    # cells of commands find those of this environment
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    paths = [HERE / f"{name}.ipynb" for name in given.names] or sorted(HERE.glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "docs").symlink_to(HERE.parent / "docs")  # notebooks name files in ../docs
        os.environ["TLPRUNE_CACHE"] = str(top / "cache")  # the built-in source is drawn once for all
        ran = [run(path, top, given.write) for path in paths]
    print(f"{sum(ran)} passed, {len(ran) - sum(ran)} failed")
    return 0 if all(ran) else 1


if __name__ == "__main__":
    sys.exit(main())
