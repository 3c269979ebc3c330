"""Diagnostics of saved Selections as tables, for ``tlprune advise``."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tlprune.commands.origins import opened_source, opened_targets
from tlprune.data.datasets import ImageSet
from tlprune.data.image_size import ImageSize
from tlprune.data.target_splits import open_target
from tlprune.diagnosing import diagnose_images
from tlprune.errors import InputError
from tlprune.models.weights import check_weights
from tlprune.preprocessing import Preprocessing
from tlprune.selection.diagnostics import DUPLICATE, SAMPLED, Diagnosis
from tlprune.selection.kmeans import suggested_clusters
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection
from tlprune.selection_inputs import SelectOptions

__all__ = ["Opened"]


@dataclass(frozen=True)
class Opened:
    """All that diagnostics of saved Selections are made from, opened.

    Args:
        budget: Amount that each Selection keeps.
        kept: What each keeps, by the path of its file.
        source: The source of all.
        targets: Name and training images of each target.
        surrogate: Weights of the network whose features are compared.
        options: Its network and preprocessing.
        image_size: Pixels that it sees if its weights do not say.
        num_workers: Processes that load images.
        cache: Cache folder.
    """

    budget: Budget
    kept: dict[str, Tensor]
    source: ImageSet
    targets: list[tuple[str, ImageSet]]
    surrogate: str
    options: SelectOptions
    image_size: int
    num_workers: int
    cache: str | None

    @classmethod
    def open(cls, selections: Mapping[str, Selection], given: Namespace, budget: Budget) -> "Opened":
        """Opens source and targets of Selections. Nothing is computed.

        Args:
            selections: Selections of one source, by the path of their file.
            given: Options ``source``, ``target``, ``surrogate``, ``surrogate_backbone``, ``num_workers``, ``cache``.
            budget: Amount that each of them keeps.

        Raises:
            InputError: If the Selections are of different sources, or source, target or surrogate are not found.
        """
        kept = {path: _kept(path, selection, budget) for path, selection in selections.items()}
        first, *others = selections
        for path in others:
            if selections[path].config.get("source_digest") != selections[first].config.get("source_digest"):
                raise InputError(f"{path}: made for another source than {first}")
        named = next((one for one in selections.values() if one.metadata.get("source")), selections[first])
        surrogate, options = _surrogate(selections, given)
        check_weights(surrogate, "surrogate")
        targets = _targets(selections, given.target)
        source = opened_source(named, given.source, given.cache)
        size = int(named.metadata.get("image_size", 224))
        return cls(budget, kept, source, targets, surrogate, options, size, given.num_workers, given.cache)

    def diagnoses(self) -> list[tuple[str, int, list[Diagnosis]]]:
        """Computes diagnostics for each target: its name, its number of training images, and an entry per Selection.

        Raises:
            InputError: If the surrogate or an image cannot be read.
        """
        how = (self.options, ImageSize(None, self.image_size), self.num_workers, self.cache)
        kept = list(self.kept.values())
        return [
            (name, len(images), diagnose_images(self.source, images, self.surrogate, kept, *how))
            for name, images in self.targets
        ]

    def print_diagnostics(self, console: Console) -> None:
        """Prints a table for each target: a row for each Selection, and one for as many random images.

        Raises:
            InputError: If the surrogate or an image cannot be read.
        """
        for name, images, found in self.diagnoses():
            title = f"What {self.budget} keeps, held against {images:,} training images of {name}"
            console.print(f"{title}, in features of {self.surrogate}:", soft_wrap=True)
            console.print(_table(dict(zip(self.kept, found, strict=True))))
        console.print(_legend(len(self.source), max(map(len, self.kept.values()))), soft_wrap=True)


def _kept(path: str, selection: Selection, budget: Budget) -> Tensor:
    try:
        return selection.kept(budget).samples
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _targets(selections: Mapping[str, Selection], names: list[str] | None) -> list[tuple[str, ImageSet]]:
    """Opens the targets that the user names, or those that the Selections were made for."""
    if names:
        seeds = [int(one.metadata.get("target_seed", 0)) for one in selections.values()]
        return [(name, open_target(name, seeds[0]).train) for name in names]
    voted = {path: one for path, one in selections.items() if one.metadata.get("targets")}
    if not voted:
        raise InputError("no Selection names a target; give --target")
    first, *others = voted
    for path in others:
        if _digests(voted[path]) != _digests(voted[first]):
            raise InputError(f"{path}: made for other target images than {first}; say with --target which are meant")
    return [(one.name, one.images) for one in opened_targets(voted[first], None)]


def _digests(selection: Selection) -> list[Any]:
    return [one.get("digest") for one in selection.config.get("targets", [])]


def _surrogate(selections: Mapping[str, Selection], given: Namespace) -> tuple[str, SelectOptions]:
    """Returns the surrogate that the user names, or that of the first Selection that has one, and how it is used."""
    if given.surrogate:
        return given.surrogate, SelectOptions(given.surrogate_backbone)
    named = next((one for one in selections.values() if one.metadata.get("surrogates")), None)
    if named is None:
        raise InputError("no Selection says which surrogate it was made with; give --surrogate")
    seen = Preprocessing.from_transform_config(named.config.get("view") or {})
    return str(named.metadata["surrogates"][0]), SelectOptions(given.surrogate_backbone, seen)


def _table(found: Mapping[str, Diagnosis]) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    for heading in ("kept by", "images", "similarity", "divergence", "spread", "duplicates"):
        table.add_column(heading, justify="left" if heading == "kept by" else "right", overflow="fold")
    random = {one.images: one.random for one in found.values()}
    unique = len({Path(path).stem for path in found}) == len(found)
    rows = [(Path(path).stem if unique else path, one.images, one.kept) for path, one in found.items()]
    rows += [("random images", images, numbers) for images, numbers in random.items()]
    for name, images, numbers in rows:
        similarity, divergence, spread, duplicates = astuple(numbers)
        cells = [f"{similarity:.3f}", f"{divergence:.3f}", f"{spread:.1f}", f"{duplicates:.1%}"]
        table.add_row(name, f"{images:,}", *cells)
    return table


def _legend(total: int, most: int) -> str:
    sampled = f", estimated on {SAMPLED:,} of them" if most > SAMPLED else ""
    clusters = suggested_clusters(total)
    return (
        "similarity: mean cosine of each target image to its nearest kept image (1 is best); "
        f"divergence: KL(target || kept) in nats over {clusters:,} clusters of the source (0 is best); "
        "spread: Vendi score, as many different directions as the kept images have; "
        f"duplicates: share of kept images with a copy, of cosine {DUPLICATE:g} or more{sampled}"
    )
