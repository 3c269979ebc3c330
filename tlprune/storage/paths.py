"""Paths as a person gives them."""

import os
from pathlib import Path

__all__ = ["user_path"]


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` and ``~name`` at its beginning taken for a home folder, as a shell has it.

    Args:
        path: The path as it was given, on a command line, in yaml or in Python.

    Returns:
        The path; as it was given where there is no such home folder.

    Example:
        >>> user_path("runs/~a")
        PosixPath('runs/~a')
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser() raises where there is no such user
