"""Image features: the target's are held in memory, the source's on disk and computed once for all targets.

Features that are given in place of images are read where they are.

Source features are written as float16 shards, each written atomically and with a checksum. Memory use does not grow
with the source, a restart computes only missing shards, ranks share the work evenly, and damaged shards are recomputed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from warnings import warn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tlprune.distributed import (
    barrier,
    gather_from_ranks,
    raise_on_all_ranks,
    rank_and_world,
)
from tlprune.errors import InputError
from tlprune.progress import show_progress
from tlprune.selection.fixed_batches import (
    BATCH_SIZE,
    Images,
    batches_of,
    fixed_batches,
    named_samples,
    own_batches,
)
from tlprune.selection.forward import FORWARD, Precision, device_of, running
from tlprune.selection.given_features import GivenFeatures
from tlprune.storage.cache import forget
from tlprune.storage.fingerprint import digest_json, digest_tensors
from tlprune.storage.job_lock import one_job_at_a_time
from tlprune.storage.shard_files import DAMAGED, read_shard, write_shard

__all__ = ["SHARD_SIZE", "SourceFeatures", "extract_features"]

SHARD_SIZE = 64 * BATCH_SIZE
"""Number of images per shard."""

_NAME = "features"


def extract_features(
    backbone: nn.Module, images: Images, num_workers: int = 0, precision: Precision = "float32"
) -> Tensor:
    """Extracts the features of all images into memory. Every rank must call this; all get the same result.

    Args:
        backbone: Network that maps ``[B, 3, H, W]`` to features ``[B, D]``; see :mod:`tlprune.selection.forward`.
        images: Images under the evaluation transform.
        num_workers: Number of processes that load images on each rank.
        precision: Precision of the backbone.

    Returns:
        Float32 tensor ``[N, D]`` on the CPU, rounded to float16 like the source's features; given ones are not rounded.

    Raises:
        InputError: If there are no images, or features are not finite; the images are named.
    """
    if len(images) == 0:
        raise InputError("there are no images to take features of")
    if isinstance(images, GivenFeatures):
        return images.read_features(range(len(images)))
    world = rank_and_world()[1]
    features = raise_on_all_ranks(lambda: _own_features(backbone, images, num_workers, precision))
    if world > 1:
        widths = gather_from_ranks(None if features is None else features.shape[1])
        if features is None:  # fewer batches than ranks
            features = torch.full((len(images), next(filter(None, widths))), -torch.inf)
        device = device_of(backbone)
        features = features.to(device)
        dist.all_reduce(features, dist.ReduceOp.MAX)
        features = features.cpu()
    if features is None:
        raise RuntimeError("no batch was computed")
    return features


def _own_features(backbone: nn.Module, images: Images, num_workers: int, precision: Precision) -> Tensor | None:
    """Returns float32 ``[N, D]``, minus infinity in rows of other ranks; None if this rank has no batch."""
    features: Tensor | None = None
    batches = own_batches(len(images))
    with show_progress("features of the target", sum(map(len, batches))) as advance:
        for indices, found in _features(backbone, images, batches, num_workers, precision):
            if features is None:
                features = torch.full((len(images), found.shape[1]), -torch.inf)
            features[indices] = found.float()
            advance(len(indices))
    return features


@runtime_checkable
class _Named(Protocol):
    def fingerprint(self) -> str: ...


class SourceFeatures:
    """Features of a source, stored in shards on disk, or given and read from there in parts.

    Args:
        backbone: Network that maps ``[B, 3, H, W]`` to features ``[B, D]``; not used for features that are given.
        images: Source in evaluation, or its features; the folder name depends on its fingerprint, version, transform
            and the weights.
        cache: Cache folder, which all ranks must share.
        num_workers: Number of processes that load images on each rank.
        precision: Precision of the backbone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        images: Images,
        cache: Path,
        num_workers: int = 0,
        precision: Precision = "float32",
    ) -> None:
        self.backbone = backbone
        self.images = images
        self.num_workers = num_workers
        self.precision = precision
        if isinstance(images, GivenFeatures):
            self.key = digest_json(["given", images.digest_features()])
            self.folder = cache / "features" / self.key[:32]  # stays empty
            return
        named = {
            "digest": images.fingerprint() if isinstance(images, _Named) else None,
            "stamp": getattr(images, "version", None),
            "seen_as": getattr(images, "transform_config", None),
        }
        weights = digest_tensors(backbone.state_dict())
        how = [type(backbone).__qualname__, BATCH_SIZE, SHARD_SIZE, FORWARD, precision, "float16"]
        self.key = digest_json([named, weights, how])
        self.folder = cache / "features" / self.key[:32]
        self._checked: dict[int, tuple[int, int, int]] = {}

    def __len__(self) -> int:
        """Returns the number of images, ``N``."""
        return len(self.images)

    @property
    def shards(self) -> list[range]:
        """Image indices of each shard."""
        return [range(start, min(start + SHARD_SIZE, len(self))) for start in range(0, len(self), SHARD_SIZE)]

    @property
    def missing(self) -> list[int]:
        """Returns the numbers of the shards that do not exist yet."""
        if isinstance(self.images, GivenFeatures):
            return []
        return [number for number in range(len(self.shards)) if not self._path(number).is_file()]

    def extract(self) -> int:
        """Computes the missing shards. Every rank must call this.

        Returns:
            Number of shards that were missing.

        Raises:
            InputError: If features are not finite (images are named), the disk is full, or ranks share no folder.
        """
        if isinstance(self.images, GivenFeatures):
            return 0
        with one_job_at_a_time(self.folder):
            missing = self.missing
            barrier()  # no rank may write before all ranks have listed the missing shards
            rank, world = rank_and_world()
            shares = self._shares(missing, world)
            raise_on_all_ranks(lambda: self._compute(shares[rank]))
            if world > 1:
                barrier()
                raise_on_all_ranks(lambda: self._join(shares, rank))
            if rank == 0:  # parts are joined, or a killed command left them
                forget(*self.folder.glob("*.part"))
            absent = [number for number in missing if not self._path(number).is_file()]
        if absent:
            raise InputError(f"{self._path(absent[0])}: written by another rank and not seen here; ranks share a cache")
        return len(missing)

    def __iter__(self) -> Iterator[tuple[range, Tensor]]:
        """Yields the image indices and the float32 features ``[n, D]`` of each shard, in order."""
        for number, images in enumerate(self.shards):
            yield images, self._read(number).float()

    def rows(self, indices: Tensor) -> Tensor:
        """Returns the features of some images.

        Args:
            indices: Int64 tensor ``[n]``, ascending.

        Returns:
            Float32 tensor ``[n, D]``.
        """
        bounds = torch.searchsorted(indices, torch.tensor([shard.start for shard in self.shards] + [len(self)]))
        found: Tensor | None = None
        for number, images in enumerate(self.shards):
            begin, end = bounds[number], bounds[number + 1]
            if begin < end:
                shard = self._read(number)
                if found is None:
                    found = torch.empty(len(indices), shard.shape[1])
                found[begin:end] = shard[indices[begin:end] - images.start].float()
        return torch.empty(0, 0) if found is None else found

    def among(self, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the features of some images, shard by shard; shards without any are not read.

        Args:
            wanted: Bool tensor ``[N]``.

        Yields:
            Image indices, int64 ``[n]``, ascending, and features ``[n, D]``: float16, or float32 where they are given.
        """
        for number, images in enumerate(self.shards):
            indices = wanted[images.start : images.stop].nonzero().squeeze(1)
            if len(indices):
                shard = self._read(number)
                yield indices + images.start, shard if len(indices) == len(images) else shard[indices]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.safetensors"

    def _path_of(self, part: "_Part") -> Path:
        whole = part.images == self.shards[part.number]
        return self._path(part.number) if whole else self.folder / f"{part.number:06}-{part.images.start}.part"

    def _shares(self, numbers: list[int], world: int) -> list[list["_Part"]]:
        """Returns what each rank computes: as many batches as the others; a shard may be split between ranks."""
        all_batches, each = batches_of(len(self)), SHARD_SIZE // BATCH_SIZE
        wanted = [(number, one) for number in numbers for one in all_batches[number * each : (number + 1) * each]]
        shares = []
        for rank in range(world):
            own = wanted[len(wanted) * rank // world : len(wanted) * (rank + 1) // world]
            by_shard: dict[int, list[range]] = {}
            for number, batch in own:
                by_shard.setdefault(number, []).append(batch)
            shares.append([_Part(number, range(b[0].start, b[-1].stop)) for number, b in by_shard.items()])
        return shares

    def _compute(self, parts: list["_Part"]) -> None:
        """Computes parts of shards one after the other with a single set of loading processes."""
        batches = batches_of(len(self))
        begins = [part.images.start // BATCH_SIZE for part in parts]
        wanted = [
            one for part, begin in zip(parts, begins, strict=True) for one in batches[begin : begin + part.batches]
        ]
        rows: list[Tensor] = []
        queue = iter(parts)
        part = next(queue, None)
        with show_progress("features", sum(map(len, wanted))) as advance:
            for indices, found in _features(self.backbone, self.images, wanted, self.num_workers, self.precision):
                rows.append(found)
                advance(len(indices))
                if part is not None and int(indices[-1]) + 1 == part.images.stop:
                    write_shard(self._path_of(part), _NAME, torch.cat(rows))
                    rows, part = [], next(queue, None)

    def _join(self, shares: list[list["_Part"]], rank: int) -> None:
        """Joins the parts of shards that several ranks computed; the rank of the first part does so."""
        for part in shares[rank]:
            parts = [one for share in shares for one in share if one.number == part.number]
            if parts[0] is not part or len(parts) == 1:
                continue
            try:
                rows = [read_shard(self._path_of(one), _NAME) for one in parts]
            except DAMAGED as error:
                what = f"{self._path(part.number)}: a part that another rank wrote cannot be read"
                raise InputError(f"{what} ({error}); is the disk failing, or do ranks share no cache?") from error
            write_shard(self._path(part.number), _NAME, torch.cat(rows))

    def _read(self, number: int) -> Tensor:
        """Reads a shard as float16 ``[n, D]``; recomputes it with a warning if it is damaged.

        Features that are given are read as float32. The checksum of a file is compared when this object reads it first,
        and again once the file has changed.
        """
        if isinstance(self.images, GivenFeatures):
            return self.images.read_features(self.shards[number])
        path = self._path(number)
        for again in (False, True):
            try:
                state = path.stat()
                version = (state.st_ino, state.st_size, state.st_mtime_ns)
                known = self._checked.get(number) == version
                features = read_shard(path, _NAME, check=not known)
                if known or len(features) == len(self.shards[number]):
                    self._checked[number] = version
                    return features
            except DAMAGED:
                pass
            if not again:
                warn(f"{path}: damaged; computing these features again", stacklevel=2)
                self._compute([_Part(number, self.shards[number])])
        raise InputError(f"{path}: damaged again right after it was written; is the disk failing?")


@dataclass(frozen=True)
class _Part:
    """Part of a shard that one rank computes.

    Args:
        number: Number of the shard.
        images: Image indices, whole batches.
    """

    number: int
    images: range

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-len(self.images) // BATCH_SIZE)


def _features(
    backbone: nn.Module, images: Images, batches: list[range], num_workers: int, precision: Precision
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields indices ``[b]`` and finite float16 features ``[b, D]`` on the CPU for each batch."""
    with running(backbone, precision) as run:
        for indices, pixels, _ in fixed_batches(images, batches, num_workers, device_of(backbone)):
            found = run(pixels)[: len(indices)].cpu().half().clone()
            if found.ndim != 2:
                raise InputError(f"the surrogate's backbone gives {found.ndim - 1} dimensions an image, not 1")
            bad = indices[~found.isfinite().all(1)]
            if len(bad):
                raise InputError(f"the surrogate's features are NaN or beyond 65504 for {named_samples(images, bad)}")
            yield indices, found
