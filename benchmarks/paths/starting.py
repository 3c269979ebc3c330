"""How soon commands answer, and what importing the package costs."""

import subprocess
import sys

from measuring import Row, interleaved, ratios

COMMANDS = ("show", "diff", "explain", "export", "advise", "audit", "datasets", "frames", "select", "demo", "fit")


def run(*arguments: str) -> None:
    """One process, to its end."""
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def measure(rounds: int) -> list[Row]:
    """Whole processes, all files in the page cache."""
    main = "import sys; from tlprune.cli import main; sys.exit(main(sys.argv[1:]))"
    taken = interleaved(
        {
            "lightning": lambda: run("-c", "import lightning"),
            "torch": lambda: run("-c", "import torch"),
            "import": lambda: run("-c", "import tlprune"),
            "help": lambda: run("-c", main, "--help"),
            **{name: lambda name=name: run("-c", main, name, "--help") for name in COMMANDS},
        },
        rounds,
    )
    path, bar = "start", 0.1
    return [
        Row(path, "'import tlprune' over importing lightning", bar, ratios(taken["import"], taken["lightning"]), False),
        Row(path, "'tlprune --help' over importing lightning", bar, ratios(taken["help"], taken["lightning"]), False),
        Row(path, "s to import torch", None, taken["torch"], False),
        *(Row(path, f"s for 'tlprune {name} --help'", None, taken[name], False) for name in COMMANDS),
    ]
