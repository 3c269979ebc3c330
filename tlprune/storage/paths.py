"""Paths as a person gives them."""

import os
from pathlib import Path

__all__ = ["expanded", "user_path"]


def expanded(path: str) -> str:
    """A path, or a name, with ``~`` and ``~user`` at its beginning taken for a home folder, as a shell has it.

    Args:
        path: The path as it was given, on a command line, in yaml or in Python.

    Returns:
        The path; as it was given where it begins otherwise, or there is no such user.

    Example:
        >>> expanded("runs/~a"), expanded("torchvision:resnet18")
        ('runs/~a', 'torchvision:resnet18')
    """
    return os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser() raises where there is no such user


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as :func:`expanded` has it.

    Args:
        path: The path as it was given.
    """
    return Path(expanded(os.fspath(path)))
