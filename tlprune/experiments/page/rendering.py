"""The page itself, and everything that is written beside it."""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader

from tlprune import __version__
from tlprune.experiments import wording
from tlprune.experiments.copied import copied_targets, copies_verdict, more_targets
from tlprune.experiments.curves import ablation_figure, accuracy_figure
from tlprune.experiments.marks import marks_of
from tlprune.experiments.page import findings
from tlprune.experiments.page.conclusions import Headline, conclusion, headlines, pooled_headlines
from tlprune.experiments.page.diagnostics import diagnostics_table
from tlprune.experiments.page.evidence import Evidence
from tlprune.experiments.page.explanations import WHAT_METHODS_DO
from tlprune.experiments.page.files import cells_csv, pooled_csv, summary_csv
from tlprune.experiments.page.first_screen import first_screen
from tlprune.experiments.page.followed import Followed
from tlprune.experiments.page.markup import latex_tables, markdown_tables
from tlprune.experiments.page.svg import inline_svg
from tlprune.experiments.page.tables import report_tables
from tlprune.experiments.pooled import controls_of, pooled_rows
from tlprune.experiments.pooled_curves import pooled_figure
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.starts import difference_text, difference_verdict
from tlprune.experiments.statistics import FEWEST_TARGETS
from tlprune.experiments.verdicts import claim_text, pooled_sentences
from tlprune.experiments.wording import SEVERAL, mode_label, target_labels
from tlprune.selection.diagnostics import Diagnostics
from tlprune.selection.figures import drawable, votes_figure
from tlprune.selection.selection import UNIT_WORDS
from tlprune.storage.atomic import atomic_path, write_bytes

if TYPE_CHECKING:
    from tlprune.experiments.page.by_start import Starts

__all__ = ["PAGE", "render_page", "write_report"]

PAGE = "index.html"
"""Name of the page in its folder."""

_POOLED = "pooled.png"

_GLYPHS = {"": "━", "o": "●", "s": "■", "D": "◆", "v": "▼", "^": "▲", "P": "✚", "X": "✖", "*": "★", "<": "◀"}


@dataclass
class _Target:
    """One target's part of the page."""

    name: str
    split: str
    conclusion: str
    headlines: list[Headline]
    legend: list[dict[str, str]]
    panels: list[str]
    steps: bool
    png: str
    tables: list[dict[str, Any]]
    costs: list[findings.CostRow]
    longest: float
    whole_seconds: float | None


def write_report(
    results: Results | None,
    evidence: Sequence[Evidence],
    notes: Sequence[str],
    title: str,
    folder: Path,
    starts: "Starts | None" = None,
    followed: Followed | None = None,
    page: str = PAGE,
    table_ratio: float | None = None,
) -> list[str]:
    """Writes the page and, where there are cells, a picture for each target, CSV, LaTeX and Markdown.

    Args:
        results: All cells; None for a page about Selections alone.
        evidence: What is shown of Selections.
        notes: What a reader has to know first, in sentences.
        title: The page's heading.
        folder: Where to write; it is made.
        starts: Comparison of the start of these cells with others.
        followed: State of a page that is written again; None for one that does not reload itself.
        page: Name of the page.
        table_ratio: Ratio of the tables of methods and targets; None for the middle one.

    Returns:
        Names of the files.

    Raises:
        InputError: The folder cannot be written.
    """
    shown = None if results is None else _short_names(results)
    texts = {page: render_page(shown, evidence, notes, title, starts, followed)}
    written = []
    if results is not None and shown is not None:
        labels = target_labels(results.targets)
        texts |= {"cells.csv": cells_csv(results), "summary.csv": summary_csv(results)}
        tables = report_tables(shown, table_ratio)
        texts |= {"tables.tex": latex_tables(tables), "tables.md": markdown_tables(tables)}
        if len(results.targets) > 1:
            texts["pooled.csv"] = pooled_csv(results)
            if _has_whole(results):
                with atomic_path(folder / _POOLED) as temporary:
                    pooled_figure(results, results.modes[0]).savefig(
                        temporary, format="png", dpi=150, facecolor="white"
                    )
                written.append(_POOLED)
        for place, target in enumerate(results.targets):
            name = _png(results, place)
            with atomic_path(folder / name) as temporary:
                figure = accuracy_figure(shown, labels[target], _modes(results, target))
                figure.savefig(temporary, format="png", dpi=150, facecolor="white")
            written.append(name)
    for name, text in texts.items():
        # names of files that are no text are shown escaped
        write_bytes(folder / name, text.encode(errors="backslashreplace"))
    return [*texts, *written]


