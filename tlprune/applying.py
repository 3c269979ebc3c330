"""Applies a Selection to images that it was not made from: another source, or further shards of the same."""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from tlprune.data.applied_folder import AppliedFolder, Counts, Damaged
from tlprune.data.blocks import Blocks, ListedBlocks, ShardBlocks
from tlprune.data.class_names import LISTS, check_class_names, open_class_names
from tlprune.data.damaged_images import MOST_SKIPPED
from tlprune.data.datasets import ImageSet
from tlprune.data.opening import Source, open_images, usual_size
from tlprune.data.sources import sharded_source
from tlprune.distributed import barrier, broadcast_from_rank0, raise_on_all_ranks, rank_and_world
from tlprune.errors import InputError, did_you_mean, require_within
from tlprune.membership_rules import By, Rule, rule_of
from tlprune.progress import Advance, show_progress
from tlprune.selection.membership import DAMAGED, NO_UNIT, Membership
from tlprune.selection.ranking import ArgumentBudget, Budget
from tlprune.selection.selection import Selection
from tlprune.selection_inputs import SelectOptions, as_list, check_names
from tlprune.storage.fingerprint import digest_tensors
from tlprune.storage.job_lock import one_job_at_a_time
from tlprune.surrogates import Surrogate, default_device

__all__ = ["Applied", "apply"]

Write = Literal["lists", "shards"]


@dataclass(frozen=True)
class Applied:
    """What :func:`apply` kept.

    Args:
        output: The folder with a list of kept images for each shard, or for each block of a listed source.
        by: How images found their unit: ``labels``, ``prediction`` or ``centroids``.
        blocks: Number of shards or blocks.
        images: Number of images.
        kept: Number of images that are kept.
        kept_units: Number of images of each kept unit, by name, best first.
        unknown: Number of images of each class of the source that the Selection does not have.
        damaged: Number of images that cannot be decoded, which are not kept, and the name of the first.
    """

    output: Path
    by: str
    blocks: int
    images: int
    kept: int
    kept_units: dict[str, int]
    unknown: dict[str, int]
    damaged: Damaged

    @property
    def lists(self) -> list[Path]:
        """Paths of the lists, in order of their names."""
        return sorted((self.output / "lists").rglob("*.csv"))

    @property
    def absent(self) -> list[str]:
        """Names of kept units of which the source has no image."""
        return [name for name, count in self.kept_units.items() if count == 0]


