"""``tlprune select``, ``show``, ``explain``, ``diff`` and ``export``: a Selection without training anything."""

from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tlprune.data.downstream import open_target
from tlprune.data.images import FolderImages, ImageSet
from tlprune.data.sources import open_source
from tlprune.data.transforms import EvalView
from tlprune.data.viewed import ViewedImages
from tlprune.datamodules.pruned_source import PrunedSourceDataModule
from tlprune.errors import InputError
from tlprune.parser_messages import in_short
from tlprune.selection.baselines import RandomSelector, ReverseSelector
from tlprune.selection.export import export_indices, export_links, export_paths
from tlprune.selection.figures import explanation_figure
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.manifest import Selection
from tlprune.selection.ranking import Budget, coverage
from tlprune.selection.selector import Selector
from tlprune.storage.atomic import atomic_path

__all__ = ["run_diff", "run_explain", "run_export", "run_select", "run_show"]

_BUDGETS: dict[str, tuple[Callable[[str], float], str]] = {
    "prune_ratio": (float, "share of units to remove, in [0, 1)"),
    "keep_units": (int, "units to keep"),
    "keep_images": (int, "the most images to keep"),
    "vote_coverage": (float, "share of votes that is kept, in (0, 1]"),
}


# --selector names these without their modules: the parser finds a bare class name only among what is loaded
_SELECTORS = (LabelMapping, RandomSelector, ReverseSelector)
_SELECTOR_HELP = f"how to order: {', '.join(one.__name__ for one in _SELECTORS)}, or a class_path (default: the first)"


def _parser(command: str, what: str) -> ArgumentParser:
    return ArgumentParser(prog=f"tlprune {command}", description=what, exit_on_error=False)


def _parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        raise InputError(in_short(str(error))) from error


def _add_budget(parser: ArgumentParser) -> None:
    for name, (kind, text) in _BUDGETS.items():
        parser.add_argument(f"--{name}", type=kind | None, default=None, help=text)  # type: ignore[operator]


def _budget(given: Namespace) -> Budget | None:
    values = [given[name] for name in _BUDGETS]
    return None if set(values) == {None} else Budget(*values)


def _required_budget(given: Namespace) -> Budget:
    budget = _budget(given)
    if budget is None:
        raise InputError(f"say how much is kept: one of {', '.join(f'--{name}' for name in _BUDGETS)}")
    return budget


def run_select(arguments: list[str]) -> None:
    """``tlprune select``: votes, ranks, and writes a Selection.

    Args:
        arguments: What follows ``select`` on the command line.

    Raises:
        InputError: Something given is wrong.
    """
    parser = _parser("select", "Order the classes of a source for a target, and write the Selection.")
    parser.add_argument("--source", type=str, required=True, help="'drawn', or a folder of class folders")
    parser.add_argument("--target", type=str | None, default=None, help="'digits', 'photos', or a folder")
    parser.add_argument(
        "--surrogate", type=str | None, default=None, help="weights of a classifier of the whole source"
    )
    parser.add_argument(
        "--surrogate_backbone", type=str | None, default=None, help="its network, if the file is silent"
    )
    parser.add_argument("--selector", type=Selector | None, default=None, help=_SELECTOR_HELP)
    parser.add_argument(
        "--image_size", type=int | None, default=None, help="pixels (default: 32 for 'drawn', else 224)"
    )
    parser.add_argument("--cache", type=str | None, default=None, help="cache folder")
    parser.add_argument("--output", type=str, required=True, help="the Selection to write, *.safetensors")
    _add_budget(parser)
    given = _parse(parser, arguments)
    built = parser.instantiate(given)
    options: dict[str, Any] = {
        name: built[name]
        for name in ("source", "target", "selector", "surrogate", "surrogate_backbone", "image_size", "cache")
    }
    budget = _budget(given)
    data = PrunedSourceDataModule(**options, prune_ratio=0.0)
    data.prepare_data()
    data.setup()
    if data.selection is None:
        raise RuntimeError("a budget was given, so there must be a selection")
    if budget is not None:
        data.selection.units_kept(budget)  # refused before anything is written
    data.selection.save(given.output)
    _show(data.selection, given.output, budget, top=10)


