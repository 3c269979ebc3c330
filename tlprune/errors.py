"""User errors: wrong values and names, packages that are not installed, objects of the other Lightning package."""

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from math import inf
from numbers import Real

__all__ = ["InputError", "OfLightning", "did_you_mean", "require_extra", "require_within"]


class InputError(ValueError):
    """Invalid user input. The message names the cause and the place, and says how to fix it.

    The command line prints the message as one line and exits with code 2. Every other exception is a bug.

    Args:
        message: Description of the error. A traceback added by a data loading process is removed.
    """

    def __init__(self, message: str) -> None:
        if caught := re.match(r"Caught (\w+) in DataLoader worker", message):
            message = re.split(rf"\w*{caught[1]}: ", message)[-1].strip()
        super().__init__(message)


def require_within(name: str, value: float, low: float, high: float | None = None) -> None:
    """Validates that a number is in range.

    Args:
        name: Name of the argument.
        value: Value to check.
        low: Smallest allowed value.
        high: Largest allowed value; None for no bound.

    Raises:
        InputError: If the value is out of range.
    """
    if not isinstance(value, Real):
        raise InputError(f"`{name}` must be a number, got {value!r}")
    if high is None and not low <= value < inf:
        finite = " and finite" if value == inf else ""
        raise InputError(f"`{name}` must be at least {low}{finite}, got {value}")
    if high is not None and not low <= value <= high:
        raise InputError(f"`{name}` must be from {low} to {high}, got {value}")


def require_extra(what: str, package: str, module: str, extra: str) -> None:
    """Validates that a package is installed which is no dependency of tlprune, without importing it.

    Args:
        what: Subject of the message: what needs the package.
        package: Name of the package in the Python Package Index.
        module: Top-level module of the package.
        extra: Extra of tlprune that installs the package.

    Raises:
        InputError: If the package is not installed.
    """
    if find_spec(module) is None:
        raise InputError(f"{what} needs {package}: pip install 'tlprune[{extra}]'")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Formats the end of an error about an unknown name: the closest valid name, or all valid names.

    Returns:
        Clause to append to a message.

    Example:
        >>> did_you_mean("oxford_pet", ["digits", "oxford_pets"])
        "did you mean 'oxford_pets'?"
        >>> did_you_mean("xyz", ["digits", "photos"])
        'choose one of: digits, photos'
    """
    names = sorted(choices)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"choose one of: {shown}"


class OfLightning:
    """Mixin for classes of ``lightning.pytorch`` that reports an incompatible Trainer of ``pytorch_lightning``.

    The two packages define the same classes twice. Each checks whether an object is an instance of its own class, for
    which Python reads ``__class__``. This is the only place where an incompatible Trainer can be detected.
    """

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Type of the object.

        Raises:
            TypeError: If ``pytorch_lightning`` reads it.
        """
        asking = str(sys._getframe(1).f_globals.get("__name__", ""))
        if asking.partition(".")[0] == "pytorch_lightning":
            name = type(self).__name__
            raise TypeError(
                f"{name} works with `lightning.pytorch`, got a Trainer of `pytorch_lightning`: "
                "write `from lightning.pytorch import Trainer`"
            )
        return type(self)
