"""Forgetting: keeps what the surrogate learned and lost again most often while it was trained.

Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019. A method for
one data set: it knows nothing of a target, so it is a control here.
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
from tlprune.selection.selector import SourceImages, SurrogatePart, TargetImages
from tlprune.storage.atomic import atomic_path
from tlprune.storage.fingerprint import digest_json, digest_tensors
from tlprune.storage.paths import user_path

__all__ = ["Forgetting", "ForgettingCounts"]


@dataclass(frozen=True)
class ForgettingCounts:
    """How often each source image was forgotten from one epoch to the next.

    Args:
        source_digest: Names the source.
        events: ``[N]`` int64.
        epochs: Epochs that were looked at.
        learned: ``[N]`` bool, whether it was ever classified correctly.
    """

    source_digest: str
    events: Tensor
    epochs: int
    learned: Tensor

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, whole or not at all.

        Args:
            path: The file.

        Raises:
            InputError: It cannot be written.
        """
        tensors = {"events": self.events, "learned": self.learned}
        header = {"tlprune": "forgetting", "source_digest": self.source_digest, "epochs": str(self.epochs)}
        header["checksum"] = digest_json([header, digest_tensors(tensors)])
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, header)

    @classmethod
    def load(cls, path: str | Path) -> "ForgettingCounts":
        """Reads what :meth:`save` wrote.

        Args:
            path: The file.

        Raises:
            InputError: It is missing, damaged, or something else.
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
    """Orders images by how often the surrogate forgot them, most often first; never learned counts as more than that.

    Args:
        counts: What the callback ``CountForgetting`` wrote while the surrogate was trained.
        unit: ``sample``; or ``class``, by the mean over the class's images.

    Raises:
        InputError: ``unit`` is neither, or the file is missing or damaged.
    """

    method = "forgetting"
    label = "forgetting"

    def __init__(self, counts: str, unit: Literal["class", "sample"] = "sample") -> None:
        super().__init__(unit)
        self.path = counts
        self.counts = ForgettingCounts.load(counts)

    @property
    def needs_surrogate(self) -> SurrogatePart | None:
        """It was watched while it was trained, and is not needed any more."""
        return None

    @property
    def options(self) -> dict[str, Any]:
        """What is ordered, and what was counted."""
        counted = digest_tensors({"events": self.counts.events, "learned": self.counts.learned})
        return {"counts_digest": counted, "epochs": self.counts.epochs, **super().options}

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """By counts, then by index.

        Raises:
            InputError: The counts are those of another source.
        """
        begin = time.perf_counter()
        if self.counts.source_digest != source.fingerprint():
            raise InputError(f"{self.path}: counted on another source")
        never = torch.full_like(self.counts.events, self.counts.epochs)
        events = torch.where(self.counts.learned, self.counts.events, never).double()
        ranking, scores = by_score(events, source, self.unit)
        return self._ordered(source, ranking, scores, time.perf_counter() - begin)
