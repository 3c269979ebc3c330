import base64
from io import BytesIO

import pytest
import torch
from PIL import Image

from tlprune import Selection
from tlprune.data.datasets import TensorImages
from tlprune.experiments.page.evidence import Votes, gather, suggested_budget
from tlprune.experiments.page.units import thumbnail
from tlprune.selection.advisor import suggested_images
from tlprune.selection.ranking import Budget


def selection_of(units, assignments, per_unit=3, **options):
    votes = torch.bincount(assignments, minlength=units).double()
    names = tuple(f"unit{number}" for number in range(units)) if options.get("unit_kind", "class") == "class" else ()
    of_sample = torch.arange(units).repeat_interleave(per_unit)
    order = votes.argsort(descending=True, stable=True)
    return Selection("label_mapping", names, order, votes, torch.zeros(units), of_sample, assignments, **options)


def source_of(units, per_unit=3, classes=None):
    """Images whose every pixel is the number of their unit."""
    of_sample = torch.arange(units).repeat_interleave(per_unit)
    pixels = of_sample.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    names = [f"class{number}" for number in range(2)] if classes is None else classes
    return TensorImages(pixels, of_sample % len(names), names)


def shown(found):
    return {band.title: [unit.rank for unit in band.units] for band in found.sheet}


def test_units_have_their_rank_votes_images_and_pictures():
    selection = selection_of(4, torch.tensor([2, 2, 2, 0]))
    found = gather("t", selection, Budget(units=2), "so", source_of(4), [])
    kept, dropped = found.sheet
    assert [(one.name, one.rank, one.votes, one.images) for one in kept.units] == [
        ("unit2", 1, "3", 3),
        ("unit0", 2, "1", 3),
    ]
    assert (kept.kept, dropped.kept) == (True, False)
    assert [one.name for one in dropped.units] == ["unit1", "unit3"]
    assert (found.images_kept, found.covered, found.with_votes, found.unit_words) == (6, 1.0, 2, "classes")
    assert [len(one.pictures) for one in kept.units] == [3, 3]
    picture = Image.open(BytesIO(base64.b64decode(kept.units[0].pictures[0].partition(",")[2])))
    assert picture.convert("RGB").getpixel((0, 0)) == (2, 2, 2)


@pytest.mark.parametrize(
    ("units", "kept", "bands"),
    [
        (10, 4, {"Kept: ranked highest": (1, 5), "Dropped": (5, 11)}),
        (4, 4, {"Kept: ranked highest": (1, 5)}),
        (40, 18, {"Kept: ranked highest": (1, 19), "Dropped: first beyond the border": (19, 25)}),
        (40, 30, {"Kept: ranked highest": (1, 13), "Kept: last before the border": (25, 31), "Dropped": (31, 41)}),
    ],
)
def test_the_contact_sheet_shows_the_best_the_border_and_the_lowest(units, kept, bands):
    found = shown(gather("t", selection_of(units, torch.arange(units)), Budget(units=kept), "so", None, []))
    if kept == 18:
        assert found.pop("Dropped: ranked lowest") == list(range(35, 41))
    assert found == {title: list(range(*ends)) for title, ends in bands.items()}


def test_the_table_has_all_units_or_says_how_many_it_leaves_out():
    selection = selection_of(1600, torch.arange(1600))
    table = gather("t", selection, Budget(units=200), "so", None, []).table
    assert ([row.rank for row in table.rows], table.left_out) == (list(range(1, 1601)), 0)
    assert table.columns == ["votes", "images"]
    selection = selection_of(9000, torch.arange(9000))
    table = gather("t", selection, Budget(units=5000), "so", None, []).table
    assert [row.rank for row in table.rows] == [*range(1, 1001), *range(4751, 5251), *range(8901, 9001)]
    assert table.left_out == 9000 - 1600
    assert [row.rank for row in table.rows if row.kept] == [*range(1, 1001), *range(4751, 5001)]


