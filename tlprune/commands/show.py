"""``tlprune show``: prints the origin of a Selection, and the units that it keeps."""

import math
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tlprune.commands.arguments import (
    add_budget,
    add_origins,
    given_budget,
    make_console,
    make_parser,
    note_of_numbers,
    parse,
    plural,
    require_selections,
)
from tlprune.errors import require_within
from tlprune.preprocessing import EVAL_VIEW, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tlprune.selection.ranking import Budget
    from tlprune.selection.selection import Selection

__all__ = ["origin", "run", "show"]


def run(arguments: list[str]) -> None:
    """Prints the origin of a Selection and, with a budget, the units that it keeps.

    Raises:
        InputError: If the input is invalid.
    """
    parser = make_parser("show", "Say what a Selection was made from and, with a budget, what it keeps.")
    parser.add_argument("selection", type=str, help="a saved Selection")
    parser.add_argument("--top", type=int, default=10, help="how many of the best units to list")
    add_origins(parser, targets=False)
    add_budget(parser)
    given = parse(parser, arguments)
    require_within("top", given.top, 0)
    require_selections(given.selection)
    from tlprune.commands.origins import unit_names  # loads torch, which takes seconds
    from tlprune.selection.selection import Selection

    selection = Selection.load(given.selection)
    names = None if given.source is None else unit_names(selection, given.source, given.cache)
    show(selection, given.selection, given_budget(given), given.top, names)


def show(
    selection: "Selection", path: str, budget: "Budget | None", top: int, names: "Callable[[int], str] | None" = None
) -> None:
    """Prints a Selection.

    Args:
        selection: Selection to print.
        path: Path of its file.
        budget: Budget to apply; None to omit the kept units.
        top: Number of best units to list.
        names: Function that names units; None for the names in the Selection.
    """
    console = make_console()
    for name, text in [("selection", f"{path}, digest {selection.digest[:12]}"), *origin(selection)]:
        console.print(f"{name:<10} {text}", soft_wrap=True)
    if budget is not None:
        for name, text in _kept(selection, budget):
            console.print(f"{name:<10} {text}", soft_wrap=True)
    if top > 0:
        console.print(_table(selection, top, names or selection.name))
        if names is None and (note := note_of_numbers(selection)) is not None:
            console.print(note, soft_wrap=True)


def origin(selection: "Selection") -> list[tuple[str, str]]:
    """Describes what a Selection was made from, in display order.

    Returns:
        Pairs of a label and a text.
    """
    settings, record = selection.config, selection.metadata
    options = ", ".join(f"{name} {value}" for name, value in sorted(settings.get("options", {}).items()))
    rows = [("method", f"{selection.method} ({options})" if options else selection.method)]
    images = len(selection.unit_of_sample)
    counted = f"{images:,} source images" if selection.sizes_known else "class names alone, their images are not known"
    rows.append(("units", f"{plural(selection, selection.num_units)}, {counted}"))
    unnamed = "given in Python"
    if digest := settings.get("source_digest"):
        rows.append(("source", f"{record.get('source', unnamed)}, digest {digest[:12]}"))
    if skipped := selection.skipped:
        rows.append(("skipped", f"{len(skipped):,} source images that cannot be decoded, first {skipped[0]}"))
    targets = settings.get("targets", [])
    names = record.get("targets", [])
    for place, target in enumerate(targets):
        name = names[place] if place < len(names) else unnamed
        rows.append(("target", f"{name}, {target['images']:,} images that vote, digest {target['digest'][:12]}"))
    if several := settings.get("several_targets"):
        weights = f", weights {several['weights']}" if several["weights"] else ""
        rows.append(("combined", f"{several['combine'].replace('_', ' ')}{weights}"))
    if digest := settings.get("surrogate_digest"):
        rows.append(("surrogate", f"{', '.join(record.get('surrogates', [])) or unnamed}, digest {digest[:12]}"))
    if features := record.get("features"):
        rows.append(("features", ", ".join([features["source"], *features["targets"]])))
    if view := settings.get("view"):
        what = "images" if view["view"] == EVAL_VIEW else view["view"]
        rows.append(("seen as", f"{what} of {Preprocessing.from_transform_config(view).described()}, eval mode"))
    if len(selection.assignments):
        covered = selection.covered
        shares = ", ".join(f"{share:.0%} in {int((covered < share - 1e-9).sum()) + 1}" for share in (0.5, 0.9, 1.0))
        voted = int((selection.votes > 0).sum())
        rows.append(("votes", f"{len(selection.assignments):,} images voted for {plural(selection, voted)}: {shares}"))
        most = math.log2(selection.num_units)
        rows.append(("entropy", f"{selection.vote_entropy:.2f} bits of votes, {most:.2f} if all units had as many"))
    from tlprune.selection.advisor import suggested_images  # loads torch

    if (suggested := suggested_images(selection)) is not None:
        rows.append(("suggested", f"--keep_images {suggested}: similarity falls beyond it"))
    made = [f"{name} {record[name]}" for name in ("torch", "python") if name in record]
    made += [f"{stage} {seconds:.2f} s" for stage, seconds in record.get("seconds", {}).items()]
    return [*rows, ("made with", ", ".join(made))]


def _kept(selection: "Selection", budget: "Budget") -> list[tuple[str, str]]:
    kept, samples = selection.kept(budget)
    share = f", {selection.covered[len(kept) - 1]:.1%} of votes" if len(selection.assignments) else ""
    counted = f", {len(samples):,} images" if selection.sizes_known else ""
    rows = [("KEPT", f"{plural(selection, len(kept))}{counted}{share}")]
    names = selection.metadata.get("targets", [])
    for place in range(len(selection.target_votes)):
        name = names[place] if place < len(names) else f"target {place + 1}"
        rows.append(("", f"{selection.covered_by_target[place, len(kept) - 1]:.1%} of the votes of {name}"))
    voted = int((selection.votes > 0).sum())
    if 0 < voted < len(kept) < selection.num_units and len(selection.asked_by) == 0:
        rows.append(("NOTE", f"only {voted} of the {len(kept)} kept units have votes; the rest are by score alone"))
    return rows


def _table(selection: "Selection", top: int, names: "Callable[[int], str]") -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    voted = len(selection.assignments) > 0
    scored = bool(selection.scores.any())
    from tlprune.selection.score_column import score_column  # loads torch, which takes seconds

    heading, scale = score_column(selection)
    coded = selection.unit_kind == "class" and selection.display_names != selection.unit_names
    columns = ["rank", "unit", *(["id"] if coded else []), *(["votes"] if voted else [])]
    columns += [*([heading] if scored else []), *(["images"] if selection.sizes_known else [])]
    for column in columns:
        table.add_column(column, justify="left" if column in ("unit", "id") else "right", overflow="fold")
    whole = bool((selection.votes == selection.votes.round()).all())
    for rank, unit in enumerate(selection.ranking[:top].tolist(), 1):
        cells = [str(rank), names(unit), *([selection.unit_names[unit]] if coded else [])]
        if voted:
            cells.append(f"{selection.votes[unit]:,.{0 if whole else 2}f}")
        if scored:
            cells.append(f"{selection.scores[unit] * scale:.{4 if len(selection.target_votes) else 2}f}")
        if selection.sizes_known:
            cells.append(f"{int(selection.unit_sizes[unit]):,}")
        table.add_row(*cells)
    return table
