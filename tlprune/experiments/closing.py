"""What a sweep ends with in a terminal: claims for each target, and differences over all."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tlprune.experiments.claims import FEWEST_SEEDS, Winning, winning
from tlprune.experiments.copied import copies_note
from tlprune.experiments.page.findings import units_of
from tlprune.experiments.pooled import PooledDifference, controls_of, pooled_rows
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.starts import difference_text, first_label, row_target, start_rows
from tlprune.experiments.statistics import FEWEST_TARGETS
from tlprune.experiments.verdicts import claim_text, pooled_sentences
from tlprune.experiments.wording import (
    difference,
    interval_source,
    mode_label,
    percent,
    points_text,
    pooled_text,
    share,
    start_label,
    target_labels,
    targets_text,
)

__all__ = ["print_claims", "print_copies", "print_pooled", "print_starts"]


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False
    )


def print_claims(results: Results, console: Console) -> None:
    """Prints the winning subsets of each target."""
    mode = results.modes[0]
    held = f"at most {points_text(results.margin)} below no pruning, on test images"
    table = _table(f"winning subsets by {mode_label(mode, results.recipes)}: {held}")
    labels = target_labels(results.targets)
    table.add_column("target", no_wrap=True, min_width=max(map(len, labels.values())))
    longest = max(len(info.label) for info in results.methods.values())
    table.add_column("method", overflow="fold", min_width=min(longest, 8))
    for heading in ("equal", "pruned", "minus no pruning", "what would decide"):
        table.add_column(heading, justify="right" if heading == "pruned" else "left", overflow="fold")
    for target in results.targets:
        for method, info in results.methods.items():
            for match_budget in ("epochs", "steps") if results.prunes(method) else ():
                won = winning(results, target, method, mode, match_budget)
                if won.claims:
                    table.add_row(labels[target], info.label, match_budget, *_claim(won))
            if method != NONE and not results.prunes(method):
                found = results.difference(Group(target, method), Group(target, NONE), mode)
                equal = "steps" if info.sampling == "weighted" else "-"
                table.add_row(labels[target], info.label, equal, "nothing", difference(found), "")
    console.print(table)
    text = "pruned: the largest ratio whose 95 % interval, over seeds and test images, lies above minus the margin, and"
    console.print(f"{text} those of all smaller ratios; open: it reaches both sides of that", soft_wrap=True)
    if results.seeds() < FEWEST_SEEDS:
        console.print(f"One or two seeds decide nothing about one target; run {FEWEST_SEEDS} or more", soft_wrap=True)


def _claim(won: Winning) -> tuple[str, str, str]:
    if won.claim is not None:
        return share(won.claim.ratio), claim_text(won.claim), ""
    stop = won.stop
    if stop is None:
        raise RuntimeError("no claim was made")
    return "open" if won.open else "none", f"{share(stop.ratio)}: {claim_text(stop)}", stop.needs


def print_pooled(results: Results, console: Console) -> None:
    """Prints how each method differs from random and from no pruning over all targets and seeds."""
    mode = results.modes[0]
    table = _table(
        f"over {len(results.targets)} targets, by {mode_label(mode, results.recipes)}: points on test images"
    )
    names = controls_of(results)
    for heading in ("method", "equal"):
        table.add_column(heading)
    headings = [heading for name in names for heading in (f"minus {results.methods[name].label}", "won / lost")]
    for heading in ("pruned", "images", "steps", "accuracy", *headings):
        table.add_column(heading, justify="right")
    for row in pooled_rows(results):
        if row.mode != mode:
            continue
        method, group = ", ".join(filter(None, [results.methods[row.group.method].label, row.some])), row.group
        steps = "-" if row.steps is None else f"{row.steps:,.0f}"
        numbers = [f"{group.ratio:.0%}", f"{row.images:,.0f}", steps, f"{row.accuracy:.1f}"]
        for one, some in zip(row.differences, row.some_compared, strict=True):
            numbers += [_points(one, some), targets_text(None if one is None else one.points)]
        table.add_row(method, group.match_budget, *numbers)
    console.print(table)
    seeds = results.seeds()
    text = "won / lost: targets above and below 0"
    if seeds > 1:
        text += ", in brackets how many of them beyond what seeds vary"
    if source := interval_source(len(results.targets), seeds):
        text = f"in brackets {source}; {text}"
    console.print(text, soft_wrap=True)
    if len(results.targets) < FEWEST_TARGETS:
        console.print(
            f"fewer than {FEWEST_TARGETS} targets carry no interval and no conclusion over targets", soft_wrap=True
        )
    for said in pooled_sentences(results, mode, [units_of(results, name) for name in results.compared]):
        console.print(said, soft_wrap=True, highlight=False)


def _points(found: PooledDifference | None, some: str) -> str:
    if found is None:
        return "-"
    notes = ["" if found.equal else "unequal", some]
    return " ".join([pooled_text(found.points, won=False), *filter(None, notes)])


def print_starts(results: Results, console: Console) -> None:
    """Prints how the starts of pretraining differ from the first one, and from their weights alone."""
    mode = results.modes[0]
    table = _table(f"starts, by {mode_label(mode, results.recipes)}: test accuracy, and differences in points")
    compared = len(results.starts) > 1
    for heading in ("method", "start", "target"):
        table.add_column(heading, overflow="fold")
    headings = [f"minus {first_label(results)}"] if compared else []
    for heading in ("pruned", "equal", "accuracy", *headings, "minus weights alone"):
        table.add_column(heading, justify="right", overflow="fold")
    for row in start_rows(results, mode):
        group = row.group
        names = [results.methods[group.method].label, start_label(group.start)]
        names += [row_target(results, row), f"{group.ratio:.0%}", group.match_budget]
        differences = [row.to_first, row.to_alone] if compared else [row.to_alone]
        table.add_row(*names, percent(row.accuracy), *map(difference_text, differences))
    console.print(table)
    text = "weights alone: transferred without pretraining on the source; in brackets 95 % intervals, over seeds"
    console.print(text, soft_wrap=True)


def print_copies(results: Results, console: Console) -> None:
    """Prints a note if test images of a target have copies in the source."""
    if (text := copies_note(results)) is not None:
        console.print(f"NOTE: {text}", soft_wrap=True, highlight=False, markup=False)