def apply(
    selection: Selection | str | os.PathLike[str],
    source: Source | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ratio: float | None = None,
    units: int | None = None,
    images: int | None = None,
    coverage: float | None = None,
    surrogate: Surrogate | None = None,
    surrogate_backbone: str | None = None,
    by: By = "auto",
    class_names: str | None = None,
    write: Write = "lists",
    on_bad_image: Literal["error", "skip"] = "error",
    num_workers: int = 0,
    cache: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    device: torch.device | str | None = None,
) -> Applied:
    """Keeps the images of another source that belong to the units that a Selection keeps within a budget.

    A source in shards (``webdataset:``, ``parquet:``) is opened shard by shard, so that memory does not grow with the
    number of images. In a process group every rank calls this; ranks take whole shards, and all get the same result. A
    call that was stopped goes on after the last shard that was finished.

    Args:
        selection: The Selection, or its file. Its units are classes or clusters.
        source: The other source, as :func:`select` takes it.
        output: Folder to write: ``lists/NAME.csv`` for each shard, and ``applied.json``.
        ratio: Share of units to remove, in [0, 1).
        units: Number of units to keep.
        images: Most images to keep of the source that the Selection was made from; the other source may have more.
        coverage: Share of votes that the kept units hold, in (0, 1].
        surrogate: The network that the Selection was made with; None takes it from where the Selection names it.
        surrogate_backbone: Name of the network, where its file is silent.
        by: What says to which unit an image belongs: ``labels`` of the source, compared by name; ``prediction``, the
            class that the surrogate predicts; ``centroids``, the nearest centroid of the Selection; ``auto`` takes
            labels for classes where the source has any, else centroids if the Selection has them, else the prediction.
        class_names: Name of each class number, where labels of the source are numbers: ``imagenet1k``, or a file.
        write: ``lists``, or ``shards`` to copy the kept samples to new shards as well.
        on_bad_image: What happens to images that cannot be decoded: ``error`` or ``skip``.
        num_workers: Processes of each rank that load images.
        cache: The cache folder; None for the user's.
        fresh: Whether finished shards of an earlier call are done again.
        device: Where the surrogate runs; None for a GPU if there is one.

    Returns:
        Numbers of images, in all and by unit.

    Raises:
        InputError: Something is missing, cannot be opened, or does not fit.
    """
    for name, value, choices in (("by", by, By), ("write", write, Write)):
        _require_one_of(name, value, get_args(choices))
    _require_one_of("on_bad_image", on_bad_image, ("error", "skip"))
    require_within("num_workers", num_workers, 0)
    found = selection if isinstance(selection, Selection) else Selection.load(selection)
    if found.unit_kind == "sample":
        what = f"this selection ({found.method}) ranks single images, which no other source has"
        raise InputError(f"{what}; make one by LabelMapping or FeatureMapping, or from the other source itself")
    budget = ArgumentBudget(ratio, units, images, coverage)
    kept = found.units_kept(budget)
    other: Source = as_list([source])[0]
    check_names(other, [], [] if surrogate is None else [surrogate], SelectOptions())
    names = _class_names(class_names)
    shards = sharded_source(other)
    blocks: Blocks = ListedBlocks(open_images(other, cache)) if shards is None else ShardBlocks(shards)
    probes = [blocks.open(number) for number in sorted({0, len(blocks) // 2, len(blocks) - 1})]
    if write == "shards":
        blocks.copier(probes[0])
    rule = rule_of(
        found,
        probes,
        by,
        names,
        surrogate,
        surrogate_backbone,
        usual_size(other),
        on_bad_image == "skip",
        num_workers,
        torch.device(device) if device is not None else default_device(),
    )
    del probes
    folder = AppliedFolder(output, _settings(found, budget, rule, blocks, write, names))
    broadcast_from_rank0(lambda: folder.check(fresh))
    work = _Work(found, set(kept.tolist()), rule, blocks, folder, write == "shards")
    with one_job_at_a_time(folder.path / "settings.json"):
        broadcast_from_rank0(lambda: folder.begin(fresh))
        missing = broadcast_from_rank0(
            lambda: [n for n in range(len(blocks)) if not folder.is_done(blocks.short(n), blocks.version(n))]
        )
        rank, world = rank_and_world()
        raise_on_all_ranks(lambda: work.do(missing[rank::world]))
        barrier()
        return broadcast_from_rank0(lambda: _united(found, kept.tolist(), rule.by, blocks, folder))


@dataclass(frozen=True)
class _Work:
    """What is done with each block."""

    selection: Selection
    kept: set[int]
    rule: Rule
    blocks: Blocks
    folder: AppliedFolder
    copies: bool

    def do(self, numbers: Sequence[int]) -> None:
        """Does some blocks, one after the other, and shows how far it is."""
        expected = array("q", map(self.blocks.count, numbers))  # eight bytes a block, of which there may be many
        total = sum(expected)
        with self.rule.ready(), show_progress("apply", total, estimated=self.blocks.estimated) as advance:
            for number, count in zip(numbers, expected, strict=True):
                version = self.blocks.version(number)  # before it is read: a change meanwhile is noticed next time
                images = self.blocks.open(number)
                total += len(images) - count
                advance(0, total)
                self._write(number, version, images, advance)

    def _write(self, number: int, version: list[int], images: ImageSet, advance: Advance) -> None:
        membership = self.rule.units(images, advance)
        units = membership.units.tolist()
        rows = [row for row, unit in enumerate(units) if unit in self.kept]
        labels = self.rule.names_of(images)
        columns = [self.blocks.key_column, "unit", *(["label"] if labels else [])]
        columns += [self.rule.closeness] if self.rule.closeness else []
        shard: tuple[str, Callable[[Path], None]] | None = None
        if self.copies:
            ending, copy = self.blocks.copier(images)
            shard = ending, lambda path: copy(rows, path)
        short = self.blocks.short(number)
        listed = self._rows(images, rows, membership, labels)
        self.folder.write_block(short, version, columns, listed, _counts(images, units, len(rows), labels), shard)

    def _rows(
        self, images: ImageSet, rows: Sequence[int], membership: Membership, labels: Sequence[str]
    ) -> Iterator[list[str]]:
        for row in rows:
            entry = [self.blocks.key(images, row), self.selection.name(int(membership.units[row]))]
            entry += [labels[int(images.labels[row])]] if labels else []
            yield entry if membership.closeness is None else [*entry, f"{float(membership.closeness[row]):.6g}"]


def _counts(images: ImageSet, units: list[int], kept: int, labels: Sequence[str]) -> Counts:
    damaged = [row for row, unit in enumerate(units) if unit == DAMAGED]
    unknown = [labels[int(images.labels[row])] for row, unit in enumerate(units) if unit == NO_UNIT and labels]
    return Counts(
        len(units),
        kept,
        Counter(unit for unit in units if unit >= 0),
        Counter(unknown),
        Damaged(len(damaged), images.name(damaged[0]) if damaged else None),
    )


def _united(selection: Selection, kept: list[int], by: str, blocks: Blocks, folder: AppliedFolder) -> Applied:
    """Sums up the counts of all blocks, one file at a time."""
    total = Counts()
    for number in range(len(blocks)):
        total.add(folder.counts(blocks.short(number)))
    if total.damaged.count > MOST_SKIPPED * total.images:
        share = f"{total.damaged.count:,} of {total.images:,} images cannot be decoded, more than {MOST_SKIPPED:.0%}"
        raise InputError(f"{share}; first {total.damaged.first}")
    kept_units = {selection.name(unit): total.units[unit] for unit in kept}
    summary = {"by": by, "blocks": len(blocks), "images": total.images, "kept": total.kept, "kept_units": kept_units}
    folder.finish(summary | {"unknown": dict(total.unknown), "damaged": vars(total.damaged)})
    unknown = dict(total.unknown.most_common())
    return Applied(folder.path, by, len(blocks), total.images, total.kept, kept_units, unknown, total.damaged)


def _settings(
    selection: Selection,
    budget: Budget,
    rule: Rule,
    blocks: Blocks,
    write: str,
    class_names: tuple[str, ...],
) -> dict[str, Any]:
    """All that the list of a block depends on, beside the block. Further shards in the same folder may be added."""
    return {
        "selection": selection.digest,
        "centroids": digest_tensors({"centroids": selection.centroids}) if rule.by == "centroids" else None,
        "budget": str(budget),
        "by": rule.by,
        "network": rule.network_fingerprint,
        "class_names": list(class_names),
        "folder": str(blocks.names.folder) if isinstance(blocks, ShardBlocks) else None,
        "listing": blocks.fingerprint,
        "write": write,
    }


def _class_names(given: str | None) -> tuple[str, ...]:
    if given is None:
        return ()
    if given not in LISTS:
        check_class_names(given)
    return open_class_names(given).classes


def _require_one_of(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"`{name}` {value!r}: {did_you_mean(str(value), choices)}")
