"""Diagnostics of kept images in a surrogate's feature space, which cost no training.

Four numbers are computed for any set of kept images, whatever selector chose them. They say how near the kept images
are to the target, whether they are made of the same parts, how varied they are, and how many are near copies of others.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError
from tlprune.selection.centroids import nearest
from tlprune.selection.directions import Directions
from tlprune.selection.features import SourceFeatures, extract_features
from tlprune.selection.fixed_batches import Images
from tlprune.selection.kmeans import Clusters, cached_clusters, suggested_clusters

__all__ = ["DUPLICATE", "SAMPLED", "Diagnosis", "Diagnostics", "diagnose_kept", "measure", "random_images"]

DUPLICATE = 0.99
"""Cosine similarity from which two kept images count as duplicates."""

SAMPLED = 2048
"""Maximum number of kept images, drawn by seed 0, that duplicates are counted among; each is compared with all."""

_ROWS = 4096
"""Number of target images that are compared at a time, which bounds memory."""


@dataclass(frozen=True)
class Diagnostics:
    """Four numbers about kept images. Features are centred by the source's mean and of length 1.

    Args:
        similarity: Mean cosine similarity of each target image to its nearest kept image, in [-1, 1].
        divergence: Kullback-Leibler divergence of the kept images' distribution over k-means clusters of the source
            from the target's, ``KL(target || kept)`` in nats, at least 0. One image is added to each cluster's kept
            images; the target's counts are not smoothed.
        spread: Vendi score of the kept images: the exponential of the entropy of the eigenvalues of their cosine
            similarity matrix over their number, from 1 for copies of one image up to the number of images (Friedman
            and Dieng, "The Vendi Score", TMLR 2023). The width of the features bounds it too.
        duplicates: Share of kept images that have a similarity of at least 0.99 to another kept image, in [0, 1]. Of
            more than 2,048 kept images it is estimated on a random sample of 2,048.
    """

    similarity: float
    divergence: float
    spread: float
    duplicates: float

    def as_json(self) -> dict[str, float]:
        """Returns the numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class Diagnosis:
    """Diagnostics of kept images, and of as many random images of the source.

    Args:
        images: Number of kept images.
        kept: Diagnostics of the kept images.
        random: Diagnostics of random images of the same number, which ``kept`` is read against.
    """

    images: int
    kept: Diagnostics
    random: Diagnostics


def diagnose_kept(
    source: Images, target: Images, backbone: nn.Module, kept: Sequence[Tensor], cache: Path, num_workers: int = 0
) -> list[Diagnosis]:
    """Diagnoses several sets of kept images. Every rank must call this; all get the same.

    Features and clusters of the source are taken from the cache, where Feature Mapping leaves the same ones.

    Args:
        source: Source under the evaluation transform.
        target: Training images of the target under the evaluation transform.
        backbone: Network that maps ``[B, 3, H, W]`` to features ``[B, D]``.
        kept: Int64 tensors of source images, ascending, at least one image each.
        cache: Cache folder.
        num_workers: Number of processes that load images on each rank.

    Raises:
        InputError: If nothing is kept, there are no target images, or features are not finite.
    """
    features = SourceFeatures(backbone, source, cache, num_workers)
    features.extract()
    wanted = extract_features(backbone, target, num_workers)
    counts = sorted({len(one) for one in kept})
    references = [random_images(count, len(features)) for count in counts]

    def measured() -> list[Diagnostics]:
        clusters = cached_clusters(features, suggested_clusters(len(features)), 0, cache)
        return measure(features, clusters, wanted, [*kept, *references])

    found = broadcast_from_rank0(measured)
    random = dict(zip(counts, found[len(kept) :], strict=True))
    return [Diagnosis(len(one), own, random[len(one)]) for one, own in zip(kept, found, strict=False)]


