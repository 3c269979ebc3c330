"""Test images of targets in the source, from the sweep that finds them to its report."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from PIL import Image
from rich.console import Console

from sweeps import Here, made_results
from tlprune.cli import main
from tlprune.errors import InputError
from tlprune.experiments import sweep_stages
from tlprune.experiments.copied import copied_targets, copies_note
from tlprune.experiments.neighbours import Neighbours
from tlprune.experiments.page.reading import read_runs
from tlprune.experiments.page.rendering import render_page
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import RESULTS, Results
from tlprune.experiments.sweep import begin, finished, run_sweep
from tlprune.experiments.sweep_copies import add_copies, compare_with_source
from tlprune.experiments.sweep_plan import Sweep, methods_of


@pytest.fixture
def plan(class_folder, tmp_path):
    """A sweep of two targets: all test images of ``known`` but one are in the source, those of ``new`` are not."""
    class_folder("source", dict.fromkeys(("ant", "bee", "cat", "dog"), 4))
    for part in ("train", "val", "test"):
        class_folder(f"new/{part}", {"x": 3, "y": 3}, size=24)
        class_folder(f"known/{part}", {"x": 3, "y": 3})
    class_folder("other", {"x": 1}, size=40)
    shutil.copy(tmp_path / "other/x/000.png", tmp_path / "known/test/x/002.png")
    model = {"class_path": "LitClassifier", "init_args": {"backbone": "resnet8_w8"}}
    trainer = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}

    def make(targets=("known", "new"), **data):
        for known in ("_source", "_marks_of_source", "_target_mark"):
            getattr(sweep_stages, known).cache_clear()
        options = {"image_size": 32, "cache": str(tmp_path / "cache"), **data}
        config = {"model": model, "data": {"class_path": "PrunedSourceDataModule", "init_args": options}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**config, "trainer": trainer}))
        recipe = Recipe.read(str(tmp_path / "recipe.yaml"), "PrunedSourceDataModule")
        methods = methods_of({"random": "RandomSelector"}, controls=False)
        places = tuple(str(tmp_path / target) for target in targets)
        common = (methods, (0.5,), ("epochs",), 1, "grid", tmp_path / "out")
        return Sweep("s", str(tmp_path / "source"), places, None, recipe, {"knn": Neighbours(3)}, *common)

    return make


def run(sweep):
    """Results, and the names of the work that was done for them."""
    results = begin(sweep, "made in a test")
    results.cells += finished(sweep, sweep.groups())
    here = Here()
    run_sweep(sweep, results, here, lambda cell: None)
    assert Results.load(sweep.output) == results
    return results, here.ran


def compared(sweep):
    """Copies of each target, without the rest of the sweep."""
    results = begin(sweep, "made in a test")
    compare_with_source(sweep)
    add_copies(sweep, results)
    return [one["copies"] for one in results.targets.values()]


def test_copies_are_counted_once_for_each_target(plan, tmp_path):
    results, ran = run(plan())
    known, new = results.targets.values()
    assert (known["copies"]["found"], known["copies"]["of"], known["copies"]["source_images"]) == (5, 6, 16)
    assert [sorted(pair[:2]) for pair in known["copies"]["examples"]] == [
        ["ant/000.png", "x/000.png"],
        ["ant/001.png", "x/001.png"],
        ["bee/000.png", "y/000.png"],
    ]
    assert (new["copies"]["found"], new["copies"]["examples"]) == (0, [])
    assert ran[0] == "compare_with_source"
    assert ran.count("compare_with_source") == 1
    again, ran = run(plan())
    assert ran == []
    assert again.targets == results.targets
    [thumbnails] = (tmp_path / "cache" / "thumbnails").glob("*/")
    before = {path: path.stat().st_mtime_ns for path in thumbnails.iterdir()}
    assert len(before) == 1
    # a changed test image: that target alone is compared again, and the source is not decoded again
    Image.effect_noise((32, 32), 80).convert("RGB").save(tmp_path / "known/test/y/000.png")
    changed, _ = run(plan())
    assert [one["copies"]["found"] for one in changed.targets.values()] == [4, 0]
    assert {path: path.stat().st_mtime_ns for path in thumbnails.iterdir()} == before


@pytest.mark.parametrize("data", [{"in_memory": True}, {"verify_content": True}, {"num_workers": 1}])
def test_copies_are_the_same_however_the_source_is_read(plan, data):
    assert [one["found"] for one in compared(plan(**data))] == [5, 0]


def test_a_source_with_a_damaged_image_is_compared_where_it_can_be(plan, tmp_path, class_folder):
    class_folder("more", {"ant": 120})
    for number in range(4, 120):
        shutil.move(tmp_path / f"more/ant/{number:03}.png", tmp_path / "source" / "ant")
    (tmp_path / "source/ant/000.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 132 images cannot be decoded and are skipped"):
        copies, _ = compared(plan(on_bad_image="skip"))
    assert (copies["found"], copies["source_images"]) == (4, 131)


def test_what_keeps_images_from_being_compared_does_not_end_a_sweep(plan, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "thumbnails").write_text("no folder")
    with pytest.warns(UserWarning, match="test images were not compared with the source: cannot write"):
        results, _ = run(plan())
    assert len(results.cells) == 4
    assert all("copies" not in one for one in results.targets.values())
    (tmp_path / "cache" / "thumbnails").unlink()
    results, ran = run(plan())  # the next command tries it again
    assert ran == ["compare_with_source"]
    assert results.targets[str(tmp_path / "known")]["copies"]["found"] == 5


def with_copies(counts, of=1000):
    """Results of targets of which so many test images are in the source."""
    results = made_results(tuple(counts), ratios=(0.5,), seeds=1, ablations=False)
    for target, found in counts.items():
        examples = [["x/<1>.png", "ant/1.png", 0.0]] if found else []
        results.targets[target] |= {"copies": {"found": found, "of": of, "source_images": 50_000, "examples": examples}}
    return results


def test_a_sweep_and_its_report_say_where_test_images_are_in_the_source(plan, capsys):
    sweep = plan()
    run(sweep)
    assert main(["report", str(sweep.output)]) == 0
    said = capsys.readouterr().out
    assert "NOTE: Test images have copies in the source: known 5 of 6 (83.3 %). Pretraining may have seen" in said
    assert "such as test image x/000.png and source image ant/000.png" in said
    assert "`tlprune audit` lists the pairs" in said
    page = (sweep.output / "report" / "index.html").read_text()
    top = page.partition("<nav")[0]
    assert "Test images have copies in the source.</strong> known: 5 of 6 (83.3 %)" in top
    assert top.index('id="copies"') < top.index('class="headlines"')
    assert "each of the 16 images of the source" in top


def test_the_note_names_the_targets_with_the_largest_shares():
    counts = {name: 100 * number for number, name in enumerate(["none", "few", "more", "most", "all", "b", "c"])}
    results = with_copies(counts)
    assert [one.label for one in copied_targets(results)] == ["c", "b", "all", "most", "more", "few"]
    assert "source: c 600 of 1,000 (60 %), b 500 of 1,000 (50 %)" in copies_note(results)
    assert "more 200 of 1,000 (20 %) and 1 more target. Pre" in copies_note(results)
    assert "and 2 more targets" in copies_note(with_copies(counts | {"d": 1}))


def test_every_target_with_copies_is_on_the_page_and_names_are_text():
    counts = {"none": 0, "few": 1, "some": 20, "more": 300, "most": 1000}
    page = render_page(with_copies(counts), [], [], "title")
    assert "more: 300 of 1,000 (30 %), some: 20 of 1,000 (2 %) and 1 more target." in page
    for name, number in counts.items():
        assert (f">{name}</th><td>{number:,} of 1,000 (" in page) == (number > 0)
    assert "x/&lt;1&gt;.png" in page
    assert "x/<1>.png" not in page


def test_few_copies_are_said_to_be_few():
    assert "They are few: they change the accuracy of a target by 0.2 points at most." in copies_note(
        with_copies({"pets": 2, "cars": 1})
    )
    assert "may be too high" in copies_note(with_copies({"pets": 2, "cars": 10}))
    assert "pets 1 of 10,000 (less than 0.1 %)" in copies_note(with_copies({"pets": 1}, of=10_000))


def test_without_copies_and_in_results_of_earlier_versions_nothing_is_said(tmp_path):
    for results in (with_copies({"pets": 0}), made_results(("pets",), ratios=(0.5,), seeds=1, ablations=False)):
        results.save(tmp_path)
        read = read_runs([tmp_path]).results
        assert copies_note(read) is None
        assert 'id="copies"' not in render_page(read, [], [], "title")


def test_a_terminal_shows_names_as_they_are(capsys):
    from tlprune.experiments.closing import print_copies

    print_copies(with_copies({"pets[bold]": 500}), Console(width=40))
    assert "pets[bold] 500 of 1,000 (50 %)" in capsys.readouterr().out


@pytest.mark.parametrize("first", [True, False])
def test_copies_survive_where_one_of_two_runs_was_not_compared(tmp_path, first):
    old, new = made_results(("pets",), ratios=(0.5,), seeds=1, ablations=False), with_copies({"pets": 500})
    old.targets["pets"]["test"] = new.targets["pets"]["test"]
    for name, results in (("a", new if first else old), ("b", old if first else new)):
        (tmp_path / name).mkdir()
        replace(results, name=name).save(tmp_path / name)
    assert "pets 500 of 1,000" in copies_note(read_runs([tmp_path / "a", tmp_path / "b"]).results)


@pytest.mark.parametrize(
    "copies", [3, {"of": None}, {"found": 2, "of": 1}, {"found": True}, {"examples": 3}, {"examples": [["one"]]}]
)
def test_damaged_copies_are_refused(tmp_path, copies):
    with_copies({"pets": 500}).save(tmp_path)
    content = json.loads((tmp_path / RESULTS).read_text())
    known = content["targets"]["pets"]
    known["copies"] = known["copies"] | copies if isinstance(copies, dict) else copies
    (tmp_path / RESULTS).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"damaged \(copies of test images of target pets"):
        read_runs([tmp_path])