def render_page(
    results: Results | None,
    evidence: Sequence[Evidence],
    notes: Sequence[str],
    title: str,
    starts: "Starts | None" = None,
    followed: Followed | None = None,
) -> str:
    """The page as text; arguments as :func:`write_report`. The same arguments give the same text."""
    targets = [] if results is None else [_target(results, place) for place in range(len(results.targets))]
    copied = [] if results is None else copied_targets(results)
    room = files("tlprune.experiments.page")
    loader = PackageLoader("tlprune.experiments", "page")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {
        "difference": wording.difference,
        "difference_text": difference_text,
        "difference_verdict": difference_verdict,
        "more_targets": more_targets,
        "percent": wording.percent,
        "claim_text": claim_text,
        "pooled_text": wording.pooled_text,
        "targets_text": wording.targets_text,
        "seconds": wording.seconds,
        "share": wording.share,
        "verdict": findings.verdict,
        "width": _width,
    }
    template = environment.get_template("page.html.j2")
    script = room.joinpath("units.js").read_text(encoding="utf-8").strip() if evidence else ""
    comparisons = sum(
        (row.to_none is not None) + (row.to_random is not None)
        for target in targets
        for table in target.tables
        for row in table["rows"]
    )
    return template.render(
        title=title,
        followed=followed,
        partial=results is not None and results.is_partial,
        version=__version__,
        style=room.joinpath("page.css").read_text(encoding="utf-8"),
        script=script,
        script_digest=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        lead=_lead(results, evidence),
        screens=[first_screen(one) for one in evidence] if results is None else [],
        targets=targets,
        pooled=None if results is None or len(results.targets) < 2 else _pooled(results),
        notes=notes,
        copied=copied,
        copies_verdict=copies_verdict(copied) if copied else "",
        starts=starts,
        several=SEVERAL,
        points="" if results is None else wording.points_text(results.margin),
        winning=None if results is None else _winning(results),
        ablations=[] if results is None else _ablations(results),
        diagnosed=None if results is None else diagnostics_table(results),
        diagnoses=list(_diagnoses(evidence)),
        evidence=evidence,
        words={kind: words[0] for kind, words in UNIT_WORDS.items()},
        curves=[_curve(one, place) for place, one in enumerate(evidence)],
        explained=_explained(results, evidence),
        comparisons=comparisons,
        provenance=[] if results is None else _provenance(results),
    )


def _short_names(results: Results) -> Results:
    """Calls folders by their last parts."""
    labels = target_labels(results.targets)
    cells = [replace(cell, target=labels[cell.target]) for cell in results.cells]
    return replace(results, targets={labels[name]: known for name, known in results.targets.items()}, cells=cells)


def _lead(results: Results | None, evidence: Sequence[Evidence]) -> str:
    if results is None:
        made = ", ".join(sorted({one.selection.method.replace("_", " ") for one in evidence}))
        return f"What a Selection keeps of its source, by {made}, for pretraining."
    seeds = sorted({cell.seed for cell in results.cells})
    methods = [results.methods[name].label for name in results.compared]
    source = results.source.get("name", "unnamed")
    return (
        f"How much of the source {source!r} can be left out of pretraining, and which part, for "
        f"{_targets(results)}? "
        f"Compared: {_and(methods)}; {len(results.cells)} cells, "
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}.{_included(results)}"
    )


def _seeds(results: Results) -> int:
    return results.seeds([cell.group for cell in results.cells])


def _targets(results: Results) -> str:
    return _and(list(results.targets)) if len(results.targets) <= SEVERAL else f"{len(results.targets)} targets"


def _included(results: Results) -> str:
    """What pretraining batches hold beside the source, in a sentence; empty if nothing."""
    config = (results.recipes.get("pretrain") or {}).get("config") or {}
    share = ((config.get("data") or {}).get("init_args") or {}).get("include_target")
    if share is None:
        return ""
    what = f" Of each pretraining batch {share:.0%} are training images of the target, without labels, for every method"
    return f"{what}; they are not counted as kept."


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _modes(results: Results, target: str) -> list[str]:
    cells = [cell for cell in results.cells if cell.target == target]
    return [mode for mode in results.modes if any(mode in cell.scores for cell in cells)]


def _target(results: Results, place: int) -> _Target:
    target = list(results.targets)[place]
    modes = _modes(results, target)
    costs = [row for row in findings.cost_rows(results, target) if row.group.method in results.compared]
    whole = results.of(Group(target, NONE))
    there = {cell.method for cell in results.cells if cell.target == target}
    pictures = [
        inline_svg(
            accuracy_figure(results, target, [mode], legend=False),
            f"accuracy-{place}-{number}",
            f"Test accuracy of {target} by {mode_label(mode, results.recipes)} against the share pruned; numbers are "
            "below",
        )
        for number, mode in enumerate(modes)
    ]
    return _Target(
        name=target,
        split=str(results.targets[target].get("split", "")),
        conclusion=conclusion(results, target),
        headlines=headlines(results, target),
        legend=[
            {"label": results.methods[name].label, "colour": mark.colour, "glyph": _GLYPHS[mark.shape]}
            for name, mark in marks_of(results.compared).items()
            if name in there
        ],
        panels=pictures,
        steps=any(cell.match_budget == "steps" for cell in results.cells if cell.target == target),
        png=_png(results, place),
        tables=[
            {
                "mode": mode_label(mode, results.recipes),
                "rows": [
                    row for row in findings.accuracy_rows(results, target, mode) if row.group.method in results.compared
                ],
            }
            for mode in modes
        ],
        costs=costs,
        longest=max((row.total for row in costs), default=0.0),
        whole_seconds=median(cell.pretraining_seconds for cell in whole) if whole else None,
    )


