"""Test images of a target that also occur in the source, which would inflate test scores."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from tlprune.selection.features import SourceFeatures, extract_features
from tlprune.selection.fixed_batches import Images

__all__ = ["ALIKE", "Leaks", "copy_distance", "find_leaks", "leaks_among", "pixel_difference"]

ALIKE = 0.05
"""Largest :func:`pixel_difference` at which two images look alike."""

_ROWS = 2048


@dataclass(frozen=True)
class Leaks:
    """Nearest kept source image in feature space for each test image.

    Args:
        source: Int64 tensor ``[T]``, index of the nearest kept source image.
        distance: Float64 tensor ``[T]``, Euclidean distance to it.
        threshold: Largest distance at which two images count as near-duplicates.
    """

    source: Tensor
    distance: Tensor
    threshold: float

    @property
    def suspects(self) -> Tensor:
        """Test images within the threshold, int64 ``[n]``, nearest first."""
        order = self.distance.sort(stable=True).indices
        return order[self.distance[order] <= self.threshold]


def find_leaks(test: Tensor, features: SourceFeatures, kept: Tensor, threshold: float) -> Leaks:
    """Finds the nearest kept source image of every test image; the source is read shard by shard.

    Args:
        test: Float32 tensor ``[T, D]``, features of the test images.
        features: Features of the source.
        kept: Int64 tensor ``[n]`` of kept source images, ascending, at least one.
        threshold: Largest distance at which two images count as near-duplicates.
    """
    best = torch.full((len(test),), torch.inf, dtype=torch.float64)
    found = torch.zeros(len(test), dtype=torch.int64)
    bounds = torch.searchsorted(kept, torch.tensor([shard.start for shard in features.shards] + [len(features)]))
    for number, (images, shard) in enumerate(features):
        own = kept[bounds[number] : bounds[number + 1]]
        if len(own) == 0:
            continue
        nearest, distance = _nearest(test, shard[own - images.start])
        closer = distance < best
        best = torch.where(closer, distance, best)
        found = torch.where(closer, own[nearest], found)
    return Leaks(found, best, threshold)


def leaks_among(test: Tensor, trained: Tensor, threshold: float) -> Leaks:
    """Finds the nearest of other training images, such as those of a target, for every test image.

    Args:
        test: Float32 tensor ``[T, D]``, features of the test images.
        trained: Float32 tensor ``[n, D]``, features of the training images, at least one.
        threshold: Largest distance at which two images count as near-duplicates.

    Example:
        >>> rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> leaks_among(torch.tensor([[3.0, 3.5]]), rows, 1.0).suspects.tolist()
        [0]
    """
    return Leaks(*_nearest(test, trained), threshold)


def _nearest(test: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the nearest row of each test image, ``[T]`` int64, and its distance, ``[T]`` float64."""
    found, best = torch.zeros(len(test), dtype=torch.int64), torch.zeros(len(test), dtype=torch.float64)
    half = rows.square().sum(1) / 2
    for start in range(0, len(test), _ROWS):
        block = slice(start, min(start + _ROWS, len(test)))
        found[block] = torch.addmm(half, test[block], rows.T, alpha=-1).argmin(1)
        best[block] = (test[block].double() - rows[found[block]].double()).norm(dim=1)
    return found, best


def pixel_difference(first: Tensor, second: Tensor) -> float:
    """Computes the pixel difference of two images, since a surrogate may not distinguish smooth images.

    Args:
        first: Uint8 tensor ``[3, H, W]``.
        second: Uint8 tensor ``[3, H', W']``.

    Returns:
        Root mean square difference of their 16 x 16 thumbnails, in [0, 1].

    Example:
        >>> dark, bright = torch.zeros(3, 20, 30).byte(), torch.full((3, 16, 16), 51).byte()
        >>> round(pixel_difference(dark, bright), 3)
        0.2
    """
    one, other = (F.adaptive_avg_pool2d(image.float() / 255, 16) for image in (first, second))
    return float((one - other).square().mean().sqrt())


def copy_distance(backbone: nn.Module, images: Images, num_workers: int = 0) -> float:
    """Computes the feature distance within which 90 % of images have a copy of them at another resolution.

    A copy is scaled down by an eighth and up again, similar to images that passed through another collection.

    Args:
        backbone: Network that maps images ``[B, 3, H, W]`` to features ``[B, D]``.
        images: Images to copy, under the evaluation transform.
        num_workers: Number of processes that load images.
    """
    originals = extract_features(backbone, images, num_workers)
    copies = extract_features(backbone, _Copies(images), num_workers)
    return float((originals.double() - copies.double()).norm(dim=1).quantile(0.9))


class _Copies:
    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        height, width = image.shape[1:]
        smaller = (max(1, round(height * 7 / 8)), max(1, round(width * 7 / 8)))
        shrunk = F.interpolate(image[None], smaller, mode="bilinear", antialias=True)
        return F.interpolate(shrunk, (height, width), mode="bilinear", antialias=True)[0], label

    def name(self, index: int) -> str:
        return f"a copy of {self.images.name(index)}"
