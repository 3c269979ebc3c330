"""Where tlprune keeps what it can make again."""

import os
from pathlib import Path

__all__ = ["cache_root"]


def cache_root(folder: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the one given, else ``$TLPRUNE_CACHE``, else ``tlprune`` in the user's cache folder.

    Args:
        folder: A folder that the user chose, or None.

    Returns:
        An absolute path, which need not exist yet.
    """
    if folder is not None:
        return Path(folder).expanduser().absolute()
    if chosen := os.environ.get("TLPRUNE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "tlprune"