def _png(results: Results, place: int) -> str:
    """A name for files, whatever the target is called."""
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", Path(target).name).strip("-.") for target in results.targets]
    number = "" if names.count(names[place]) == 1 and names[place] else f"-{place + 1}"
    return f"accuracy-{names[place]}{number}.png".replace("--", "-")


def _has_whole(results: Results) -> bool:
    return any(cell.method == NONE for cell in results.cells)


def _pooled(results: Results) -> dict[str, Any]:
    """The figure, sentences and table over all targets."""
    mode = results.modes[0]
    picture = ""
    if _has_whole(results):
        label = f"Difference to no pruning by {mode_label(mode, results.recipes)} for each target and their mean"
        picture = inline_svg(pooled_figure(results, mode), "pooled", f"{label}; numbers are below")
    return {
        "targets": len(results.targets),
        "fewest": FEWEST_TARGETS,
        "interval": wording.interval_source(len(results.targets), _seeds(results)),
        "seeds": _seeds(results),
        "headlines": pooled_headlines(results),
        "picture": picture,
        "png": _POOLED,
        "sentences": pooled_sentences(results, mode, [findings.units_of(results, name) for name in results.compared]),
        "controls": [results.methods[name].label for name in controls_of(results)],
        "rows": [
            (results.methods[row.group.method].label, mode_label(row.mode, results.recipes), row)
            for row in pooled_rows(results)
            if row.group.method in results.compared
        ],
    }


def _winning(results: Results) -> dict[str, Any]:
    """Methods as columns, a row for each target and mode: there may be many targets."""
    found = list(findings.winning_rows(results))
    places = [(target, mode) for target in results.targets for mode in results.modes]
    return {
        "methods": [results.methods[method].label for method, _ in found],
        "rows": [
            (f"{target}, {mode_label(mode, results.recipes)}", [won.get((target, mode)) for _, won in found])
            for target, mode in places
            if any((target, mode) in won for _, won in found)
        ],
    }


def _ablations(results: Results) -> list[dict[str, Any]]:
    found = []
    for place, target in enumerate(results.targets):
        mode = _modes(results, target)[0]
        rows = {row.group: row for row in findings.accuracy_rows(results, target, mode)}
        costs = {row.group: row for row in findings.cost_rows(results, target)}
        for number, (factor, lines) in enumerate(findings.ablation_lines(results, target, mode).items()):
            figure = ablation_figure(results, target, mode, lines)
            figure.axes[0].set_xlabel(drawable(factor))
            label = f"Test accuracy of {target} against {factor}; numbers are below"
            table = [(level, name, rows[one], costs[one]) for name, line in lines.items() for level, one in line]
            picture = inline_svg(figure, f"ablation-{place}-{number}", label)
            found.append({"factor": factor, "target": target, "picture": picture, "rows": table})
    return found


def _curve(evidence: Evidence, place: int) -> str:
    if not len(evidence.selection.assignments):
        return ""
    figure = votes_figure(evidence.selection, evidence.kept, "")
    figure.set_size_inches(6, 3.6)  # its letters can be read on a phone
    return inline_svg(figure, f"votes-{place}", "Votes of every unit, and the share of votes that the best units hold")


def _diagnoses(evidence: Sequence[Evidence]) -> Iterator[tuple[str, str, int, Diagnostics, bool]]:
    """Yields rows: what is kept, and then as many random images."""
    for one in evidence:
        for target, found in one.diagnoses:
            yield one.title, target, found.images, found.kept, False
            yield "random images", target, found.images, found.random, True


def _explained(results: Results | None, evidence: Sequence[Evidence]) -> list[tuple[str, str]]:
    if results is None:
        names = {one.selection.method: one.selection.method.replace("_", " ") for one in evidence}
    else:
        names = {name: results.methods[name].label for name in results.compared}
    return [(label, WHAT_METHODS_DO[name]) for name, label in names.items() if name in WHAT_METHODS_DO]


def _provenance(results: Results) -> list[tuple[str, str]]:
    parts = {"run": results.provenance, "source": results.source, "targets": results.targets}
    parts["recipes"] = results.recipes
    return [(name, yaml.safe_dump(part, sort_keys=False, width=100)) for name, part in parts.items() if part]


def _width(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}%" if whole > 0 else "0%"
