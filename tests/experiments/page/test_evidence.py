import base64
from io import BytesIO

import pytest
import torch
from PIL import Image

from tlprune import Selection
from tlprune.experiments.page.evidence import Votes, gather, suggested_units, thumbnail


def selection_of(units, assignments, per_unit=3, **options):
    votes = torch.bincount(assignments, minlength=units).double()
    names = tuple(f"unit{number}" for number in range(units)) if options.get("unit_kind", "class") == "class" else ()
    of_sample = torch.arange(units).repeat_interleave(per_unit)
    order = votes.argsort(descending=True, stable=True)
    return Selection("label_mapping", names, order, votes, torch.zeros(units), of_sample, assignments, **options)


def image_of(unit):
    return torch.full((3, 8, 8), unit, dtype=torch.uint8)


def test_units_have_their_rank_votes_images_and_picture():
    selection = selection_of(4, torch.tensor([2, 2, 2, 0]))
    found = gather("t", selection, 2, "so", image_of, [])
    assert [(one.name, one.rank, one.votes, one.images) for one in found.kept_units] == [
        ("unit2", 1, "3 votes", 3),
        ("unit0", 2, "1 vote", 3),
    ]
    assert [one.name for one in found.dropped_units] == ["unit1", "unit3"]
    assert (found.images_kept, found.covered, found.with_votes, found.units) == (6, 1.0, 2, "classes")
    shown = Image.open(BytesIO(base64.b64decode(found.kept_units[0].picture.partition(",")[2])))
    assert shown.getpixel((0, 0)) == (2, 2, 2)


def test_of_many_units_the_ends_are_shown_and_the_rest_is_named():
    selection = selection_of(1300, torch.arange(1300))
    found = gather("t", selection, 200, "so", None, [])
    assert [one.rank for one in found.kept_units] == [*range(1, 31), *range(171, 201)]
    assert [one.rank for one in found.dropped_units] == [*range(201, 231), *range(1271, 1301)]
    assert {one.picture for one in found.kept_units} == {None}
    assert len(found.named) == 1000
    assert found.named[0] == "unit30"
    assert found.unnamed == 1300 - 120 - 1000


def test_flow_counts_every_ballot_once():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (500,), generator=generator)
    assignments = torch.randint(0, 20, (500,), generator=generator)
    selection = selection_of(20, assignments)
    classes = [f"class{number}" for number in range(30)]
    [flow] = gather("t", selection, 8, "so", None, [Votes("pets", classes, labels, assignments)]).flows
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
    kind, _, data = thumbnail(torch.zeros(3, 400, 200, dtype=torch.uint8)).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(data))).size == (32, 64)
    assert thumbnail(torch.zeros(3, 32, 32, dtype=torch.uint8)).startswith("data:image/png;base64,")


def test_how_much_is_shown_as_kept_without_a_budget():
    assert suggested_units(selection_of(4, torch.tensor([0] * 99 + [1]))) == (
        1,
        "the fewest that hold 99% of the votes",
    )
    nobody = selection_of(4, torch.empty(0, dtype=torch.int64))
    assert suggested_units(nobody)[0] == 2
    found = gather("t", nobody, 2, "so", None, [])
    assert (found.covered, found.kept_units[0].votes, found.cost) == (None, "", "")


def test_cost_is_what_the_record_has():
    selection = selection_of(2, torch.tensor([0]), metadata={"seconds": {"vote": 0.25}, "surrogate_seconds": 75.0})
    assert gather("t", selection, 1, "so", None, []).cost == "What it took: vote 0.25 s, training the surrogate 75 s."
