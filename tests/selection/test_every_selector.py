"""What every selector of the registry promises; a new one is tried as soon as it has its line there."""

import inspect
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import tlprune
from forked import run_ranks
from tlprune import ImageSet, InputError, Selection, Selector, select
from tlprune.selection import registry
from tlprune.selection.forgetting import ForgettingCounts
from tlprune.selection.ranking import Budget

NAMES = registry.selector_names()
DRAWS = {"NearestImages": {"num_anchors": 3}}
"""Options with which a selector draws, where it does not always."""

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fly")


@pytest.fixture
def source(class_folder):
    """Eighteen images of six classes, in files whose size says nothing of what is in them."""
    return str(class_folder("src", dict.fromkeys(CLASSES, 3), size=16, ending=".bmp"))


@pytest.fixture
def voters(coloured):
    return coloured(3, 4, seed=3)


@pytest.fixture
def build(source, tmp_path):
    """Builds a selector from what it needs: most need nothing."""
    images = tlprune.PrunedSourceDataModule(source)._split()[0]
    (tmp_path / "list.txt").write_text("cat\nant\n")
    counts = ForgettingCounts(images.fingerprint(), torch.arange(18), 4, torch.ones(18, dtype=torch.bool))
    counts.save(tmp_path / "counts.safetensors")
    needed = {
        "ListSelector": {"path": str(tmp_path / "list.txt")},
        "ReverseSelector": {"of": tlprune.LabelMapping()},
        "Forgetting": {"counts": str(tmp_path / "counts.safetensors")},
    }

    def make(name, **options):
        return getattr(tlprune, name)(**needed.get(name, {}), **options)

    return make


@pytest.fixture
def selected(source, voters, build, surrogate_file):
    """A Selection by the selector of that name."""
    surrogate = str(surrogate_file(list(CLASSES)))

    def make(name, target=voters, **options):
        return select(source, target, selector=build(name), surrogate=surrogate, image_size=16, **options)

    return make


