"""The one error that a user can cause, and the near miss that helps to mend it."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "near_miss"]


class InputError(ValueError):
    """Something that the user gave is wrong: the message names it, says where, and how to mend it.

    The command line prints it as one line and exits with code 2. Everything else that is raised is a bug.
    """


def near_miss(name: str, choices: Iterable[str]) -> str:
    """Ends an error about an unknown name: the closest valid name, or all of them.

    Args:
        name: What the user typed.
        choices: The valid names.

    Returns:
        A clause to append to a message.

    Example:
        >>> near_miss("oxford_pet", ["digits", "oxford_pets"])
        "did you mean 'oxford_pets'?"
        >>> near_miss("xyz", ["digits", "photos"])
        'choose one of: digits, photos'
    """
    names = sorted(choices)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"choose one of: {shown}"
