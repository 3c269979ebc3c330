"""DataLoaders over fewer samples of the same data set, with all else as it was."""

from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from tlprune.data.adapters import check_by_index
from tlprune.data.pruned_dataset import PrunedDataset
from tlprune.errors import InputError

__all__ = ["rebuilt"]

_KEPT = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator", "in_order"),
    *("multiprocessing_context", "prefetch_factor", "persistent_workers", "pin_memory_device"),
)
"""Arguments of a DataLoader that are its attributes too."""

_INSTEAD = "prune its data set with tlprune.prune() in place of the DataModule"


def rebuilt(loaders: Any, change: Callable[[Any], PrunedDataset]) -> Any:
    """Builds the same loaders over fewer samples.

    Batch size, processes, collation and the kind of sampler stay. Samplers that name samples or weigh them do so for
    those that are left; one that draws as many as the data set has draws as many as are left.

    Args:
        loaders: A DataLoader, or a CombinedLoader, lists or dictionaries of these.
        change: From the data set of a loader to what is left of it.

    Raises:
        InputError: A loader cannot be rebuilt without losing what it does.
    """
    if isinstance(loaders, CombinedLoader):
        combined = copy(loaders)
        combined.flattened = [rebuilt(one, change) for one in loaders.flattened]
        return combined
    if isinstance(loaders, list | tuple):
        parts = [rebuilt(one, change) for one in loaders]
        return type(loaders)(*parts) if hasattr(loaders, "_fields") else type(loaders)(parts)
    if isinstance(loaders, dict):
        return {name: rebuilt(one, change) for name, one in loaders.items()}
    if type(loaders) is not DataLoader:
        raise InputError(f"a loader must be a torch DataLoader to be pruned, got {type(loaders).__name__}; {_INSTEAD}")
    check_by_index(loaders.dataset)
    return _rebuilt(loaders, change(loaders.dataset))


def _rebuilt(loader: DataLoader[Any], pruned: PrunedDataset) -> DataLoader[Any]:
    kept = {name: getattr(loader, name) for name in _KEPT if hasattr(loader, name)}
    if not kept.get("pin_memory_device"):
        kept.pop("pin_memory_device", None)  # torch is about to drop it, and warns where it is named
    batches = loader.batch_sampler
    if batches is None:  # samples one by one, without batches
        return DataLoader(pruned, batch_size=None, sampler=_sampler(loader.sampler, pruned), **kept)
    if type(batches) is not BatchSampler:
        what = f"no batch sampler of its own to be pruned, got {type(batches).__name__}"
        raise InputError(f"a loader must have {what}; {_INSTEAD}")
    sampler = _sampler(batches.sampler, pruned)
    if loader.batch_size is None:  # the batch sampler was given
        batched = BatchSampler(sampler, batches.batch_size, batches.drop_last)
        return DataLoader(pruned, batch_sampler=batched, **kept)
    kept |= {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    if type(loader.sampler) is SequentialSampler:
        return DataLoader(pruned, shuffle=False, **kept)
    return DataLoader(pruned, sampler=sampler, **kept)


def _sampler(sampler: Any, pruned: PrunedDataset) -> Sampler[int]:
    """Builds a sampler of the same kind for what is left."""
    kind, before = type(sampler), len(pruned.dataset)  # type: ignore[arg-type]
    if kind is SequentialSampler:
        return SequentialSampler(pruned)
    if kind is RandomSampler:
        count = None if sampler.num_samples == before else sampler.num_samples
        return RandomSampler(pruned, sampler.replacement, count, sampler.generator)
    if kind is DistributedSampler:
        options = {name: getattr(sampler, name) for name in ("num_replicas", "rank", "shuffle", "seed", "drop_last")}
        shared: DistributedSampler[Any] = DistributedSampler(pruned, **options)
        shared.set_epoch(sampler.epoch)
        return shared
    if kind is SubsetRandomSampler:
        place = {index: new for new, index in enumerate(pruned.indices)}
        left = [place[int(index)] for index in sampler.indices if int(index) in place]
        if not left:
            raise InputError(f"SubsetRandomSampler: none of its {len(sampler.indices):,} samples is kept")
        return SubsetRandomSampler(left, sampler.generator)
    if kind is WeightedRandomSampler:
        return _weighted(sampler, pruned, before)
    raise InputError(f"a loader must have a sampler of torch to be pruned, got {kind.__name__}; {_INSTEAD}")


def _weighted(sampler: WeightedRandomSampler, pruned: PrunedDataset, before: int) -> WeightedRandomSampler:
    weights = torch.as_tensor(sampler.weights)
    if len(weights) != before:
        counts = f"{len(weights):,} weights, its data set has {before:,} samples"
        raise InputError(f"WeightedRandomSampler has {counts}")
    left = weights[torch.tensor(pruned.indices)]
    possible = int((left > 0).sum())
    if possible == 0:
        raise InputError(f"WeightedRandomSampler: all {len(left):,} samples that are kept have the weight 0")
    count = len(left) if sampler.num_samples == before else sampler.num_samples
    if not sampler.replacement:
        count = min(count, possible)
    return WeightedRandomSampler(left.tolist(), count, sampler.replacement, sampler.generator)
