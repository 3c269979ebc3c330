"""The error that a user can cause, the near miss that helps to mend it, and what is said to the other Lightning."""

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "OfLightning", "did_you_mean", "require_within"]


class InputError(ValueError):
    """Something that the user gave is wrong: the message names it, says where, and how to mend it.

    The command line prints it as one line and exits with code 2. Everything else that is raised is a bug.

    Args:
        message: What is wrong. What a loading process wraps around it, its whole traceback, is taken off again.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught InputError in DataLoader worker"):
            message = re.split(r"\w*InputError: ", message)[-1].strip()
        super().__init__(message)


def require_within(name: str, value: float, low: float, high: float | None = None) -> None:
    """Refuses a number that is out of range.

    Args:
        name: What the user calls it.
        value: What was given.
        low: The least that is allowed.
        high: The most that is allowed; None for no bound.

    Raises:
        InputError: It is out of range.
    """
    if high is None and not value >= low:
        raise InputError(f"`{name}` must be at least {low}, got {value}")
    if high is not None and not low <= value <= high:
        raise InputError(f"`{name}` must be from {low} to {high}, got {value}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Ends an error about an unknown name: the closest valid name, or all of them.

    Args:
        name: What the user typed.
        choices: The valid names.

    Returns:
        A clause to append to a message.

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
    """What works with ``lightning.pytorch`` alone says so to a Trainer of ``pytorch_lightning``.

    The two packages have the same classes twice. Each asks whether an object is one of its own, which Python answers by
    the object's ``__class__``: the only place where ours hears of a Trainer that will not know it.
    """

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The object's type.

        Raises:
            TypeError: It is ``pytorch_lightning`` that asks.
        """
        asking = str(sys._getframe(1).f_globals.get("__name__", ""))
        if asking.partition(".")[0] == "pytorch_lightning":
            name = type(self).__name__
            raise TypeError(
                f"{name} works with `lightning.pytorch`, got a Trainer of `pytorch_lightning`: "
                "write `from lightning.pytorch import Trainer`"
            )
        return type(self)
