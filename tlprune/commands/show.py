"""``tlprune show``: what a Selection was made from, and what it keeps."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tlprune.commands.arguments import add_budget, given_budget, make_parser, parse, plural
from tlprune.selection.manifest import Selection
from tlprune.selection.ranking import Budget

__all__ = ["run", "show"]


def run(arguments: list[str]) -> None:
    """Says what a Selection was made from and, with a budget, what it keeps.

    Args:
        arguments: What follows ``show`` on the command line.

    Raises:
        InputError: Something given is wrong.
    """
    parser = make_parser("show", "Say what a Selection was made from and, with a budget, what it keeps.")
    parser.add_argument("selection", type=str, help="a saved Selection")
    parser.add_argument("--top", type=int, default=10, help="how many of the best units to list")
    add_budget(parser)
    given = parse(parser, arguments)
    show(Selection.load(given.selection), given.selection, given_budget(given), given.top)


def show(selection: Selection, path: str, budget: Budget | None, top: int) -> None:
    """Prints a Selection.

    Args:
        selection: What is shown.
        path: Its file.
        budget: How much is kept; None to say nothing of it.
        top: How many of the best units to list.
    """
    console = Console(highlight=False)
    for name, text in [("selection", f"{path}, digest {selection.digest[:12]}"), *_origin(selection)]:
        console.print(f"{name:<10} {text}", soft_wrap=True)
    if budget is not None:
        for name, text in _kept(selection, budget):
            console.print(f"{name:<10} {text}", soft_wrap=True)
    if top > 0:
        console.print(_table(selection, top))


def _origin(selection: Selection) -> list[tuple[str, str]]:
    settings, record = selection.settings, selection.record
    options = ", ".join(f"{name} {value}" for name, value in settings.get("options", {}).items())
    rows = [("method", f"{selection.method} ({options})" if options else selection.method)]
    rows.append(
        ("units", f"{selection.num_units:,} {plural(selection)}, {len(selection.unit_of_sample):,} source images")
    )
    unnamed = "given in Python"
    if digest := settings.get("source_digest"):
        rows.append(("source", f"{record.get('source', unnamed)}, digest {digest[:12]}"))
    targets = settings.get("targets", [])
    names = record.get("targets", [])
    for place, target in enumerate(targets):
        name = names[place] if place < len(names) else unnamed
        rows.append(("target", f"{name}, {target['images']:,} training images, digest {target['digest'][:12]}"))
    if several := settings.get("several_targets"):
        weights = f", weights {several['weights']}" if several["weights"] else ""
        rows.append(("combined", f"{several['combine'].replace('_', ' ')}{weights}"))
    if digest := settings.get("surrogate_digest"):
        rows.append(("surrogate", f"{', '.join(record.get('surrogates', [])) or unnamed}, digest {digest[:12]}"))
    if view := settings.get("view"):
        rows.append(("seen as", f"{view['view']} of {view['image_size']} pixels, eval mode"))
    if len(selection.ballots):
        covered = selection.covered
        shares = ", ".join(f"{share:.0%} in {int((covered < share - 1e-9).sum()) + 1}" for share in (0.5, 0.9, 1.0))
        voted = int((selection.votes > 0).sum())
        rows.append(("votes", f"{len(selection.ballots):,} images voted for {voted} units: {shares}"))
    made = [f"{name} {record[name]}" for name in ("torch", "python") if name in record]
    made += [f"{stage} {seconds:.2f} s" for stage, seconds in record.get("seconds", {}).items()]
    return [*rows, ("made with", ", ".join(made))]


def _kept(selection: Selection, budget: Budget) -> list[tuple[str, str]]:
    kept = selection.units_kept(budget)
    images = int(selection.unit_sizes[kept].sum())
    share = f", {selection.covered[len(kept) - 1]:.1%} of votes" if len(selection.ballots) else ""
    rows = [("KEPT", f"{len(kept):,} units, {images:,} images{share}")]
    names = selection.record.get("targets", [])
    for place in range(len(selection.target_votes)):
        name = names[place] if place < len(names) else f"target {place + 1}"
        rows.append(("", f"{selection.covered_by_target[place, len(kept) - 1]:.1%} of the votes of {name}"))
    voted = int((selection.votes > 0).sum())
    if 0 < voted < len(kept) < selection.num_units:
        rows.append(("NOTE", f"only {voted} of the {len(kept)} kept units have votes; the rest are by score alone"))
    return rows


def _table(selection: Selection, top: int) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    for heading in ("rank", "unit", "votes", "score", "images"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for rank, unit in enumerate(selection.ranking[:top].tolist(), 1):
        votes, score = f"{selection.votes[unit]:.6g}", f"{selection.scores[unit]:.2f}"
        table.add_row(str(rank), selection.name(unit), votes, score, f"{int(selection.unit_sizes[unit]):,}")
    return table
