"""Test images of a target that are in the source: a score on them would be too good."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from tlprune.selection.features import SourceFeatures, extract_features
from tlprune.selection.fixed_batches import Images

__all__ = ["ALIKE", "Leaks", "copy_distance", "find_leaks", "pixel_difference"]

ALIKE = 0.05
"""Up to which :func:`pixel_difference` two images look alike."""

_ROWS = 2048


@dataclass(frozen=True)
class Leaks:
    """For each test image the kept source image that is nearest in feature space.

    Args:
        source: ``[T]`` int64, index of the nearest kept source image.
        distance: ``[T]`` float64, Euclidean.
        threshold: Up to which distance two images count as near-duplicates.
    """

    source: Tensor
    distance: Tensor
    threshold: float

    @property
    def suspects(self) -> Tensor:
        """Test images within the threshold, ``[n]`` int64, nearest first."""
        order = self.distance.sort(stable=True).indices
        return order[self.distance[order] <= self.threshold]


def find_leaks(test: Tensor, features: SourceFeatures, kept: Tensor, threshold: float) -> Leaks:
    """Finds the nearest kept source image of every test image, reading the source shard by shard.

    Args:
        test: ``[T, D]`` float32, features of the test images.
        features: Of the source.
        kept: ``[n]`` int64, kept source images, ascending, at least one.
        threshold: Up to which distance two images count as near-duplicates.
    """
    best = torch.full((len(test),), torch.inf, dtype=torch.float64)
    found = torch.zeros(len(test), dtype=torch.int64)
    bounds = torch.searchsorted(kept, torch.tensor([shard.start for shard in features.shards] + [len(features)]))
    for number, (images, shard) in enumerate(features):
        own = kept[bounds[number] : bounds[number + 1]]
        if len(own) == 0:
            continue
        rows = shard[own - images.start]
        half = rows.square().sum(1) / 2
        for start in range(0, len(test), _ROWS):
            block = slice(start, min(start + _ROWS, len(test)))
            nearest = torch.addmm(half, test[block], rows.T, alpha=-1).argmin(1)
            distance = (test[block].double() - rows[nearest].double()).norm(dim=1)
            closer = distance < best[block]
            best[block] = torch.where(closer, distance, best[block])
            found[block] = torch.where(closer, own[nearest], found[block])
    return Leaks(found, best, threshold)


def pixel_difference(first: Tensor, second: Tensor) -> float:
    """How much two pictures differ, whatever a network makes of them: a surrogate may take smooth images for one.

    Args:
        first: ``[3, H, W]`` uint8.
        second: ``[3, H', W']`` uint8.

    Returns:
        The root mean square difference of their 16 x 16 thumbnails, in [0, 1].

    Example:
        >>> dark, bright = torch.zeros(3, 20, 30).byte(), torch.full((3, 16, 16), 51).byte()
        >>> round(pixel_difference(dark, bright), 3)
        0.2
    """
    one, other = (F.adaptive_avg_pool2d(image.float() / 255, 16) for image in (first, second))
    return float((one - other).square().mean().sqrt())


def copy_distance(backbone: nn.Module, images: Images, num_workers: int = 0, quantile: float = 0.9) -> float:
    """How far a copy of an image lies from it: what this surrogate makes of the same picture at another resolution.

    A copy is scaled down by an eighth and up again, as pictures are that went through another collection.

    Args:
        backbone: Maps images ``[B, 3, H, W]`` to features ``[B, D]``.
        images: Those to copy, in the evaluation view.
        num_workers: Processes that load images.
        quantile: The share of copies that lies within the distance returned.
    """
    originals = extract_features(backbone, images, num_workers)
    copies = extract_features(backbone, _Copies(images), num_workers)
    return float((originals.double() - copies.double()).norm(dim=1).quantile(quantile))


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
