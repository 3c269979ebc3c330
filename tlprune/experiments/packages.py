"""Packages that sweeps and the demo need beside tlprune's dependencies."""

from tlprune.errors import require_extra

__all__ = ["require_packages"]

_NEEDED = {"scikit-learn": "sklearn", "scipy": "scipy"}


def require_packages(what: str, extra: str) -> None:
    """Validates that the packages are installed which judge the cells of a sweep, without importing them.

    Args:
        what: Subject of the message.
        extra: Extra of tlprune that installs all that ``what`` needs.

    Raises:
        InputError: If a package is not installed.
    """
    for package, module in _NEEDED.items():
        require_extra(what, package, module, extra)
