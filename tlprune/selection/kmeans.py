"""Clusters of a source's features: k-means by faiss on a sample of fixed size, then every image to its centroid."""

import math
from dataclasses import dataclass
from pathlib import Path
from warnings import warn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection.centroids import nearest
from tlprune.selection.features import SourceFeatures
from tlprune.storage.atomic import atomic_path
from tlprune.storage.cache import locked
from tlprune.storage.fingerprint import digest_json, digest_tensors

__all__ = [
    "ITERATIONS",
    "POINTS_PER_CENTROID",
    "SEEDING",
    "Clusters",
    "cached_clusters",
    "clusters_path",
    "fit_clusters",
    "suggested_clusters",
]

POINTS_PER_CENTROID = 256
"""Centroids are fitted to at most so many images each, drawn by the seed: faiss's own bound."""

SEEDING = "AFK-MC2"
"""How first centroids are drawn."""

ITERATIONS = 20
"""Rounds of Lloyd's algorithm."""


@dataclass(frozen=True)
class Clusters:
    """A partition of a source by its features.

    Args:
        centroids: ``[K, D]`` float32; those without images are left out.
        unit_of_sample: ``[N]`` int32, the nearest centroid of each source image.
        empty: How many centroids were left without images.
    """

    centroids: Tensor
    unit_of_sample: Tensor
    empty: int = 0

    @property
    def effective_number(self) -> float:
        """How many clusters of one size would be as uneven: the exponential of the entropy of the sizes, at most K."""
        sizes = self.unit_of_sample.long().bincount(minlength=len(self.centroids)).double()
        shares = sizes / sizes.sum()
        return math.exp(float(torch.special.entr(shares).sum()))


def suggested_clusters(images: int) -> int:
    """A number of clusters to begin with: the square root of the number of images.

    A cluster then has as many images as there are clusters, so neither a vote nor what a vote keeps is too coarse.

    Args:
        images: Images of the source, at least 1.

    Example:
        >>> suggested_clusters(10_000)
        100
    """
    return max(1, round(math.sqrt(images)))


def fit_clusters(features: SourceFeatures, num_clusters: int, seed: int) -> Clusters:
    """Partitions a source. The same seed gives the same clusters, whatever the number of threads.

    First centroids are drawn by AFK-MC2 (Bachem et al., "Fast and Provably Good Seedings for k-Means", NeurIPS 2016),
    which costs next to nothing and ends nearer to the optimum than centroids drawn by chance.

    Args:
        features: Of the source; read shard by shard.
        num_clusters: ``K``, from 1 to the number of images.
        seed: Decides the sample and the first centroids.

    Raises:
        InputError: There are fewer images than clusters.
    """
    import faiss

    total = len(features)
    if num_clusters > total:
        raise InputError(f"`num_clusters` is {num_clusters}, the source has only {total} images")
    generator = torch.Generator().manual_seed(seed)
    size = min(total, POINTS_PER_CENTROID * num_clusters)
    sample = torch.randperm(total, generator=generator)[:size].sort().values
    rows = features.rows(sample)
    kmeans = faiss.Kmeans(
        rows.shape[1],
        num_clusters,
        niter=ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.cp.init_method = faiss.ClusteringInitMethod_AFK_MC2
    kmeans.train(rows.numpy())
    centroids = torch.from_numpy(kmeans.centroids)
    units = torch.empty(total, dtype=torch.int32)
    for images, shard in features:
        units[images.start : images.stop] = nearest(shard, centroids)
    sizes = units.long().bincount(minlength=num_clusters)
    filled = (sizes > 0).nonzero().squeeze(1)
    renumbered = torch.full((num_clusters,), -1, dtype=torch.int32)
    renumbered[filled] = torch.arange(len(filled), dtype=torch.int32)
    return Clusters(centroids[filled].contiguous(), renumbered[units.long()], num_clusters - len(filled))


def cached_clusters(features: SourceFeatures, num_clusters: int, seed: int, cache: Path) -> Clusters:
    """As :func:`fit_clusters`, once for all targets; warns where clusters are empty or collapse.

    Args:
        features: Of the source.
        num_clusters: ``K``.
        seed: Of k-means.
        cache: The cache folder.

    Raises:
        InputError: As :func:`fit_clusters`.
    """
    path = clusters_path(features, num_clusters, seed, cache)
    with locked(path):
        found = _read(path, num_clusters)
        if found is None:
            found = fit_clusters(features, num_clusters, seed)
            tensors = {"centroids": found.centroids, "unit_of_sample": found.unit_of_sample}
            with atomic_path(path) as temporary:
                save_file(tensors, temporary, {"checksum": digest_tensors(tensors)})
    _warn_of_collapse(found, num_clusters)
    return found


def clusters_path(features: SourceFeatures, num_clusters: int, seed: int, cache: Path) -> Path:
    """The file of :func:`cached_clusters`; its name says what the clusters depend on."""
    key = digest_json([features.key, num_clusters, seed, SEEDING, ITERATIONS, POINTS_PER_CENTROID])
    return cache / "clusters" / f"{key[:32]}.safetensors"


def _read(path: Path, num_clusters: int) -> Clusters | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("centroids", "unit_of_sample")}
            metadata = file.metadata() or {}
        if metadata.get("checksum") == digest_tensors(tensors):
            return Clusters(**tensors, empty=num_clusters - len(tensors["centroids"]))
    except (SafetensorError, OSError, ValueError):
        pass
    warn(f"{path}: damaged; clustering again", stacklevel=3)
    return None


def _warn_of_collapse(found: Clusters, asked: int) -> None:
    if found.empty:
        warn(
            f"k-means left {found.empty} of {asked} clusters without images, because images are duplicated or hardly "
            f"differ; ranked are the other {asked - found.empty}",
            stacklevel=3,
        )
    if asked >= 4 and found.effective_number < asked / 4:
        warn(
            f"clusters collapse: their sizes are as uneven as if there were {found.effective_number:.1f} of {asked}; "
            f"the surrogate's features hardly tell images apart, so train it longer or ask for fewer clusters",
            stacklevel=3,
        )
