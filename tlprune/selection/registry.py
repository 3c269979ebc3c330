"""The one list of selectors.

``registry.pyi`` beside this file has a line for each. Their names are known without importing torch; ``tlprune.NAME``,
``--selector NAME``, sweeps and tests take them from here.
"""

from pathlib import Path

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub("tlprune.selection", __file__)


def selector_names() -> tuple[str, ...]:
    """Names of all selectors, in the order of the list."""
    lines = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8").splitlines()
    return tuple(line.rpartition(" ")[2] for line in lines if line.startswith("from "))


def feature_selector_names() -> tuple[str, ...]:
    """Names of the selectors that ask a target and a network without a head, in the order of the list."""
    return tuple(name for name in selector_names() if __getattr__(name).needs == ("target", "backbone"))
