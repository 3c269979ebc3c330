"""How numbers are written, on the page and in its tables."""

from tlprune.experiments.statistics import Estimate

__all__ = ["difference", "interval_of", "percent", "seconds", "share"]


def percent(found: Estimate, sign: str = " ± ") -> str:
    """An accuracy with its interval: ``91.3 ± 1.9``; a single seed has none."""
    return f"{found.mean:.1f}" if found.count == 1 else f"{found.mean:.1f}{sign}{found.half_width:.1f}"


def difference(found: Estimate | None) -> str:
    """A difference in points with its interval: ``+2.4 [+0.3, +4.6]``; a dash where there is none."""
    if found is None:
        return "-"
    return f"{found.mean:+.1f}" if found.count == 1 else f"{found.mean:+.1f} {interval_of(found)}"


def interval_of(found: Estimate) -> str:
    """The ends of a difference's interval: ``[+0.3, +4.6]``."""
    return f"[{found.low:+.1f}, {found.high:+.1f}]"


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
