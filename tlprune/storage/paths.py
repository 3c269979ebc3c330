"""Expands paths given by the user, and says where a name hides a folder."""

import os
from pathlib import Path
from warnings import warn

__all__ = ["expanded", "user_path", "warn_of_hidden_folder"]


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


def warn_of_hidden_folder(role: str, name: str, meant: str) -> None:
    """Warns where a name stands for something else than the folder of that name.

    Args:
        role: ``source`` or ``target``.
        name: Name given by the user.
        meant: What the name stands for.
    """
    if Path(name).is_dir():
        warn(f"{role} {name}: {meant}, not the folder here; the folder is {os.curdir}{os.sep}{name}", stacklevel=3)
