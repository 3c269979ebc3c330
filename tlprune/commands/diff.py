"""``tlprune diff``: lists units and images that only one of two Selections keeps."""

from tlprune.commands.arguments import (
    add_budget,
    add_origins,
    make_console,
    make_parser,
    note_of_numbers,
    parse,
    plural,
    require_selections,
    required_budget,
)

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Compares the units and images that two Selections keep within the same budget.

    Raises:
        InputError: If the input is invalid, or the Selections rank units of different sources.
    """
    parser = make_parser("diff", "Compare what two Selections of one source keep within the same budget.")
    parser.add_argument("first", type=str, help="a saved Selection")
    parser.add_argument("second", type=str, help="another of the same source")
    add_origins(parser, targets=False)
    add_budget(parser)
    given = parse(parser, arguments)
    require_selections(given.first, given.second)
    budget = required_budget(given)
    from tlprune.commands.origins import unit_names  # loads torch, which takes seconds
    from tlprune.selection.selection import Selection

    first, second = Selection.load(given.first), Selection.load(given.second)
    gained, lost = first.diff(second, budget)
    names = unit_names(first, given.source, given.cache)
    console = make_console()
    console.print(f"from {given.first} to {given.second}:")
    for sign, word, units in (("+", "gained", gained), ("-", "lost", lost)):
        images = f", {int(first.unit_sizes[units].sum()):,} images" if first.sizes_known else ""
        console.print(f"{word}: {plural(first, len(units))}{images}")
        for unit in units.tolist():
            console.print(f"  {sign} {names(unit)}", soft_wrap=True)
    same = len(first.units_kept(budget)) - len(lost)
    console.print(f"kept by both: {plural(first, same)}")
    if given.source is None and len(gained) + len(lost) and (note := note_of_numbers(first)) is not None:
        console.print(note, soft_wrap=True)