def test_clusters_and_single_images_say_what_they_show():
    selection = selection_of(3, torch.tensor([1, 1, 0]), unit_kind="cluster")
    found = gather("t", selection, Budget(units=1), "so", source_of(3, classes=["ant", "bee", "cat"]), [])
    assert [(one.name, one.note) for one in found.table.rows][:1] == [("cluster 1", "bee 100%")]
    mixed = TensorImages(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.tensor([0] * 4 + [1] * 5), ["ant", "bee"])
    found = gather("t", selection, Budget(units=1), "so", mixed, [])
    assert [one.note for one in found.table.rows] == ["bee 67%, ant 33%", "ant 100%", "bee 100%"]
    selection = selection_of(9, torch.tensor([1, 1, 0]), per_unit=1, unit_kind="sample")
    found = gather("t", selection, Budget(units=1), "so", mixed, [])
    row = found.table.rows[0]
    assert (row.name, row.code, row.note, len(found.sheet[0].units[0].pictures)) == ("image 1", "sample 1", "ant", 1)
    assert gather("t", selection, Budget(units=1), "so", None, []).table.rows[0].name == "sample 1"


def test_an_exact_number_of_images_cuts_the_last_unit():
    found = gather("t", selection_of(4, torch.tensor([2, 2, 2, 0])), Budget(exactly=4), "so", None, [])
    assert (found.kept, found.images_kept) == (2, 4)


def test_flow_counts_every_ballot_once():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (500,), generator=generator)
    assignments = torch.randint(0, 20, (500,), generator=generator)
    selection = selection_of(20, assignments)
    classes = [f"class{number}" for number in range(30)]
    [flow] = gather("t", selection, Budget(units=8), "so", None, [Votes("pets", classes, labels, assignments)]).flows
    assert len(flow.columns) == 12 + 1  # the twelve with most votes hold all eight kept ones
    assert flow.columns[-1] == ("8 more dropped", False)
    assert [name for name, _ in flow.columns[:12]] == [selection.name(unit) for unit in selection.ranking[:12].tolist()]
    assert [kept for _, kept in flow.columns[:12]] == [True] * 8 + [False] * 4
    assert flow.rows[-1].name == "6 more classes"
    assert sum(sum(row.votes) for row in flow.rows) == 500
    kept = set(selection.ranking[:8].tolist())
    for row in flow.rows[:-1]:
        mine = assignments[labels == classes.index(row.name)].tolist()
        assert row.images == len(mine) == sum(row.votes)
        assert row.kept == pytest.approx(sum(unit in kept for unit in mine) / len(mine))
        assert row.votes[0] == mine.count(int(selection.ranking[0]))


def test_thumbnails_are_small():
    noise = torch.randint(0, 256, (3, 400, 200), dtype=torch.uint8)
    kind, _, data = thumbnail(noise).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(data))).size == (32, 64)
    assert thumbnail(torch.zeros(3, 32, 32, dtype=torch.uint8)).startswith("data:image/png;base64,")


def test_how_much_is_shown_as_kept_without_a_budget():
    budget, why = suggested_budget(selection_of(4, torch.tensor([0] * 99 + [1])))
    assert (budget, why) == (Budget(units=1), "the fewest that hold 99 % of the votes")
    nobody = selection_of(4, torch.empty(0, dtype=torch.int64))
    assert suggested_budget(nobody)[0] == Budget(units=2)
    found = gather("t", nobody, Budget(units=2), "so", None, [])
    assert (found.covered, found.sheet[0].units[0].votes, found.cost) == (None, "", "")
    options = {"unit_kind": "sample", "metadata": {"suggested_images": 3}}
    assert suggested_budget(selection_of(5, torch.tensor([0]), per_unit=1, **options))[0] == Budget(units=3)
    options["metadata"] = {"suggested_images": 5}  # all of them: similarity falls at no number
    assert suggested_images(selection_of(5, torch.tensor([0]), per_unit=1, **options)) is None


def test_cost_is_what_the_record_has():
    selection = selection_of(2, torch.tensor([0]), metadata={"seconds": {"vote": 0.25}, "surrogate_seconds": 75.0})
    found = gather("t", selection, Budget(units=1), "so", None, [])
    assert found.cost == "What it took: vote 0.25 s, training the surrogate 75 s."
