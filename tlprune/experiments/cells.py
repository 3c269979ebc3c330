"""The cells of a comparison, each a function of plain values, run side by side in processes of one thread each."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from tlprune import __version__
from tlprune.data.datasets import TensorImages
from tlprune.data.scanning import scan_class_folder
from tlprune.data.target_splits import TargetSplits, open_target
from tlprune.datamodules.pruned_source import PrunedSourceDataModule
from tlprune.experiments.comparison import Arm, Run
from tlprune.experiments.executors import default_workers, local_pool
from tlprune.experiments.results import Score
from tlprune.experiments.trial import (
    Neighbours,
    Pretraining,
    Transfer,
    neighbours,
    pretrain,
    quiet,
    transfer,
)
from tlprune.selection.baselines import RandomSelector, ReverseSelector
from tlprune.selection.feature_mapping import FeatureMapping
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.selector import Selector
from tlprune.storage.cache import forget
from tlprune.storage.journal import Journal, Stage

__all__ = ["Cells", "Progressed", "full_steps", "run_cells"]


CLUSTERS = 100
"""What Feature Mapping prunes: as many clusters as the drawn source has classes."""


class Progressed(Protocol):
    """A queue that is told how many images have been trained on."""

    def put(self, item: int, /) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Cells:
    """What a comparison runs.

    Args:
        source: Class folder of the source, images of one size.
        target: Name of the downstream set.
        split_seed: Decides its split.
        arms: What is compared.
        seeds: How many times; each has its own surrogate, first weights and random choice.
        surrogate: How surrogates are trained.
        pretraining: How source models are trained.
        transfers: How they are fitted to the target, or judged on it.
        folder: Of the journal: a cell that is finished is not run again. Weights and Selections are there too.
    """

    source: Path
    target: str
    split_seed: int
    arms: tuple[Arm, ...]
    seeds: int
    surrogate: Pretraining
    pretraining: Pretraining
    transfers: tuple[Transfer | Neighbours, ...]
    folder: Path

    def stage(self, arm: Arm | None, seed: int) -> Stage:
        """What the journal has of an arm, or of a seed's surrogate where there is none."""
        target = {"target": _target(self.target, self.split_seed).train.fingerprint(), "split_seed": self.split_seed}
        surrogate = {"seed": seed, "source": _source_digest(self.source), "recipe": asdict(self.surrogate)}
        depends: dict[str, Any] = {"tlprune": __version__, "surrogate": surrogate}
        if self.pretraining.method != "supervised":
            depends |= target | {"selector": self.mapping().options}
        if arm is None:
            return Journal(self.folder).stage(f"surrogate-{seed}", depends)
        depends |= target | {"arm": asdict(arm), "selector": self.mapping().options}
        depends |= {"pretraining": asdict(self.pretraining), "transfers": [asdict(one) for one in self.transfers]}
        return Journal(self.folder).stage(f"{arm.key}-{seed}", depends)

    def weights(self, arm: Arm, seed: int) -> Path:
        """Where an arm's source model is written."""
        return self.stage(arm, seed).folder / "weights.safetensors"

    def selection(self, arm: Arm, seed: int) -> Path:
        """Where an arm's Selection is written."""
        return self.stage(arm, seed).folder / "selection.safetensors"

    def like(self, seed: int) -> Path:
        """Where the Selection is written whose numbers of images a seed's controls keep to."""
        return self.stage(None, seed).folder / "like.safetensors"

    def surrogate_weights(self, seed: int) -> Path:
        """Where a seed's surrogate is written."""
        return self.stage(None, seed).folder / "weights.safetensors"

    @cached_property
    def finished(self) -> list[Run]:
        """Runs of cells that an earlier command finished."""
        pairs = [(arm, seed) for seed in range(self.seeds) for arm in self.arms]
        return [_as_run(done.result) for arm, seed in pairs if (done := self.stage(arm, seed).done) is not None]

    def left(self, seed: int) -> list[Arm]:
        """Arms of a seed that are not finished."""
        there = [run.arm for run in self.finished if run.seed == seed]
        return [arm for arm in self.arms if arm not in there]

    def mapping(self) -> Selector:
        """The selector that is tried: Feature Mapping where no labels are learned."""
        return (
            LabelMapping()
            if self.pretraining.method == "supervised"
            else FeatureMapping(num_clusters=CLUSTERS, center=True)
        )

    def data(
        self, target: TargetSplits | None = None, recipe: Pretraining | None = None, **options: Any
    ) -> PrunedSourceDataModule:
        """The source as models are trained on it; without labels all of it."""
        recipe = recipe or self.pretraining
        held_out = {} if recipe.method == "supervised" else {"val_share": 0.0}
        return PrunedSourceDataModule(
            _images(self.source),
            target,
            augment=recipe.augment,
            batch_size=recipe.batch_size,
            **(held_out | options),
        )

    def images(self, arms: Sequence[Arm], source_images: int, target_images: int) -> int:
        """Images that arms are trained on, given the numbers of training images: what progress is measured in."""
        shares = [1.0 if arm.equal == "steps" else 1 - arm.ratio for arm in arms]
        source = sum(shares) * self.pretraining.epochs * source_images
        target = sum(recipe.epochs for recipe in self.transfers) * target_images * len(arms)
        return round(source + target)


