"""``tlprune explain``: shows the rank of a unit and the images that voted for it, as text and as a figure."""

from typing import TYPE_CHECKING

from tlprune.commands.arguments import (
    add_budget,
    add_origins,
    given_budget,
    make_console,
    make_parser,
    note_of_numbers,
    parse,
    require_selections,
    require_writable,
)
from tlprune.storage.atomic import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["run"]

_NAMED = 10
"""Most images that are named of a target without labels."""


def run(arguments: list[str]) -> None:
    """Prints the rank of a unit, the images that voted for it, and why it is kept or dropped.

    Raises:
        InputError: If the input is invalid, or source or targets are not those of the Selection.
    """
    parser = make_parser("explain", "Say where a unit stands, who voted for it, and why it is kept or dropped.")
    parser.add_argument("selection", type=str, help="a saved Selection")
    parser.add_argument(
        "--unit",
        type=str,
        required=True,
        help="a class's name, the number of a cluster or image, or with --source an image's path",
    )
    parser.add_argument("--output", type=str | None, default=None, help="picture to write, *.png")
    add_origins(parser, targets=True)
    add_budget(parser)
    given = parse(parser, arguments)
    require_writable(given.output)
    require_selections(given.selection)
    from tlprune.commands.origins import find_unit, opened_source, opened_targets, unit_names  # loads torch
    from tlprune.selection.selection import Selection

    selection = Selection.load(given.selection)
    unit = find_unit(selection, given.unit, given.source, given.cache)
    name, found = unit_names(selection, given.source, given.cache)(unit), selection.explain(unit)
    budget = given_budget(given)
    console = make_console()
    title = f"{name}: rank {found.rank} of {selection.num_units}, {_votes(found.votes)}, score {found.score:.2f}"
    count = len(found.samples)
    counted = f", {count:,} source {'image' if count == 1 else 'images'}" if selection.sizes_known else ""
    console.print(f"{title}{counted}", soft_wrap=True)
    if given.source is None and (note := note_of_numbers(selection)) is not None:
        console.print(note, soft_wrap=True)
    if budget is not None:
        kept = selection.units_kept(budget)
        votes, score = float(selection.votes[kept[-1]]), float(selection.scores[kept[-1]])
        last = f", the last kept one has {_votes(votes)} and score {score:.2f}" if len(selection.assignments) else ""
        verdict = "KEPT" if found.rank <= len(kept) else "dropped"
        title += f", {verdict}"
        console.print(f"{verdict}: the budget keeps {len(kept)} of {selection.num_units}{last}", soft_wrap=True)
    voters = opened_targets(selection, given.target) if len(selection.assignments) else []
    if len(selection.target_votes):
        console.print("votes are weighted: every target counts the same, however many images it has", soft_wrap=True)
    shown: list[tuple[Tensor, str]] = []
    for target in voters:
        own = target.of_unit(unit)
        if not (classes := target.images.display_names):
            named = ", ".join(map(target.images.name, own[:_NAMED].tolist())) + (", ..." if len(own) > _NAMED else "")
            of = f"of {target.name}, without labels{f': {named}' if named else ''}"
            console.print(f"  {len(own):>4} {'image' if len(own) == 1 else 'images'} {of}", soft_wrap=True)
        counts = target.images.labels[own].bincount(minlength=len(classes)) if classes else own[:0]
        for label in counts.argsort(descending=True, stable=True).tolist():
            if counts[label] > 0:
                of = f"{classes[label]!r}{f' of {target.name}' if len(voters) > 1 else ''}"
                count = int(counts[label])
                console.print(f"  {count:>4} {'image' if count == 1 else 'images'} of class {of}", soft_wrap=True)
        if given.output is not None:
            for index in own[: 36 // len(voters)].tolist():
                image, label = target.images[index]
                shown.append((image, classes[label] if classes else target.images.name(index)))
    wanted = given.source is not None or (given.output is not None and selection.sizes_known)
    images = opened_source(selection, given.source, given.cache) if wanted else None
    if given.output is not None:
        if len(shown) < len(found.voters):
            title += f" ({len(shown)} of {len(found.voters)} voters shown)"
        from tlprune.selection.figures import explanation_figure  # loads matplotlib

        members = [] if images is None else [images[index][0] for index in found.samples[:12].tolist()]
        with atomic_path(given.output) as temporary:
            explanation_figure(name, members, shown, title).savefig(temporary, format="png", dpi=110)
        console.print(f"picture: {given.output}", soft_wrap=True)


def _votes(votes: float) -> str:
    return "1 vote" if votes == 1 else f"{votes:,.{0 if votes == round(votes) else 2}f} votes"
