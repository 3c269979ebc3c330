"""Expands paths given by the user."""

import os
from pathlib import Path

__all__ = ["expanded", "user_path"]


def expanded(path: str) -> str:
    """Replaces ``~`` and ``~user`` at the beginning of a path or name by a home folder, like a shell.

    Args:
        path: Path from a command line, yaml or Python.

    Returns:
        The expanded path; ``path`` if it begins otherwise or there is no such user.

    Example:
        >>> expanded("runs/~a"), expanded("torchvision:resnet18")
        ('runs/~a', 'torchvision:resnet18')
    """
    return os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser() raises if there is no such user


def user_path(path: str | os.PathLike[str]) -> Path:
    """Returns the result of :func:`expanded` as a Path.

    Args:
        path: Path given by the user.
    """
    return Path(expanded(os.fspath(path)))
