"""``tlprune advise``: suggests how much to prune, forecasts the savings, and diagnoses what is kept."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tlprune.commands.arguments import (
    add_budget,
    add_origins,
    given_budget,
    make_console,
    make_parser,
    parse,
    require_selections,
    require_writable,
    required_budget,
)
from tlprune.errors import InputError, require_within
from tlprune.storage.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tlprune.selection.advisor import Forecast
    from tlprune.selection.ranking import Budget
    from tlprune.selection.selection import Selection

__all__ = ["run"]

_OF_ONE = ("backbone", "epochs", "full_seconds", "surrogate_seconds", "output")
"""Options that make no sense for several Selections."""

_OF_DIAGNOSING = ("surrogate", "surrogate_backbone", "source", "target")
"""Options that are used for diagnostics alone."""


def run(arguments: list[str]) -> None:
    """Suggests a ratio from the coverage curve and forecasts what it saves; diagnoses what one or several keep.

    Raises:
        InputError: If the input is invalid, nobody voted, or source or targets are not those of the Selections.
    """
    parser = make_parser("advise", "Suggest how much to prune, forecast what that saves, and diagnose what is kept.")
    add = parser.add_argument
    add("selections", type=str, nargs="+", help="a saved Selection; several of one source are diagnosed side by side")
    add("--backbone", type=str | None, default=None, help="the model to pretrain; a few of its steps are timed here")
    add("--epochs", type=int | None, default=None, help="epochs of its pretraining")
    add("--image_size", type=int | None, default=None, help="pixels (default: as the surrogate saw them)")
    add("--batch_size", type=int, default=32, help="images in a timed step")
    add("--full_seconds", type=float | None, default=None, help="pretraining on the whole source, in place of timing")
    add("--surrogate_seconds", type=float | None, default=None, help="its training (default: as its file says)")
    add("--output", type=str | None, default=None, help="picture to write, *.png")
    text = "say how near what a budget keeps is to the target, how varied, and how many are copies, in features"
    add("--diagnose", action="store_true", help=text)
    text = "whose features are compared with --diagnose (default: as when selected)"
    add("--surrogate", type=str | None, default=None, help=text)
    add("--surrogate_backbone", type=str | None, default=None, help="its network, if the file is silent")
    add("--num_workers", type=int, default=0, help="processes that load images with --diagnose")
    add_origins(parser, targets=True)
    add_budget(parser)
    given = parse(parser, arguments)
    diagnosing = given.diagnose or len(given.selections) > 1
    _check(given, diagnosing)
    require_selections(*given.selections)
    budget = required_budget(given) if diagnosing else given_budget(given)
    from tlprune.selection.selection import Selection  # loads torch, which takes seconds

    selections = {path: Selection.load(path) for path in given.selections}
    console = make_console()
    opened = None
    if diagnosing and budget is not None:
        from tlprune.commands.diagnostics import Opened  # loads torchvision

        opened = Opened.open(selections, given, budget)
    picture = None
    if len(selections) == 1:
        [selection] = selections.values()
        if opened is None or _has_advice(selection) or any(given[name] is not None for name in _OF_ONE):
            picture = _advise(selection, given, budget, console)
        else:
            console.print(f"no suggestion: a selection by {selection.method!r} has no votes to suggest from")
    if opened is not None:
        opened.print_diagnostics(console)
    if given.output is not None and picture is not None:
        with atomic_path(given.output) as temporary:
            picture().savefig(temporary, format="png", dpi=110)
        console.print(f"picture: {given.output}", soft_wrap=True)


def _check(given: Namespace, diagnosing: bool) -> None:
    """Rejects options that do not go together, before any file is read."""
    require_writable(given.output)
    require_within("num_workers", given.num_workers, 0)
    if given.backbone is not None and given.full_seconds is not None:
        raise InputError("give --backbone, to time it here, or --full_seconds, not both")
    if given.epochs is not None:
        require_within("epochs", given.epochs, 1)
    if given.backbone is not None and given.epochs is None and given.full_seconds is None:
        raise InputError("to forecast a pretraining, give --epochs beside --backbone")
    several = len(given.selections)
    if several > 1 and (odd := next((name for name in _OF_ONE if given[name] is not None), None)):
        raise InputError(f"--{odd} goes with one Selection, {several} are given")
    if not diagnosing and (odd := next((name for name in _OF_DIAGNOSING if given[name] is not None), None)):
        raise InputError(f"--{odd} goes with --diagnose, or with several Selections")
    if twice := next((path for path in given.selections if given.selections.count(path) > 1), None):
        raise InputError(f"{twice}: given twice")


def _has_advice(selection: "Selection") -> bool:
    return selection.method != "reverse" and float(selection.covered[-1]) > 0


def _advise(
    selection: "Selection", given: Namespace, budget: "Budget | None", console: Console
) -> "Callable[[], Figure]":
    """Prints what is suggested, and what that saves. Returns a function that draws it."""
    from tlprune.selection.advisor import (
        OF_A_HANDFUL,
        SUGGESTED_COVERAGE,
        advise,
        suggested_images,
        vote_spread,
        votes_for_a_handful,
    )

    advice = advise(selection)
    console.print(vote_spread(selection), soft_wrap=True)
    if votes_for_a_handful(selection):
        console.print(f"NOTE: {OF_A_HANDFUL}; '--diagnose' compares with random images", soft_wrap=True)
    sizes = [0, *selection.unit_sizes[selection.ranking].cumsum(0).tolist()]
    rows = [(name, units, sizes[units]) for name, units in (("elbow", advice.elbow), ("SUGGESTED", advice.suggested))]
    by_similarity = suggested_images(selection)
    if by_similarity is not None:
        rows.append(("by similarity", by_similarity, sizes[by_similarity]))
    if budget is not None:
        said = selection.kept(budget)
        rows.append(("as you say", len(said.units), len(said.samples)))
    forecast = _forecast(selection, given, console)
    console.print(_table(selection, rows, forecast))
    ratio = 1 - advice.suggested / selection.num_units
    console.print(f"suggested: --prune_ratio {ratio:.4g}   (or --vote_coverage {SUGGESTED_COVERAGE:g})")
    if by_similarity is not None:
        text = "similarity to the target's images falls beyond it"
        console.print(f"suggested by similarity: --keep_images {by_similarity}   ({text})")

    def picture() -> "Figure":
        from tlprune.selection.figures import advice_figure  # loads matplotlib

        return advice_figure(selection, {name: units for name, units, _ in rows}, forecast)

    return picture


def _forecast(selection: "Selection", given: object, console: Console) -> "Forecast | None":
    options = vars(given)
    backbone, full = options["backbone"], options["full_seconds"]
    if not selection.sizes_known:
        if (full, backbone) != (None, None):
            raise InputError("a forecast needs the number of images of each class, and only class names are known")
        return None
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


def _table(selection: "Selection", rows: list[tuple[str, int, int]], forecast: "Forecast | None") -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    headings = ["keep", "units", "pruned", *(["images"] if selection.sizes_known else []), "votes"]
    headings += ["saved", "surrogate at hand"] if forecast else []
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "keep" else "right")
    for name, units, images in rows:
        share = images / max(len(selection.unit_of_sample), 1)
        cells = [name, f"{units:,}", f"{1 - units / selection.num_units:.1%}"]
        cells += [f"{images:,}"] if selection.sizes_known else []
        cells.append(f"{selection.covered[units - 1]:.1%}")
        cells += [f"{forecast.saving(share, reused):.1%}" for reused in (False, True)] if forecast else []
        table.add_row(*cells)
    return table