def test_the_registry_is_the_one_list():
    assert len(set(NAMES)) == len(NAMES)
    assert sorted(NAMES) == sorted(registry.__all__)
    assert set(NAMES) <= set(tlprune.__all__)
    written = [one for one in tlprune.__all__ if inspect.isclass(getattr(tlprune, one))]
    of_all = {one for one in written if issubclass(getattr(tlprune, one), Selector)} - {"Selector"}
    assert of_all == set(NAMES)
    assert len({getattr(tlprune, name).method for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_facts_are_attributes(name, build):
    selector = build(name)
    assert selector.label
    assert selector.method.replace("_", "").isalnum()
    assert selector.unit_kind in ("class", "cluster", "sample")
    assert set(selector.needs) <= {"target", "labels", "classifier", "backbone"}
    assert type(selector).draws_seed == ("seed" in inspect.signature(type(selector)).parameters)
    assert json.loads(json.dumps(selector.options)) == selector.options


@pytest.mark.parametrize("name", NAMES)
def test_its_order_is_total_and_comes_again(name, selected, tmp_path):
    first, second = selected(name, cache=tmp_path / "one"), selected(name, cache=tmp_path / "two")
    assert first.digest == second.digest
    assert first.ranking.sort().values.tolist() == list(range(first.num_units))
    assert first.kept(Budget(ratio=0.5)).samples.tolist() == second.keep(ratio=0.5).tolist()
    first.save(tmp_path / "s.safetensors")
    assert Selection.load(tmp_path / "s.safetensors").digest == first.digest
    cached = selected(name, cache=tmp_path / "one")
    assert cached.digest == first.digest
    assert "cached" in cached.metadata


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("combine", ["worst_case", "union", "weighted_sum"])
def test_two_targets_share_one_order(name, combine, selected, voters):
    both = selected(name, [voters, voters.subset(torch.arange(8))], combine=combine)
    assert both.ranking.sort().values.tolist() == list(range(both.num_units))
    assert both.scores.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_zero_votes_still_make_an_order(name, selected):
    found = selected(name)
    silent = replace(found, votes=torch.zeros(found.num_units), target_votes=torch.empty(0, found.num_units))
    assert len(silent.kept(Budget(units=1)).units) == 1
    with pytest.raises(InputError, match="`coverage` needs votes"):
        silent.keep(coverage=0.5)
    if "target" not in getattr(tlprune, name).needs and name != "ReverseSelector":
        assert found.votes.sum() == 0


@pytest.mark.parametrize("name", [name for name in NAMES if getattr(tlprune, name).draws_seed])
def test_another_seed_draws_another_order(name, source, voters, build, surrogate_file):
    options = {"surrogate": str(surrogate_file(list(CLASSES))), "image_size": 16}
    orders = {
        (tuple(found.ranking.tolist()), tuple(found.unit_of_sample.tolist()))
        for seed in range(4)
        for found in [select(source, voters, selector=build(name, seed=seed, **DRAWS.get(name, {})), **options)]
    }
    assert len(orders) > 1


@pytest.mark.parametrize("name", NAMES)
def test_images_that_were_rewritten_are_looked_at_again(name, source, selected, tmp_path):
    """Files of the same name and size, with other pixels, and a cache that knows the old ones."""
    selected(name, cache=tmp_path / "used")
    for folder, colour in zip(CLASSES, (0, 255, 30, 200, 90, 140), strict=True):
        for number in range(3):
            path = Path(source, folder, f"{number:03}.bmp")
            size = path.stat().st_size
            Image.new("RGB", (16, 16), (colour, 255 - colour, 40 * number)).save(path)
            assert path.stat().st_size == size
    again, clean = selected(name, cache=tmp_path / "used"), selected(name, cache=tmp_path / "clean")
    assert again.digest == clean.digest
    assert torch.equal(again.scores, clean.scores)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_needs_is_asked_for(name, source, build):
    needs = build(name).needs
    if "target" in needs:
        with pytest.raises(InputError, match="needs `target`"):
            select(source, selector=build(name), surrogate=None)
    elif {"classifier", "backbone"} & set(needs):
        with pytest.raises(InputError, match="needs `surrogate`"):
            select(source, selector=build(name))


def test_selectors_written_with_former_names_still_work(coloured):
    class Former(Selector):
        method = "former"
        needs_target = False
        needs_surrogate = None
        reusable = False

        def order(self, source, target, surrogate, cache):
            units = len(source.classes)
            nothing = torch.zeros(units)
            return Selection(
                method=self.method,
                unit_names=source.classes,
                ranking=torch.arange(units),
                votes=nothing,
                scores=nothing,
                unit_of_sample=source.labels,
                ballots=torch.empty(0),
                record={"seconds": {"look": 1.0}},
            )

    assert Former().deterministic is False
    found = select(coloured(3, 2), selector=Former())
    assert found.metadata["seconds"] == found.record["seconds"] == {"look": 1.0}
    assert found.settings is found.config
    assert len(found.ballots) == 0


def test_sets_written_with_former_names_still_work():
    class Former(ImageSet):
        classes, labels = ("a", "b"), torch.tensor([0, 1])
        digest, stamp, titles = "mine", "today", ("A", "B")

        def __getitem__(self, index):
            return torch.zeros(3, 8, 8, dtype=torch.uint8), index

        def subset(self, indices):
            return self

    images = Former()
    assert [images.fingerprint(), images.fingerprint("stat"), images.fingerprint("bytes")] == ["mine", "today", ""]
    assert images.display_names == ("A", "B")


def test_orders_of_single_images_are_those_of_one_process_whatever_ranks_and_workers(
    class_folder, surrogate_file, tmp_path
):
    source = class_folder("source", {f"class{label}": 30 for label in range(6)})  # three batches
    class_folder("target/train", {"cat": 40, "dog": 50})
    class_folder("target/val", {"cat": 1, "dog": 1})
    said = set()
    for world, workers in ((1, 0), (1, 2), (2, 0)):
        inputs = [source, tmp_path / "target", surrogate_file(6), tmp_path / f"cache-{world}-{workers}"]
        command = [sys.executable, Path(__file__).with_name("select_on_ranks.py"), world, workers, *inputs]
        said |= {tuple(re.findall(r"<(.*?)>", out)) for out in run_ranks(world, command, tmp_path)}
    [digests] = said
    assert len(digests) == len(set(digests)) == 5
