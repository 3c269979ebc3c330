"""``tlprune advise``: suggests how much to prune and forecasts the savings."""

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tlprune.commands.arguments import (
    add_budget,
    given_budget,
    make_console,
    make_parser,
    parse,
    require_selections,
    require_writable,
)
from tlprune.errors import InputError
from tlprune.storage.atomic import atomic_path

if TYPE_CHECKING:
    from tlprune.selection.advisor import Forecast
    from tlprune.selection.selection import Selection

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Suggests a ratio from the coverage curve and forecasts what it saves.

    Args:
        arguments: Arguments after ``advise`` on the command line.

    Raises:
        InputError: If the input is invalid, or nobody voted.
    """
    parser = make_parser("advise", "Suggest how much to prune, and forecast what that saves.")
    add = parser.add_argument
    add("selection", type=str, help="a saved Selection")
    add("--backbone", type=str | None, default=None, help="the model to pretrain; a few of its steps are timed here")
    add("--epochs", type=int | None, default=None, help="epochs of its pretraining")
    add("--image_size", type=int | None, default=None, help="pixels (default: as the surrogate saw them)")
    add("--batch_size", type=int, default=32, help="images in a timed step")
    add("--full_seconds", type=float | None, default=None, help="pretraining on the whole source, in place of timing")
    add(
        "--surrogate_seconds",
        type=float | None,
        default=None,
        help="its training (default: as its file says)",
    )
    add("--output", type=str | None, default=None, help="picture to write, *.png")
    add_budget(parser)
    given = parse(parser, arguments)
    require_writable(given.output)
    if given.backbone is not None and given.full_seconds is not None:
        raise InputError("give --backbone, to time it here, or --full_seconds, not both")
    if given.epochs is not None and given.epochs < 1:
        raise InputError(f"`epochs` must be at least 1, got {given.epochs}")
    if given.backbone is not None and given.epochs is None and given.full_seconds is None:
        raise InputError("to forecast a pretraining, give --epochs beside --backbone")
    require_selections(given.selection)
    from tlprune.selection.advisor import SUGGESTED_COVERAGE, advise  # loads torch, which takes seconds
    from tlprune.selection.selection import Selection

    selection = Selection.load(given.selection)
    advice = advise(selection)
    rows = [("elbow", advice.elbow), ("SUGGESTED", advice.suggested)]
    budget = given_budget(given)
    if budget is not None:
        rows.append(("as you say", len(selection.units_kept(budget))))
    console = make_console()
    forecast = _forecast(selection, given, console)
    console.print(_table(selection, rows, forecast))
    ratio = 1 - advice.suggested / selection.num_units
    console.print(f"suggested: --prune_ratio {ratio:.4g}   (or --vote_coverage {SUGGESTED_COVERAGE:g})")
    if given.output is not None:
        from tlprune.selection.figures import advice_figure  # loads matplotlib

        with atomic_path(given.output) as temporary:
            advice_figure(selection, dict(rows), forecast).savefig(temporary, format="png", dpi=110)
        console.print(f"picture: {given.output}", soft_wrap=True)


def _forecast(selection: "Selection", given: object, console: Console) -> "Forecast | None":
    options = vars(given)
    backbone, full = options["backbone"], options["full_seconds"]
    if full is None and backbone is None:
        console.print("no forecast: give --backbone and --epochs, or --full_seconds", soft_wrap=True)
        return None
    if full is None:
        from tlprune.models.cost import training_seconds_per_image  # loads torchvision

        size = options["image_size"]
        size = int(selection.metadata.get("image_size", 224)) if size is None else size
        each = training_seconds_per_image(backbone, size, options["batch_size"], selection.num_units)
        images = len(selection.unit_of_sample)
        full = each * images * options["epochs"]
        step = f"{1000 * each:.3g} ms an image of {size} pixels on this machine, loading apart"
        console.print(f"T, {backbone} on the whole source: {full:,.0f} s ({images:,} images, {step})", soft_wrap=True)
    surrogate = options["surrogate_seconds"]
    if surrogate is None:
        surrogate = selection.metadata.get("surrogate_seconds")
    if surrogate is None:
        console.print("S, the surrogate: its file does not say; counted as 0, give --surrogate_seconds", soft_wrap=True)
    from tlprune.selection.advisor import Forecast

    selecting = sum(selection.metadata.get("seconds", {}).values())
    found = Forecast(float(surrogate or 0), selecting, full)
    console.print(
        f"S, the surrogate: {found.surrogate_seconds:,.1f} s ({found.surrogate_seconds / full:.1%} of T); "
        f"L, selection: {selecting:,.1f} s ({selecting / full:.1%} of T)",
        soft_wrap=True,
    )
    return found


def _table(selection: "Selection", rows: list[tuple[str, int]], forecast: "Forecast | None") -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    headings = ["keep", "units", "pruned", "images", "votes"]
    headings += ["saved", "surrogate at hand"] if forecast else []
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "keep" else "right")
    sizes = selection.unit_sizes[selection.ranking].cumsum(0)
    for name, units in rows:
        images = int(sizes[units - 1])
        share = images / len(selection.unit_of_sample)
        cells = [name, f"{units:,}", f"{1 - units / selection.num_units:.1%}", f"{images:,}"]
        cells.append(f"{selection.covered[units - 1]:.1%}")
        cells += [f"{forecast.saving(share, reused):.1%}" for reused in (False, True)] if forecast else []
        table.add_row(*cells)
    return table
