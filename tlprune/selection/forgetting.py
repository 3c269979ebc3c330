"""Forgetting: keeps the images that the surrogate forgot most often during its training.

Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019. The method is
designed for a single dataset and ignores the target, so it serves as a control here.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.selection.baselines import SourceOnlySelector
from tlprune.selection.difficulty import by_score
from tlprune.selection.selection import Selection
from tlprune.selection.selector import SourceImages, TargetImages
from tlprune.storage.atomic import atomic_path
from tlprune.storage.fingerprint import digest_json, digest_tensors
from tlprune.storage.paths import user_path

__all__ = ["Forgetting", "ForgettingCounts"]


@dataclass(frozen=True)
class ForgettingCounts:
    """Counts of how often each source image was forgotten from one epoch to the next.

    Args:
        source_digest: Digest of the source.
        events: Int64 tensor ``[N]``, number of times each image was forgotten.
        epochs: Number of epochs observed.
        learned: Bool tensor ``[N]``, true for images that were classified correctly at least once.
    """

    source_digest: str
    events: Tensor
    epochs: int
    learned: Tensor

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, atomically.

        Raises:
            InputError: If the file cannot be written.
        """
        tensors = {"events": self.events, "learned": self.learned}
        header = {"tlprune": "forgetting", "source_digest": self.source_digest, "epochs": str(self.epochs)}
        header["checksum"] = digest_json([header, digest_tensors(tensors)])
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, header)

    @classmethod
    def load(cls, path: str | Path) -> "ForgettingCounts":
        """Reads a file written by :meth:`save`.

        Raises:
            InputError: If the file is missing, damaged, or of another kind.
        """
        try:
            with safe_open(user_path(path), framework="pt") as file:
                header = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in ("events", "learned")}
            checksum = header.pop("checksum", None)
            if checksum == digest_json([header, digest_tensors(tensors)]):
                return cls(header["source_digest"], tensors["events"], int(header["epochs"]), tensors["learned"])
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file of forgetting counts") from error
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: damaged, or no file of CountForgetting ({type(error).__name__})") from error
        raise InputError(f"{path}: damaged, its checksum does not match")


class Forgetting(SourceOnlySelector):
    """Ranks images by how often the surrogate forgot them, most often first; never learned counts as the most.

    Args:
        counts: Path of the file written by the callback ``CountForgetting`` while the surrogate was trained.
        unit: ``sample``, or ``class`` to rank classes by the mean over their images.

    Raises:
        InputError: If ``unit`` is neither, or the file is missing or damaged.
    """

    method = "forgetting"
    label = "forgetting"

    def __init__(self, counts: str, unit: Literal["class", "sample"] = "sample") -> None:
        super().__init__(unit)
        self.path = counts
        self.counts = ForgettingCounts.load(counts)

    @property
    def options(self) -> dict[str, Any]:
        """Kind of unit that is ranked, and the content of the counts."""
        counted = digest_tensors({"events": self.counts.events, "learned": self.counts.learned})
        return {"counts_digest": counted, "epochs": self.counts.epochs, **super().options}

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Ranks by counts, then by index.

        Raises:
            InputError: If the counts belong to another source.
        """
        begin = time.perf_counter()
        if self.counts.source_digest != source.fingerprint():
            raise InputError(f"{self.path}: counted on another source")
        never = torch.full_like(self.counts.events, self.counts.epochs)
        events = torch.where(self.counts.learned, self.counts.events, never).double()
        ranking, scores = by_score(events, source, self.unit)
        return self._ordered(source, ranking, scores, time.perf_counter() - begin)