def run_cells(cells: Cells, progress: Progressed | None = None, workers: int | None = None) -> Iterator[Run]:
    """Runs what is not finished and yields each cell when it is done: surrogates first, then their seed's arms.

    Args:
        cells: What to run.
        progress: Told of progress; it must be a queue that other processes can use.
        workers: Processes at a time; None is one for each core, eight at the most.

    Yields:
        Runs in the order in which they end.
    """
    told: Progressed = progress if progress is not None else SimpleQueue()
    with local_pool(workers or default_workers()) as pool:
        waiting: dict[Future[Any], int | None] = {
            pool.submit(_train_surrogate, cells, seed, told): seed for seed in range(cells.seeds) if cells.left(seed)
        }
        seconds: dict[int, float] = {}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                seed = waiting.pop(future)
                if seed is None:
                    yield future.result()
                    continue
                seconds[seed] = future.result()
                for arm in cells.left(seed):
                    waiting[pool.submit(_run_cell, cells, arm, seed, seconds[seed], told)] = None


@cache
def _images(source: Path) -> TensorImages:
    """The source, decoded once in each process."""
    return TensorImages.from_images(scan_class_folder(source))


@cache
def _source_digest(source: Path) -> str:
    return scan_class_folder(source).fingerprint()


@cache
def _target(name: str, seed: int) -> TargetSplits:
    return open_target(name, seed)


def _train_surrogate(cells: Cells, seed: int, progress: Progressed) -> float:
    """Trains a seed's surrogate on the whole source, unless that was done, and returns the seconds."""
    stage = cells.stage(None, seed)
    if (done := stage.done) is not None:
        return float(done.result)
    stage.forget()
    with quiet():
        data = cells.data(recipe=cells.surrogate)
        data.setup()
        seconds, _ = pretrain(data, cells.surrogate, 1000 + seed, cells.surrogate_weights(seed), progress.put)
        if cells.pretraining.method != "supervised":
            # clusters are of any size: controls keep as many images as these do
            like = _voting(cells, stage, seed, prune_ratio=0.5)
            like.setup()
            if like.selection is not None:
                like.selection.save(cells.like(seed))
    made = (cells.surrogate_weights(seed), cells.like(seed))
    stage.finish(seconds, [path for path in made if path.exists()])
    return seconds


def _run_cell(cells: Cells, arm: Arm, seed: int, surrogate_seconds: float, progress: Progressed) -> Run:
    """Selects, pretrains and transfers."""
    stage = cells.stage(arm, seed)
    stage.forget()
    target = _target(cells.target, cells.split_seed)
    with quiet():
        data = _data(cells, arm, seed)
        begin = time.perf_counter()
        data.setup()
        selection_seconds = time.perf_counter() - begin
        if data.selection is not None:
            data.selection.save(cells.selection(arm, seed))
        recipe = replace(cells.pretraining, steps=full_steps(cells, data) if arm.equal == "steps" else None)
        weights = cells.weights(arm, seed)
        seconds, source_accuracy = pretrain(data, recipe, seed, weights, progress.put)
        scores: dict[str, Score] = {
            how.mode: neighbours(weights, target, how)
            if isinstance(how, Neighbours)
            else transfer(weights, target, how, seed, progress.put)
            for how in cells.transfers
        }
    run = Run(
        arm=arm,
        seed=seed,
        units_kept=data.units_kept,
        images_kept=data.images_kept,
        pretraining_seconds=seconds,
        source_accuracy=source_accuracy,
        scores=scores,
        surrogate_seconds=surrogate_seconds if arm.votes else 0.0,
        selection_seconds=selection_seconds if arm.votes else 0.0,
    )
    made = (cells.weights(arm, seed), cells.selection(arm, seed))
    stage.finish(asdict(run), [path for path in made if path.exists()])
    forget(stage.folder / "cache")
    return run


def _as_run(noted: dict[str, Any]) -> Run:
    """What a run was before it was noted as JSON."""
    scores = {mode: Score(**score) for mode, score in noted["scores"].items()}
    return Run(**noted | {"arm": Arm(**noted["arm"]), "scores": scores})


def _data(cells: Cells, arm: Arm, seed: int) -> PrunedSourceDataModule:
    if arm.method == "none":
        return cells.data()
    mapping, supervised = cells.mapping(), cells.pretraining.method == "supervised"
    selectors: dict[str, Selector] = {
        "random": RandomSelector(seed, "class" if supervised else "sample"),
        "reverse": ReverseSelector(mapping),
    }
    options: dict[str, Any] = {"selector": selectors.get(arm.method, mapping), "prune_ratio": arm.ratio}
    if not supervised and arm.method in selectors:
        options["images_like"] = str(cells.like(seed))
    return _voting(cells, cells.stage(arm, seed), seed, **options)


def _voting(cells: Cells, stage: Stage, seed: int, **options: Any) -> PrunedSourceDataModule:
    """The source, pruned; with a cache of its own, so that each arm votes anew and its seconds are true."""
    target = _target(cells.target, cells.split_seed)
    given: dict[str, Any] = {"selector": cells.mapping(), "surrogate": str(cells.surrogate_weights(seed))}
    return cells.data(target, cache=str(stage.folder / "cache"), **(given | options))


def full_steps(cells: Cells, data: PrunedSourceDataModule) -> int:
    """Optimiser steps of pretraining without pruning.

    Args:
        cells: Say how source models are trained.
        data: The source, whatever is kept of it.
    """
    return cells.pretraining.epochs * (data.images_before_pruning // data.batch_size)
