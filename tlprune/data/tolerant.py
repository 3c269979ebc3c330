"""Images under a transform, of which those that cannot be decoded are marked instead of ending the work."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tlprune.data.transformed import Batch, TransformedDataset
from tlprune.errors import InputError

__all__ = ["TolerantDataset"]


class TolerantDataset(Dataset[tuple[Tensor, int]]):
    """Transformed images whose label is 0, or a mark where an image cannot be decoded; that image is then black.

    Args:
        seen: The images and their transform.
        mark: Label of images that cannot be decoded, below 0.
    """

    def __init__(self, seen: TransformedDataset, mark: int) -> None:
        self.seen = seen
        self.mark = mark

    def __len__(self) -> int:
        return len(self.seen)

    def name(self, index: int) -> str:
        """Returns a readable name of image ``index``."""
        return self.seen.name(index)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image, ``[3, S, S]`` float32, and 0 or the mark."""
        try:
            return self.seen[index][0], 0
        except InputError:
            size = self.seen.transform.image_size
            return torch.zeros(3, size, size), self.mark

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Returns images ``[B, 3, S, S]`` float32, and ``[B]`` int64 of 0 or the mark."""
        try:
            return self.seen.__getitems__(indices)[0], torch.zeros(len(indices), dtype=torch.int64)
        except InputError:
            pairs = [self[index] for index in indices]
            return torch.stack([pixels for pixels, _ in pairs]), torch.tensor([label for _, label in pairs])