def random_images(count: int, total: int, seed: int = 0) -> Tensor:
    """Draws images without replacement.

    Args:
        count: Number of images to draw, at most ``total``.
        total: Number of source images.
        seed: Seed of the draw.

    Returns:
        Int64 tensor ``[count]``, ascending.
    """
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def measure(features: SourceFeatures, clusters: Clusters, wanted: Tensor, kept: Sequence[Tensor]) -> list[Diagnostics]:
    """Measures several sets of kept images in one pass over the source's features.

    Args:
        features: Features of the source, read shard by shard.
        clusters: Partition of the source by these features.
        wanted: Float32 tensor ``[M, D]``, the features of the target images.
        kept: Int64 tensors of source images, ascending.

    Raises:
        InputError: If a set or the target is empty, or the target's features have another width than the source's.
    """
    if len(wanted) == 0:
        raise InputError("the target has no training images, so nothing can be held against them")
    for images in kept:
        if len(images) == 0:
            raise InputError("no image is kept, so there is nothing to diagnose")
    directions = Directions(features, "source")
    target = _with_own_axis(directions.of_target(wanted))
    sets = [_KeptSet(images, target, directions) for images in kept]
    for block, rows in directions:
        placed = _with_own_axis(rows)
        for one in sets:
            one.add(block, placed)
    votes = nearest(wanted.float(), clusters.centroids).bincount(minlength=len(clusters.centroids))
    return [
        Diagnostics(
            similarity=float(one.similarity.mean()),
            divergence=_divergence(votes, _counts(clusters, one.images)),
            spread=_vendi_score(one.products / len(one.images)),
            duplicates=float(one.copied.double().mean()),
        )
        for one in sets
    ]


class _KeptSet:
    """Sums over the kept images that have been read so far.

    Args:
        images: Int64 tensor ``[n]`` of source images, ascending.
        target: Float64 tensor ``[M, D + 1]``, the directions of the target images.
        directions: Directions of the source.

    Attributes:
        similarity: Float64 tensor ``[M]``, of each target image to its nearest kept image.
        products: Float64 tensor ``[D + 1, D + 1]``, the sum of outer products of the kept images.
        copied: Bool tensor ``[Q]``, whether each sampled image has a duplicate.
    """

    def __init__(self, images: Tensor, target: Tensor, directions: Directions) -> None:
        self.images = images
        self.target = target
        self.sampled = images[random_images(min(len(images), SAMPLED), len(images))]
        self.rows = _with_own_axis(directions.of_target(directions.features.rows(self.sampled)))
        self.similarity = torch.full((len(target),), -torch.inf, dtype=torch.float64)
        self.products = torch.zeros(target.shape[1], target.shape[1], dtype=torch.float64)
        self.copied = torch.zeros(len(self.sampled), dtype=torch.bool)

    def add(self, block: range, placed: Tensor) -> None:
        """Adds the kept ones of some images.

        Args:
            block: The images.
            placed: Float64 tensor ``[n, D + 1]``, their directions.
        """
        bounds = torch.searchsorted(self.images, torch.tensor([block.start, block.stop]))
        images = self.images[int(bounds[0]) : int(bounds[1])]
        if len(images) == 0:
            return
        rows = placed[images - block.start]
        self.products.addmm_(rows.T, rows)
        for start in range(0, len(self.target), _ROWS):
            part = slice(start, start + _ROWS)
            found = (self.target[part] @ rows.T).amax(1)
            self.similarity[part] = torch.maximum(self.similarity[part], found)
        alike = (self.rows @ rows.T >= DUPLICATE) & (self.sampled[:, None] != images)
        self.copied |= alike.any(1)


def _with_own_axis(rows: Tensor) -> Tensor:
    """Gives images without a direction, whose features are the source's mean, a direction of their own.

    Args:
        rows: Float64 tensor ``[n, D]`` of length 1, or 0 without a direction.

    Returns:
        Float64 tensor ``[n, D + 1]``, every row of length 1.
    """
    lost = rows.square().sum(1, keepdim=True) < 0.5
    return torch.cat([rows.masked_fill(lost, 0.0), lost.double()], 1)


def _counts(clusters: Clusters, images: Tensor) -> Tensor:
    return clusters.unit_of_sample[images].long().bincount(minlength=len(clusters.centroids))


def _divergence(wanted: Tensor, kept: Tensor) -> float:
    """KL(target || kept) in nats, from counts ``[K]`` of both; one image is added to each cluster of the kept ones."""
    p = wanted.double() / wanted.sum()
    q = (kept.double() + 1) / (kept.sum() + len(kept))
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum())


def _vendi_score(matrix: Tensor) -> float:
    """Exponential of the entropy of a symmetric matrix's eigenvalues, whose sum is 1."""
    values = torch.linalg.eigvalsh(matrix).clamp(min=0)
    return float(torch.special.entr(values).sum().exp())
