"""``tlprune apply``: keeps images of another source by a Selection."""

from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser

from tlprune.commands.arguments import (
    add_budget,
    make_console,
    make_parser,
    parse,
    plural,
    require_selections,
    required_budget,
)
from tlprune.commands.launching import add_processes, finish, launch
from tlprune.data.shard_names import SHARD_KINDS, ShardNames
from tlprune.errors import InputError

if TYPE_CHECKING:
    from tlprune.applying import Applied
    from tlprune.selection.selection import Selection

__all__ = ["run"]

_PASSED_ON = (
    *("source", "output", "surrogate", "surrogate_backbone", "by", "class_names", "write", "on_bad_image"),
    *("num_workers", "cache", "fresh"),
)
_By = Literal["auto", "labels", "prediction", "centroids"]  # the type in membership_rules.py would load torch
_SOURCE_HELP = "webdataset:/data/shards-{000..099}.tar, parquet:/data/*.parquet, or any source as for 'tlprune select'"


def run(arguments: list[str]) -> None:
    """Finds the unit of each image of a source, and writes lists of those in kept units.

    Raises:
        InputError: If the input is invalid.
    """
    given = parse(_parser(), arguments)
    require_selections(given.selection)
    kind, _, rest = given.source.partition(":")
    if kind in SHARD_KINDS:
        ShardNames.find(kind, rest)  # torch takes seconds
    budget = required_budget(given)
    if budget.exactly is not None:
        raise InputError("another source has another number of images: give another budget than --keep_exactly")
    fabric = launch(given)
    import tlprune
    from tlprune.distributed import barrier

    barrier()  # from here on, each process also notices when another one is lost
    selection = tlprune.Selection.load(given.selection)
    selection.units_kept(budget)  # what it refuses is named as on the command line
    amounts = {name: value for name, value in vars(budget).items() if name != "exactly"}
    applied = tlprune.apply(
        selection, **{option: given[option] for option in _PASSED_ON}, **amounts, device=fabric.device
    )
    if fabric.is_global_zero:
        _print(selection, applied, given.source, given.write)
    finish(fabric)


def _print(selection: "Selection", applied: "Applied", source: str, write: str) -> None:
    console = make_console()
    kind = source.partition(":")[0]
    blocks = "shards" if kind in SHARD_KINDS else "blocks"
    counts = f"{applied.kept:,} images KEPT of {applied.images:,} in {applied.blocks:,} {blocks}"
    console.print(f"{applied.output}: lists of the {counts}", soft_wrap=True)
    kept = plural(selection, len(applied.kept_units))
    rows = [("units", f"{kept} kept of {selection.num_units:,}, found by {applied.by}: {_few(applied.kept_units)}")]
    if applied.absent:
        rows.append(("absent", f"{len(applied.absent):,} of these without an image here, first {applied.absent[0]}"))
    if applied.unknown:
        images = sum(applied.unknown.values())
        what = f"{len(applied.unknown):,} classes that the selection does not have"
        rows.append(("unknown", f"{images:,} images of {what}: {_few(applied.unknown)}"))
    if applied.damaged.count:
        rows.append(("skipped", f"{applied.damaged.count:,} that cannot be decoded, first {applied.damaged.first}"))
    if write == "shards" and applied.kept:
        rows.append(("train on", f"{kind}:{applied.output}/shards/**/*{SHARD_KINDS[kind]}"))
    for name, text in rows:
        console.print(f"{name:<10} {text}", soft_wrap=True)


def _few(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:5])
    return f"{shown}, ..." if len(counts) > 5 else shown


def _parser() -> ArgumentParser:
    what = "Keep the images of another source, or of further shards, that belong to the units a Selection keeps."
    parser = make_parser("apply", what)
    add = parser.add_argument
    add("selection", type=str, help="a saved Selection of classes or clusters")
    add("--source", type=str, required=True, help=_SOURCE_HELP)
    add("--output", type=str, required=True, help="folder to write: a list of kept images for each shard")
    add("--by", type=_By, default="auto", help="what says to which unit an image belongs (default: labels, if any)")
    text = "name of each class number of the source's labels: imagenet1k, or a file"
    add("--class_names", type=str | None, default=None, help=text)
    text = "'shards' also copies kept samples to new tars or Parquet files"
    add("--write", type=Literal["lists", "shards"], default="lists", help=text)
    text = "the surrogate of the Selection (default: where it was when it was selected)"
    add("--surrogate", type=str | None, default=None, help=text)
    add("--surrogate_backbone", type=str | None, default=None, help="its network, if the file is silent")
    text = "what is done about images that cannot be decoded: 'error', or 'skip' and count them"
    add("--on_bad_image", choices=["error", "skip"], default="error", help=text)
    add("--num_workers", type=int, default=0, help="processes of each rank that load images")
    add("--cache", type=str | None, default=None, help="cache folder")
    add("--fresh", action="store_true", help="use nothing that an earlier run left in the folder")
    add_processes(parser)
    add_budget(parser)
    return parser
