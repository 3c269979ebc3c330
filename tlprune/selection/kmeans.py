"""K-means clusters of a source's features: faiss fits a fixed-size sample, then every image joins its centroid."""

import math
from dataclasses import dataclass
from pathlib import Path
from warnings import warn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tlprune.errors import InputError
from tlprune.progress import show_progress
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
"""Maximum number of images per centroid, drawn by the seed, that centroids are fitted to; faiss's own bound."""

SEEDING = "AFK-MC2"
"""Method that draws the first centroids."""

ITERATIONS = 20
"""Number of iterations of Lloyd's algorithm."""


@dataclass(frozen=True)
class Clusters:
    """Partition of a source by its features.

    Args:
        centroids: Float32 tensor ``[K, D]``; centroids without images are left out.
        unit_of_sample: Int32 tensor ``[N]``, the nearest centroid of each source image.
        empty: Number of centroids without images.
    """

    centroids: Tensor
    unit_of_sample: Tensor
    empty: int = 0

    @property
    def effective_number(self) -> float:
        """Number of equal-size clusters with the same entropy: the exponential of the entropy of sizes, at most K."""
        sizes = self.unit_of_sample.long().bincount(minlength=len(self.centroids)).double()
        shares = sizes / sizes.sum()
        return math.exp(float(torch.special.entr(shares).sum()))


def suggested_clusters(images: int) -> int:
    """Suggests a number of clusters: the square root of the number of images.

    A cluster then has as many images as there are clusters, so neither votes nor the kept units are too coarse.

    Args:
        images: Number of source images, at least 1.

    Example:
        >>> suggested_clusters(10_000)
        100
    """
    return max(1, round(math.sqrt(images)))


def fit_clusters(features: SourceFeatures, num_clusters: int, seed: int) -> Clusters:
    """Partitions a source. Equal seeds give equal clusters, regardless of the number of threads.

    The first centroids are drawn by AFK-MC2 (Bachem et al., "Fast and Provably Good Seedings for k-Means", NeurIPS
    2016), which costs very little and ends closer to the optimum than uniformly drawn centroids.

    Args:
        features: Features of the source, read shard by shard.
        num_clusters: Number of clusters ``K``, from 1 to the number of images.
        seed: Seed of the sample and the first centroids.

    Raises:
        InputError: If there are fewer images than clusters.
    """
    total = len(features)
    if num_clusters > total:
        raise InputError(f"`num_clusters` is {num_clusters}, the source has only {total} images")
    generator = torch.Generator().manual_seed(seed)
    size = min(total, POINTS_PER_CENTROID * num_clusters)
    sample = torch.randperm(total, generator=generator)[:size].sort().values
    rows = features.rows(sample)
    centroids = _fit_centroids(rows, num_clusters, seed)
    units = torch.empty(total, dtype=torch.int32)
    with show_progress("join images to clusters", total) as advance:
        for images, shard in features:
            units[images.start : images.stop] = nearest(shard, centroids)
            advance(len(images))
    sizes = units.long().bincount(minlength=num_clusters)
    filled = (sizes > 0).nonzero().squeeze(1)
    renumbered = torch.full((num_clusters,), -1, dtype=torch.int32)
    renumbered[filled] = torch.arange(len(filled), dtype=torch.int32)
    return Clusters(centroids[filled].contiguous(), renumbered[units.long()], num_clusters - len(filled))


def _fit_centroids(rows: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Fits centroids ``[K, D]`` to float32 ``[n, D]``.

    One iteration at a time gives what :data:`ITERATIONS` in one call of faiss give, and shows how far it is.
    """
    import faiss

    kmeans = faiss.Kmeans(
        rows.shape[1],
        num_clusters,
        niter=1,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.cp.init_method = faiss.ClusteringInitMethod_AFK_MC2
    before = math.nan
    with show_progress(f"cluster {len(rows):,} images", ITERATIONS, "iterations") as advance:
        for number in range(ITERATIONS):
            error = kmeans.train(rows.numpy(), init_centroids=None if number == 0 else kmeans.centroids)
            advance(1)
            if error == before:  # nothing moves any more
                break
            before = error
    return torch.from_numpy(kmeans.centroids)


def cached_clusters(features: SourceFeatures, num_clusters: int, seed: int, cache: Path) -> Clusters:
    """Runs :func:`fit_clusters` once for all targets; warns if clusters are empty or collapse.

    Args:
        features: Features of the source.
        num_clusters: Number of clusters, ``K``.
        seed: Seed of k-means.
        cache: Cache folder.

    Raises:
        InputError: See :func:`fit_clusters`.
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
    """Returns the file of :func:`cached_clusters`, whose name depends on everything the clusters depend on."""
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
