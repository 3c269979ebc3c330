import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest
import torch

from browser import CHROMIUM, browser
from sweeps import MORE_METHODS, made_results
from tlprune import Selection
from tlprune.data.datasets import TensorImages
from tlprune.experiments.page.evidence import Votes, gather
from tlprune.experiments.page.rendering import render_page, write_report
from tlprune.experiments.results import Group, MethodInfo
from tlprune.selection.ranking import Budget

OUR_SCRIPT = files("tlprune.experiments.page").joinpath("units.js").read_text().strip()
EVIL = '<script>alert(1)</script>\n"x\' onerror="y \udcff &amp; $a_b$ {{ 7 * 7 }}'


class Reader(HTMLParser):
    """Tables as rows of texts, and every element with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables, self.elements, self._cell = [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(" ".join(self._cell.split()))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data + " "


def evidence_of(names=("ant", "bee", "cat", "dog"), classes=("x", "y")):
    assignments = torch.tensor([2, 2, 2, 0, 0, 3])
    votes = torch.bincount(assignments, minlength=4).double()
    order = votes.argsort(descending=True, stable=True)
    of_sample = torch.arange(4).repeat_interleave(10)
    selection = Selection("label_mapping", names, order, votes, votes * 0, of_sample, assignments)
    voters = Votes("digits", classes, torch.tensor([0, 0, 0, 0, 1, 1]), assignments)
    source = TensorImages(torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8), of_sample, list(names))
    return gather("LM for digits", selection, Budget(units=2), "so", source, [voters])


def test_numbers_of_the_page_are_those_of_the_cells():
    results = made_results()
    tables = Reader(render_page(results, [], [], "t")).tables
    digits = next(table for table in tables if table[0][2] == "test accuracy, %")
    assert digits[0][:5] == ["method", "pruned", "test accuracy, %", "minus no pruning", "minus random"]
    assert len(digits) == 1 + 1 + 3 * 3 + 2  # ablations have a table of their own
    for row in digits[2:]:
        method = next(name for name, info in results.methods.items() if info.label == row[0].partition(",")[0])
        match_budget = "steps" if row[0].endswith("equal steps") else "epochs"
        group = Group("digits", method, int(row[1].rstrip("%")) / 100, match_budget)
        found = results.accuracy(group, "probe")
        assert row[2] == f"{found.mean:.1f} ± {found.half_width:.1f}"
        held = results.difference(group, Group("digits", "none"), "probe")
        word = "better" if held.low > 0 else "worse" if held.high < 0 else "unclear"
        assert row[3] == f"{held.mean:+.1f} [{held.low:+.1f}, {held.high:+.1f}] {word}"
        assert row[-2] == str(results.of(group)[0].images_kept)
    winning = next(table for table in tables if table[0] == ["target", "LM", "random", "reverse"])
    assert [row[0] for row in winning[1:]] == [
        f"{t}, {m}" for t in results.targets for m in ("linear probe", "full finetuning")
    ]
    assert winning[1][1].startswith("50%")
    cost = next(table for table in tables if "S + L + P" in table[0])
    row = next(row for row in cost if row[:2] == ["LM", "50%"])
    assert row[2:8] == ["45%", "50%", "5.0 s", "0.50 s", "50 s", "56 s"]
    ablation = next(table for table in tables if table[0][0] == "surrogate width")
    assert [row[0] for row in ablation[1:]] == ["4", "8", "16"] * 2


def test_votes_of_classes_are_in_a_table_and_units_in_lists():
    page = render_page(None, [evidence_of()], [], "t")
    listed, flow = Reader(page).tables[:2]
    assert flow[0] == ["digits", "images", "cat", "ant", "dog", "in kept"]
    assert flow[1:] == [["x", "4", "3", "1", "", "100%"], ["y", "2", "", "1", "1", "50%"]]
    kept, dropped = page.split('class="dropped">Dropped')
    assert kept.count('<li class="kept">') == 2
    assert dropped.count('<li class="dropped">') == 2
    assert page.count('src="data:image/') == 4 * 4  # four images of each unit
    assert listed[0] == ["rank", "class", "votes", "images", "kept"]
    assert listed[1:3] == [["1", "cat", "3", "10", "kept"], ["2", "ant", "2", "10", "kept"]]
    assert [row[-1] for row in listed[3:]] == ["dropped", "dropped"]
    assert "Nothing was trained on it" in page


def test_any_name_is_text_and_nothing_else():
    methods = {"none": MethodInfo("no pruning"), "label_mapping": MethodInfo(EVIL), "random": MethodInfo("random")}
    results = made_results(targets=(EVIL,), methods=methods, ablations=False)
    results.methods["ablated"] = MethodInfo("a", ablates={EVIL: EVIL})
    results.cells += [
        replace(one, method="ablated")
        for one in results.cells
        if one.method == "random" and one.match_budget == "epochs"
    ]
    results = replace(results, provenance={EVIL: EVIL}, recipes={"a": EVIL}, source={"name": EVIL})
    page = render_page(results, [evidence_of((EVIL, "b", "c", "d"), (EVIL, "y"))], [EVIL], EVIL)
    reader = Reader(page)
    assert [tag for tag, _ in reader.elements].count("script") == 1
    assert page.partition("<script>")[2].partition("</script>")[0] == OUR_SCRIPT
    assert not {name for _, attributes in reader.elements for name in attributes if name.startswith("on")}
    assert "{{ 7 * 7 }}" in page


def test_files_are_written_whatever_names_are(tmp_path):
    results = made_results(targets=(EVIL, "../../etc", "digits"), ablations=False)
    written = write_report(results, [], [], EVIL, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(written)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert "\\udcff" in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "accuracy-digits.png").stat().st_size > 10_000


def test_it_asks_for_nothing_and_is_the_same_each_time():
    results, evidence = made_results(), evidence_of()
    page = render_page(results, [evidence], ["told"], "t")
    assert page == render_page(results, [evidence], ["told"], "t")
    for tag, attributes in Reader(page).elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/")) or tag == "a", (tag, value)
        assert "url(http" not in (attributes.get("style") or "")
    assert "@import" not in page
    digest = b64encode(sha256(OUR_SCRIPT.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base" in page
    assert "script-src" not in render_page(results, [], [], "t")  # without tables of units no script may run


def test_a_page_of_twenty_targets_is_small():
    results = made_results(targets=[f"target{number}" for number in range(20)], seeds=3, ablations=False)
    generator = torch.Generator().manual_seed(0)
    votes = torch.randint(0, 200, (2000,), generator=generator)
    of_200, names = torch.arange(200).repeat_interleave(5), tuple(f"class{number}" for number in range(200))
    pixels = torch.randint(0, 256, (1000, 3, 96, 96), dtype=torch.uint8, generator=generator)
    source = TensorImages(pixels, of_200, list(names))
    counted = torch.bincount(votes, minlength=200).double()
    order = counted.argsort(descending=True, stable=True)
    selection = Selection("label_mapping", names, order, counted, counted * 0, of_200, votes)
    evidence = [gather(name, selection, Budget(ratio=0.5), "so", source, [], 400) for name in ("a", "b", "c")]
    page = render_page(results, evidence, [], "t")
    assert 200_000 < len(page.encode()) < 3_000_000
    reader = Reader(page)
    assert len(reader.tables) > 40
    assert len(reader.elements) < 30_000  # which a browser opens in half a second


def test_headings_do_not_skip_and_cells_have_scopes():
    elements = Reader(render_page(made_results(), [evidence_of()], [], "t")).elements
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert {attributes.get("scope") for tag, attributes in elements if tag == "th"} <= {"col", "row"}
    assert all("alt" in attributes for tag, attributes in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Seven methods, five ratios, two targets."""
    folder = tmp_path_factory.mktemp("big")
    results = made_results(methods=MORE_METHODS, ratios=(0.3, 0.5, 0.6, 0.7, 0.9), seeds=5)
    write_report(results, [evidence_of(), evidence_of()], ["Something is told."], "Seven methods", folder)
    return folder / "index.html"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1300])
