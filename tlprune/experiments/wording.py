"""How modes, targets and numbers are written, in every table, picture and page."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tlprune.experiments.claims import Claim
from tlprune.experiments.results import AS_CONFIGURED, SCRATCH
from tlprune.experiments.statistics import FEWEST_TARGETS, Estimate, Pooled

__all__ = [
    "SEVERAL",
    "difference",
    "interval_of",
    "interval_source",
    "mode_label",
    "percent",
    "points_text",
    "pooled_text",
    "seconds",
    "share",
    "some_targets",
    "start_label",
    "target_labels",
    "targets_text",
]

SEVERAL = 3
"""Most targets that are shown one by one; of more, all together come first."""

_MODE_LABELS = {"probe": "linear probe", "finetune": "full finetuning", "knn": "nearest neighbours"}
"""Modes of transfer, for people."""


def mode_label(mode: str, recipes: Mapping[str, Any] | None = None) -> str:
    """A mode of transfer, with its number of labels per class if these are few.

    Args:
        mode: Name of the mode.
        recipes: ``recipes`` of the results, whose transfers say how many labels a mode has. Where they do not have the
            mode, a number at the end of its name is that of the labels.

    Example:
        >>> mode_label("probe"), mode_label("probe_5"), mode_label("linear_1")
        ('linear probe', 'linear probe, 5 labels a class', 'linear, 1 label a class')
        >>> recipes = {"transfers": {"knn_5": {"num_neighbours": 5}, "few": {"solver": "lbfgs", "shots": 2}}}
        >>> mode_label("knn_5", recipes), mode_label("few", recipes)
        ('knn_5', 'few, 2 labels a class')
    """
    named = re.fullmatch(r"(.+)_([1-9]\d*)", mode)
    transfers = (recipes or {}).get("transfers") or {}
    shots = _shots(transfers[mode]) if mode in transfers else int(named[2]) if named else None
    if shots is None:
        return _MODE_LABELS.get(mode, mode)
    base = named[1] if named and int(named[2]) == shots else mode
    return f"{_MODE_LABELS.get(base, base)}, {shots} {'label' if shots == 1 else 'labels'} a class"


def _shots(transfer: Mapping[str, Any]) -> int | None:
    """Labels per class of a transfer in the form of results; None for all."""
    config = transfer.get("config") or {"data": {"init_args": transfer}}
    shots = (config["data"].get("init_args") or {}).get("shots")
    return shots if isinstance(shots, int) else None


def percent(found: Estimate, sign: str = " ± ") -> str:
    """An accuracy with its interval: ``91.3 ± 1.9``; a single seed has none."""
    return f"{found.mean:.1f}" if found.count == 1 else f"{found.mean:.1f}{sign}{found.half_width:.1f}"


def difference(found: Estimate | None) -> str:
    """A difference in points with its interval: ``+2.4 [+0.3, +4.6]``; a dash where there is none."""
    if found is None:
        return "-"
    if found.count == 1:
        return f"{found.mean:+.1f}"
    return f"{found.mean:+.1f} {interval_of(found)}"


def pooled_text(found: Pooled | None, won: bool = True) -> str:
    """A difference over targets with its interval and the targets above 0: ``+2.4 [+0.3, +4.6] 16 of 20``.

    Too few targets have no interval; without ``won`` the targets are left out.
    """
    if found is None:
        return "-"
    interval = f" {interval_of(found)}" if found.enough_targets else ""
    return f"{found.mean:+.1f}{interval}" + (f" {found.won} of {found.targets}" if won else "")


def targets_text(found: Pooled | None) -> str:
    """Targets won and lost, and how many of them clearly: ``16 (4) / 3 (0)``; a dash where there are none."""
    if found is None:
        return "-"
    if found.clearly_won is None:
        return f"{found.won} / {found.lost}"
    return f"{found.won} ({found.clearly_won}) / {found.lost} ({found.clearly_lost})"


def some_targets(count: int, of: int) -> str:
    """Over how many of all targets a mean is, where some of them lack it; else empty.

    Example:
        >>> some_targets(7, 10), some_targets(10, 10)
        ('over 7 of 10 targets', '')
    """
    return f"over {count} of {of} targets" if count < of else ""


def interval_of(found: Estimate | Pooled | Claim) -> str:
    """The ends of a difference's interval: ``[+0.3, +4.6]``."""
    return f"[{found.low:+.1f}, {found.high:+.1f}]"


def interval_source(targets: int, seeds: int) -> str:
    """What an interval over targets is and covers; empty for fewer targets than carry one."""
    if targets < FEWEST_TARGETS:
        return ""
    if seeds == 1:
        return "the 95 % interval of a bootstrap over targets, which leaves out what differs from seed to seed"
    return "the 95 % interval of a two-way bootstrap over targets and seeds"


def points_text(value: float) -> str:
    """Points of accuracy: ``1 point``, ``0.5 points``."""
    return f"{value:g} {'point' if value == 1 else 'points'}"


def seconds(value: float) -> str:
    """A time: ``0.42 s``, ``9.3 s``, ``51 s``, ``5.4 h``."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:,.0f} s" if value < 7200 else f"{value / 3600:,.1f} h"


def share(value: float | None) -> str:
    """A share in percent; a dash where it is not known."""
    if value is None:
        return "-"
    text = f"{value:.0%}"
    return "0%" if text == "-0%" else text


def start_label(start: str) -> str:
    """What the start of a pretraining is called; a file by its name.

    Example:
        >>> start_label("scratch"), start_label("torchvision:resnet18"), start_label("runs/drawn/surrogate.safetensors")
        ('from scratch', 'from torchvision:resnet18', 'from surrogate.safetensors')
    """
    if start in (SCRATCH, AS_CONFIGURED):
        return "from scratch" if start == SCRATCH else "as configured"
    return f"from {start.replace(chr(92), '/').rstrip('/').rpartition('/')[2]}"


def target_labels(targets: Iterable[str]) -> dict[str, str]:
    """What targets are called in lines and tables: a folder by its last part, or as many as tell it from others.

    Args:
        targets: Names, folders, and ``NAME:FOLDER``.

    Example:
        >>> target_labels(["digits", "data/targets/flowers", "oxford_pets:/data/pets"])
        {'digits': 'digits', 'data/targets/flowers': 'flowers', 'oxford_pets:/data/pets': 'oxford_pets'}
        >>> target_labels(["a/flowers", "b/flowers/"])
        {'a/flowers': 'a/flowers', 'b/flowers/': 'b/flowers'}
    """
    parts = {name: _parts(name) for name in targets}
    for count in range(1, max(map(len, parts.values()), default=0) + 1):
        labels = {name: "/".join(some[-count:]) for name, some in parts.items()}
        if len(set(labels.values())) == len(labels):
            return labels
    return {name: name for name in parts}


def _parts(target: str) -> list[str]:
    named, colon, _ = target.partition(":")
    known = named if colon and "/" not in named and len(named) > 1 else target  # one letter is a drive
    return [part for part in known.replace("\\", "/").split("/") if part] or [target]
