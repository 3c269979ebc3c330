"""How a Trainer writes and reads checkpoints under tlprune's command line, and under yours if you say so."""

import os
from pathlib import Path
from typing import Any
from warnings import warn

from lightning.pytorch.plugins.io import CheckpointIO

from tlprune.errors import InputError, OfLightning
from tlprune.storage.checkpoints import check_whole, load_torch, newest_whole, save_torch
from tlprune.storage.paths import user_path

__all__ = ["AtomicCheckpointIO", "WholeCheckpointIO"]


class AtomicCheckpointIO(OfLightning, CheckpointIO):
    """Checkpoints that are the previous file or the new one, never a part; checked when read; and never executed.

    They are plain torch files with a checksum at their end, which everything that reads torch files reads. Give it to
    a Trainer as one of its ``plugins``; ``tlprune fit`` has it anyway.

    Args:
        fall_back: Whether a damaged checkpoint is replaced by the newest whole one of its folder, with a warning that
            names both; else it is an error that does.
    """

    def __init__(self, fall_back: bool = False) -> None:
        self.fall_back = fall_back

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: What Lightning saves.
            path: The file.
            storage_options: Must be None.

        Raises:
            InputError: It cannot be written, or the disk is full; the previous file is still there.
        """
        if storage_options is not None:
            raise InputError("AtomicCheckpointIO writes local files and takes no `storage_options`")
        save_torch(checkpoint, path)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint to the CPU, whatever ``map_location`` says, and only tensors and plain values.

        Args:
            path: The file.
            map_location: Not used: modules take tensors to their own device.
            weights_only: Not used: it is always so.

        Raises:
            InputError: The file is missing, damaged, no checkpoint, or holds more than tensors and plain values.
        """
        try:
            content = load_torch(path)
        except InputError as error:
            content = load_torch(self._instead_of(user_path(path), error))
        if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
            raise InputError(f"{path}: not a Lightning checkpoint (no 'state_dict' in it)")
        return content

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Removes a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)

    def _instead_of(self, path: Path, error: InputError) -> Path:
        """What stands in for a checkpoint that is not whole; whatever else is wrong with one is raised."""
        try:
            check_whole(path)
        except InputError:
            other = newest_whole(path.parent, but=path) if path.parent.is_dir() else None
            if other is None:
                raise error from None
            if not self.fall_back:
                raise InputError(f"{error}; the newest whole checkpoint beside it is {other}") from error
            warn(f"{error}; going on from {other}", stacklevel=3)
            return other
        raise error


WholeCheckpointIO = AtomicCheckpointIO
"""The former name."""