def test_it_fits_the_screen_and_asks_for_nothing(big, tmp_path, width, dark):
    with browser(tmp_path / "profile") as page:
        page.open(big, width, dark)
        assert page.ask("document.scrollingElement.scrollWidth") <= width
        wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg')"
        wide += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
        assert page.ask(wide) == []
        background = page.ask("getComputedStyle(document.body).backgroundColor")
        ink = page.ask("getComputedStyle(document.querySelector('svg text')).fill")
        assert _contrast(background, ink) > 10
        assert (_luminance(background) < 0.05) == dark
        muted = page.ask("getComputedStyle(document.querySelector('.caption')).color")
        assert _contrast(background, muted) > 4.5
        for name in ("better", "worse"):
            shown = page.ask(f"getComputedStyle(document.querySelector('.{name}')).color")
            assert _contrast(background, shown) > 4.5
        black = "e => ['fill', 'stroke'].some(p => getComputedStyle(e)[p] == 'rgb(0, 0, 0)')"
        drawn = "[...document.querySelectorAll('svg path, svg use, svg text')]"
        assert page.ask(f"{drawn}.length") > 100
        assert page.ask(f"{drawn}.filter({black}).length") == 0  # the page's own ink is not quite black
        assert page.ask("getComputedStyle(document.querySelector('.legend span')).color") == ink
        assert page.asked_for == []
        assert page.said == []  # the policy had nothing to refuse
        page.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_print_is_light_and_opens_what_is_closed(big, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.open(big, 800, dark=True)
        page.pdf(tmp_path / "page.pdf")
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        page.call("Emulation.setEmulatedMedia", media="print", features=dark)
        assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        closed = "[...document.querySelectorAll('details.print-open:not([open]) table, details.print-open li')]"
        assert page.ask(f"{closed}.every(e => e.getBoundingClientRect().height > 0)")
        assert page.ask(f"{closed}.length") > 0
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 3


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2, in [0, 1]."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(first: str, second: str) -> float:
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)