def run_show(arguments: list[str]) -> None:
    """``tlprune show``: what a Selection is made from, and what it keeps.

    Args:
        arguments: What follows ``show`` on the command line.

    Raises:
        InputError: Something given is wrong.
    """
    parser = _parser("show", "Say what a Selection was made from and, with a budget, what it keeps.")
    parser.add_argument("selection", type=str, help="a saved Selection")
    parser.add_argument("--top", type=int, default=10, help="how many of the best units to list")
    _add_budget(parser)
    given = _parse(parser, arguments)
    _show(Selection.load(given.selection), given.selection, _budget(given), given.top)


def _show(selection: Selection, path: str, budget: Budget | None, top: int) -> None:
    console = Console(highlight=False)
    settings, record = selection.settings, selection.record
    curve = coverage(selection.votes, selection.ranking)
    rows = [("selection", f"{path}, digest {selection.digest[:12]}")]
    options = ", ".join(f"{name} {value}" for name, value in settings.get("options", {}).items())
    rows.append(("method", f"{selection.method} ({options})" if options else selection.method))
    rows.append(("units", f"{selection.num_units:,} classes, {len(selection.unit_of_sample):,} source images"))
    rows += [
        (name, f"{record.get(name) or 'given in Python'}, digest {digest[:12]}")
        for name in ("source", "target", "surrogate")
        if (digest := settings.get(f"{name}_digest"))
    ]
    if len(selection.ballots):
        shares = ", ".join(f"{share:.0%} in {int((curve < share - 1e-9).sum()) + 1}" for share in (0.5, 0.9, 1.0))
        voted = int((selection.votes > 0).sum())
        rows.append(("votes", f"{len(selection.ballots):,} images voted for {voted} units: {shares}"))
    made = [f"{name} {record[name]}" for name in ("torch", "python") if name in record]
    made += [f"{stage} {seconds:.2f} s" for stage, seconds in record.get("seconds", {}).items()]
    rows.append(("made with", ", ".join(made)))
    if budget is not None:
        kept = selection.units_kept(budget)
        images = int(selection.unit_sizes[kept].sum())
        share = f", {curve[len(kept) - 1]:.1%} of votes" if len(selection.ballots) else ""
        rows.append(("KEPT", f"{len(kept):,} units, {images:,} images{share}"))
        voted = int((selection.votes > 0).sum())
        if 0 < voted < len(kept) < selection.num_units:
            rows.append(("NOTE", f"only {voted} of the {len(kept)} kept units have votes; the rest are by score alone"))
    for name, text in rows:
        console.print(f"{name:<10} {text}", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    for heading in ("rank", "unit", "votes", "score", "images"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for rank, unit in enumerate(selection.ranking[: max(top, 0)].tolist(), 1):
        votes, score = f"{selection.votes[unit]:.6g}", f"{selection.scores[unit]:.2f}"
        table.add_row(str(rank), selection.unit_names[unit], votes, score, f"{int(selection.unit_sizes[unit]):,}")
    if top > 0:
        console.print(table)


def run_diff(arguments: list[str]) -> None:
    """``tlprune diff``: units and images that one Selection keeps and another drops.

    Args:
        arguments: What follows ``diff`` on the command line.

    Raises:
        InputError: Something given is wrong, or the two rank the units of different sources.
    """
    parser = _parser("diff", "Compare what two Selections of one source keep within the same budget.")
    parser.add_argument("first", type=str, help="a saved Selection")
    parser.add_argument("second", type=str, help="another of the same source")
    _add_budget(parser)
    given = _parse(parser, arguments)
    budget = _required_budget(given)
    first, second = Selection.load(given.first), Selection.load(given.second)
    gained, lost = first.diff(second, budget)
    console = Console(highlight=False)
    for sign, word, units in (("+", "gained", gained), ("-", "lost", lost)):
        images = int(first.unit_sizes[units].sum())
        console.print(f"{word}: {len(units):,} units, {images:,} images, from {given.first} to {given.second}")
        for unit in units.tolist():
            console.print(f"  {sign} {first.unit_names[unit]}", soft_wrap=True)
    same = len(first.units_kept(budget)) - len(lost)
    console.print(f"kept by both: {same:,} units")


def run_explain(arguments: list[str]) -> None:
    """``tlprune explain``: where a unit stands and who put it there, in words and as a picture.

    Args:
        arguments: What follows ``explain`` on the command line.

    Raises:
        InputError: Something given is wrong, or source or target are not those of the Selection.
    """
    parser = _parser("explain", "Say where a unit stands, who voted for it, and why it is kept or dropped.")
    parser.add_argument("selection", type=str, help="a saved Selection")
    parser.add_argument("--unit", type=str, required=True, help="name of a unit")
    parser.add_argument("--output", type=str | None, default=None, help="picture to write, *.png")
    parser.add_argument("--source", type=str | None, default=None, help="the source (default: as when it was selected)")
    parser.add_argument("--target", type=str | None, default=None, help="the target (default: as when it was selected)")
    parser.add_argument("--cache", type=str | None, default=None, help="cache folder")
    _add_budget(parser)
    given = _parse(parser, arguments)
    selection = Selection.load(given.selection)
    unit = selection.unit(given.unit)
    found = selection.explain(unit)
    budget = _budget(given)
    console = Console(highlight=False)
    title = f"{given.unit}: rank {found.rank} of {selection.num_units}, {_votes(found.votes)}, score {found.score:.2f}"
    console.print(f"{title}, {len(found.samples):,} source images", soft_wrap=True)
    if budget is not None:
        kept = selection.units_kept(budget)
        votes, score = float(selection.votes[kept[-1]]), float(selection.scores[kept[-1]])
        last = f"the last kept one has {_votes(votes)} and score {score:.2f}"
        verdict = "KEPT" if found.rank <= len(kept) else "dropped"
        title += f", {verdict}"
        console.print(f"{verdict}: the budget keeps {len(kept)} of {selection.num_units}, {last}", soft_wrap=True)
    voters = None
    if len(selection.ballots):
        voters = _target(selection, given.target)
        counts = voters.labels[found.voters].bincount(minlength=len(voters.classes))
        for label in counts.argsort(descending=True, stable=True).tolist():
            if counts[label] > 0:
                console.print(f"  {int(counts[label]):>4} of {voters.classes[label]}", soft_wrap=True)
    if given.output is not None:
        images = _source(selection, given.source, given.cache)
        own = [images[index][0] for index in found.samples[:12].tolist()]
        shown: list[tuple[Tensor, str]] = []
        if voters is not None:
            pairs = (voters[index] for index in found.voters[:36].tolist())
            shown = [(image, voters.classes[label]) for image, label in pairs]
        with atomic_path(given.output) as temporary:
            explanation_figure(given.unit, own, shown, title).savefig(temporary, format="png", dpi=110)
        console.print(f"picture: {given.output}", soft_wrap=True)


def run_export(arguments: list[str]) -> None:
    """``tlprune export``: what a Selection keeps, for other tools.

    Args:
        arguments: What follows ``export`` on the command line.

    Raises:
        InputError: Something given is wrong, or the source is not the one that the Selection was made for.
    """
    parser = _parser("export", "Write what a Selection KEEPS, in the order of the source's listing.")
    parser.add_argument("selection", type=str, help="a saved Selection")
    parser.add_argument("--format", choices=["indices", "paths", "symlinks"], required=True, help="what to write")
    parser.add_argument("--output", type=str, required=True, help="a text file, or for symlinks a new folder")
    parser.add_argument("--source", type=str | None, default=None, help="the source (default: as when it was selected)")
    parser.add_argument("--cache", type=str | None, default=None, help="cache folder")
    _add_budget(parser)
    given = _parse(parser, arguments)
    budget = _required_budget(given)
    selection = Selection.load(given.selection)
    kept, total, output = selection.keep(**vars(budget)), len(selection.unit_of_sample), Path(given.output)
    if given.format == "indices":
        export_indices(kept, total, output)
    else:
        images = _source(selection, given.source, given.cache)
        write = export_paths if given.format == "paths" else export_links
        write(kept, images.root, images.paths, output)
    print(f"{output}: {given.format} of the {len(kept):,} images KEPT of {total:,}")


def _votes(votes: float) -> str:
    return "1 vote" if votes == 1 else f"{votes:.6g} votes"


def _source(selection: Selection, source: str | None, cache: str | None) -> FolderImages:
    name = source or selection.record.get("source")
    if name is None:
        raise InputError("this selection does not say where its source lies; give --source")
    images, _ = open_source(name, cache)
    selection.require_source(images.digest, f"source {name}")
    return images


def _target(selection: Selection, target: str | None) -> ImageSet:
    """The images that voted, checked to be the same."""
    name = target or selection.record.get("target")
    if name is None:
        raise InputError("this selection does not say who voted; give --target")
    images = open_target(name, int(selection.record.get("target_seed", 0))).train
    seen = ViewedImages(images, EvalView(int(selection.record.get("image_size", 224))))
    if seen.digest != selection.settings.get("target_digest"):
        raise InputError(f"target {name}: not the images that voted")
    return images
