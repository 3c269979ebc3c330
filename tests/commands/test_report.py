import re
import shutil
from dataclasses import replace

import pytest

from sweeps import made_results, made_selection, write_sweep
from tlprune import Selection
from tlprune.cli import main
from tlprune.experiments.partial import CELLS_PLANNED

BALLOTS = [0, 0, 0, 1, 3, 3]
FILES = {"index.html", "cells.csv", "summary.csv", "tables.md", "tables.tex", "accuracy-pets.png"}


@pytest.fixture
def source(class_folder):
    return class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 10))


@pytest.fixture
def pets(class_folder):
    return class_folder("pets/train", {"x": 4, "y": 4}).parent


@pytest.fixture
def selection(source, pets):
    return made_selection(source, pets, BALLOTS)


@pytest.fixture
def sweep(tmp_path, selection):
    results = replace(made_results(targets=("pets",)), source={"name": "made"})
    return write_sweep(tmp_path / "sweep", results, {"pets": selection})


def report(capsys, *arguments):
    assert main(["report", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_sweep_s_report(sweep, pets, capsys):
    said = report(capsys, sweep, "--target", pets)
    assert "pets: By linear probe, over 3 seeds: LM with 50% of the classes pruned is at most 1 point below" in said
    assert "NOTE" not in said
    assert f"page       {sweep}/report/index.html" in said
    assert {path.name for path in (sweep / "report").iterdir()} == FILES
    page = (sweep / "report" / "index.html").read_text()
    assert page.count('src="data:image/') == 4 * 4
    kept, dropped = page.split('class="dropped">Dropped')
    assert re.findall(r'<li class="kept">.*?<b>(\w+)</b>', kept) == ["ant", "dog"]
    assert re.findall(r'<li class="dropped">.*?<b>(\w+)</b>', dropped) == ["bee", "cat"]
    assert "its winning subset" in page
    assert "Votes of pets" in page


@pytest.mark.parametrize("count", [2, 6])
def test_folders_are_shown_by_their_names(count, tmp_path, capsys):
    targets = tuple(f"/data/deep_down/t{number}" for number in range(count))
    made_results(targets=targets, ablations=False, seeds=2).save(tmp_path)
    said = report(capsys, tmp_path)
    assert ("\nt0: By linear probe, over 2 seeds: " in f"\n{said}") == (count == 2)
    assert ("in brackets the 95 % interval" in said) == (count == 6)
    assert "deep_down" not in said
    text = (tmp_path / "report" / "tables.tex").read_text()
    assert "pruned (\\%) & t0 & t1" in text
    assert "deep" not in text
    rows = (tmp_path / "report" / "summary.csv").read_text()
    assert "/data/deep_down/t1," in rows  # programs get the whole path


def test_the_ratio_of_the_tables_is_chosen_among_those_that_were_run(sweep, tmp_path, capsys):
    report(capsys, sweep, "--table_ratio", "0.75", "--output", tmp_path / "out")
    for name, text in (("tables.md", "at 75 % pruned"), ("tables.tex", r"at 75 \% pruned")):
        written = (tmp_path / "out" / name).read_text()
        assert text in written
        assert text.replace("75", "50") not in written
    assert main(["report", str(sweep), "--table_ratio", "0.6", "--output", str(tmp_path / "none")]) == 2
    assert "--table_ratio: 0.6 was not run; ratios that were: 0.25, 0.5, 0.75" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    selection = next((sweep / "selections").iterdir())
    assert main(["report", str(selection), "--table_ratio", "0.5"]) == 2
    assert "--table_ratio is for sweeps and demos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ratios", "place"),
    [
        ((0.75,), "the only ratio that was run"),
        ((0.5, 0.75), "the larger of the two ratios that were run"),
        ((0.25, 0.5, 0.75), "in the middle of the 3 ratios that were run"),
    ],
)
def test_without_a_winning_subset_the_page_says_which_ratio_it_shows(ratios, place, tmp_path, selection, capsys):
    results = made_results(targets=("pets",), ratios=ratios, ablations=False, seeds=1)
    report(capsys, write_sweep(tmp_path / "few", results, {"pets": selection}))
    assert (
        f"(LM at {ratios[len(ratios) // 2]:.0%} pruned, {place})"
        in (tmp_path / "few" / "report" / "index.html").read_text()
    )


def test_a_selection_that_is_not_finished_is_no_missing_one(sweep, capsys):
    results = made_results(targets=("pets",))
    replace(results, provenance=results.provenance | {CELLS_PLANNED: 100}).save(sweep)
    assert "NOTE: No Selection for pets is finished yet" in report(capsys, sweep)


def test_title_and_folder_are_taken(sweep, tmp_path, capsys):
    report(capsys, sweep, "--title", "Pets & <more>", "--output", tmp_path / "deep" / "out")
    page = (tmp_path / "deep" / "out" / "index.html").read_text()
    assert "<h1>Pets &amp; &lt;more&gt;</h1>" in page
    assert not (sweep / "report").exists()


def test_moved_images_are_told_of_and_not_fatal(sweep, source, pets, tmp_path, capsys):
    source.rename(tmp_path / "moved")
    shutil.rmtree(pets)
    said = report(capsys, sweep)
    assert said.count("NOTE: ") == 2
    assert "NOTE: Pictures of the source are left out: " in said
    assert "NOTE: Votes are not split by the target's classes: " in said
    page = (sweep / "report" / "index.html").read_text()
    assert "Pictures of the source are left out" in page
    assert "data:image" not in page.partition("</head>")[2]
    report(capsys, sweep, "--source", tmp_path / "moved")
    assert "data:image/" in (sweep / "report" / "index.html").read_text()


def test_a_lost_or_damaged_selection_is_told_of(sweep, capsys):
    [file] = (sweep / "selections").iterdir()
    file.write_bytes(b"no selection")
    assert "NOTE: What is kept and dropped for pets is not shown: " in report(capsys, sweep)
    file.unlink()
    assert "no such selection" in report(capsys, sweep)
    replace(made_results(targets=("pets",))).save(sweep)
    assert "NOTE: No Selection for pets is in the run" in report(capsys, sweep)


def test_an_image_that_has_gone_leaves_out_pictures(sweep, source, pets, capsys, monkeypatch):
    from tlprune.commands import origins

    whole = origins.opened_source

    def then_gone(*arguments):
        images = whole(*arguments)
        images.fingerprint()
        shutil.rmtree(source)
        return images

    monkeypatch.setattr("tlprune.commands.pictures.opened_source", then_gone)
    assert "NOTE: Pictures of the source are left out: " in report(capsys, sweep, "--target", pets)


def test_a_selection_alone(selection, tmp_path, capsys):
    selection.save(tmp_path / "mine.safetensors")
    said = report(capsys, tmp_path / "mine.safetensors")
    assert f"page       {tmp_path}/mine-report/index.html" in said
    assert [path.name for path in (tmp_path / "mine-report").iterdir()] == ["index.html"]
    page = (tmp_path / "mine-report" / "index.html").read_text()
    assert "it says nothing of accuracy" in page
    assert "What it took: vote 0.25 s, training the surrogate 4.5 s." in page
    assert page.count('src="data:image/') == 4 * 4
    assert '<section id="accuracy">' not in page
    assert selection.digest in page


@pytest.mark.parametrize(
    ("option", "kept", "text"),
    [("--keep_units=3", 3, "keep_units 3"), ("--prune_ratio=0.8", 1, "prune_ratio 0.8"), ("--keep_images=25", 2, "25")],
)
def test_a_page_shows_what_a_budget_keeps(selection, tmp_path, capsys, option, kept, text):
    selection.save(tmp_path / "mine.safetensors")
    report(capsys, tmp_path / "mine.safetensors", option)
    page = (tmp_path / "mine-report" / "index.html").read_text()
    assert len(re.findall(r'<li class="kept">', page)) == kept
    assert len(re.findall(r'<li class="dropped">', page)) == 4 - kept
    assert re.search(
        rf"{kept} of 4 classes {'is' if kept == 1 else 'are'} kept \(as --.*{re.escape(text)} says\)", page
    )


@pytest.mark.parametrize(
    ("of_sweep", "option", "message"),
    [
        (True, "--prune_ratio=0.5", "`prune_ratio` 0.5 is for pages of Selections"),
        (False, "--keep_units=9", "`keep_units` is 9, the source has 4 units"),
    ],
)
def test_a_budget_that_a_page_cannot_show_is_one_line(sweep, selection, tmp_path, capsys, of_sweep, option, message):
    selection.save(tmp_path / "mine.safetensors")
    assert main(["report", str(sweep if of_sweep else tmp_path / "mine.safetensors"), option]) == 2
    assert message in capsys.readouterr().err
    assert not (sweep / "report").exists()
    assert not (tmp_path / "mine-report").exists()


def test_a_selection_without_votes(selection, tmp_path, capsys):
    silent = replace(
        selection, method="random", assignments=selection.assignments[:0], votes=selection.votes * 0, config={}
    )
    silent.save(tmp_path / "random.safetensors")
    report(capsys, tmp_path / "random.safetensors")
    page = (tmp_path / "random-report" / "index.html").read_text()
    assert "Nobody voted for this order." in page
    assert "No image of a target voted for this order." in page
    assert " vote</small>" not in page


def test_names_of_classes_may_be_anything(class_folder, pets, tmp_path, capsys):
    names = ["<script>alert(1)", "a\nb", b"\xff".decode(errors="surrogateescape"), "{{ 7*7 }}"]
    source = class_folder("odd", dict.fromkeys(names, 10))
    made_selection(source, pets, BALLOTS).save(tmp_path / "odd.safetensors")
    report(capsys, tmp_path / "odd.safetensors")
    page = (tmp_path / "odd-report" / "index.html").read_text()
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "\\udcff" in page
    assert "{{ 7*7 }}" in page


def test_two_sweeps_are_one_page(sweep, selection, tmp_path, capsys):
    other = made_results(targets=("cars",))
    other.recipes = {"source": {"backbone": "another"}}
    second = write_sweep(tmp_path / "other", replace(other, source={"name": "made"}), {})
    said = report(capsys, sweep, second, "--output", tmp_path / "both")
    assert "NOTE: Recipes differ between the runs: other has other values of source." in said
    assert {"accuracy-pets.png", "accuracy-cars.png"} <= {path.name for path in (tmp_path / "both").iterdir()}
    assert "Recipes differ" in (tmp_path / "both" / "index.html").read_text()


@pytest.mark.parametrize("wrong", ["source", "target", "count", "output", "damaged", "foreign"])
def test_what_the_user_names_wrongly_is_one_line(wrong, sweep, selection, tmp_path, class_folder, capsys):
    class_folder("another/train", {"x": 3, "y": 3})
    arguments = {
        "source": [sweep, "--source", tmp_path / "another" / "train"],
        "target": [sweep, "--target", tmp_path / "another"],
        "count": [sweep, "--target", "digits", "photos"],
        "output": [sweep, "--output", sweep / "results.json"],
        "damaged": [tmp_path / "s.safetensors"],
        "foreign": [tmp_path / "pets"],
    }[wrong]
    (tmp_path / "s.safetensors").write_bytes(b"?")
    assert main(["report", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tlprune: error: ")
    assert said.count("\n") == 1
    assert {
        "source": "this selection was made for another source",
        "target": "not the images that voted",
        "count": "targets on this page: 1 (pets); --target names 2",
        "output": "results.json: it is a file",
        "damaged": "damaged or not a selection",
        "foreign": "neither a folder of a sweep or a demo (results.json), nor a Selection",
    }[wrong] in said


def test_several_targets_of_a_selection_are_told_apart(source, pets, class_folder, surrogate_file, tmp_path, capsys):
    cars = class_folder("cars/train", {"u": 5, "v": 5}).parent
    file = tmp_path / "two.safetensors"
    inputs = [f"--source={source}", "--target", str(pets), str(cars), f"--surrogate={surrogate_file(4)}"]
    assert main(["select", *inputs, "--image_size=32", f"--output={file}"]) == 0
    report(capsys, file)
    page = (tmp_path / "two-report" / "index.html").read_text()
    assert [name in page for name in ("Votes of pets", "Votes of cars")] == [True, True]
    assert len(Selection.load(file).assignments) == sum(
        int(count) for count in re.findall(r'<tr><th scope="row">[uvxy]</th><td>(\d+)</td>', page)
    )


def test_a_selection_is_one_file_at_the_budget_that_is_asked_for(selection, tmp_path, capsys):
    selection.save(tmp_path / "mine.safetensors")
    said = report(
        capsys, tmp_path / "mine.safetensors", "--keep_exactly", 15, "--output", tmp_path / "deep" / "mine.html"
    )
    assert f"page       {tmp_path}/deep/mine.html" in said
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mine.html"]
    page = (tmp_path / "deep" / "mine.html").read_text()
    assert "2 of 4 classes are kept (as --keep_exactly 15 says): 15 of 40 images of the source, 37.5 %." in page
    assert "Ranked highest: ant and dog. Closest to being kept, but dropped: bee and cat." in page


def test_without_the_images_all_but_pictures_is_there(selection, source, pets, tmp_path, capsys):
    selection.save(tmp_path / "mine.safetensors")
    shutil.rmtree(source)
    shutil.rmtree(pets)
    report(capsys, tmp_path / "mine.safetensors", "--prune_ratio", 0.5, "--output", tmp_path / "mine.html")
    page = (tmp_path / "mine.html").read_text()
    assert "Pictures of the source are left out: " in page
    assert "<img" not in page
    assert "Ranked highest: ant and dog." in page
    rows = re.findall(r'<tr[^>]*><td>(\d)</td><th scope="row">(\w+)</th><td>(\d)</td><td>10</td><td>(\w+)</td>', page)
    assert rows == [
        *(("1", "ant", "3", "kept"), ("2", "dog", "2", "kept")),
        *(("3", "bee", "1", "dropped"), ("4", "cat", "0", "dropped")),
    ]


def test_diagnostics_are_beside_those_of_random_images(selection, surrogate_file, tmp_path, capsys):
    selection.save(tmp_path / "mine.safetensors")
    given = ["--diagnose", "--surrogate", surrogate_file(4), "--keep_units", 2, "--output", tmp_path / "mine.html"]
    report(capsys, tmp_path / "mine.safetensors", *given)
    page = (tmp_path / "mine.html").read_text()
    rows = re.findall(r'<th scope="row">(mine|random images)</th><td>pets</td><td>20</td><td>([\d.]+)</td>', page)
    assert [name for name, _ in rows] == ["mine", "random images"]
    assert all(0 < float(similarity) <= 1 for _, similarity in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SWEEP", "--prune_ratio", "0.5"], "`prune_ratio` 0.5 is for pages of Selections: "),
        (["SWEEP", "--diagnose"], "--diagnose goes with one Selection; "),
        (["SWEEP", "--output", "x.html"], "a run's report is a folder, x.html is named as a page"),
        (["SWEEP", "--follow", "--diagnose"], "--diagnose goes with one Selection; "),
        (["SWEEP", "--follow", "--keep_units", "3"], "`keep_units` 3 is for pages of Selections: "),
        (["FILE", "--surrogate", "x"], "--surrogate goes with --diagnose"),
        (["FILE", "--keep_units", "5"], "mine.safetensors: `keep_units` is 5, the source has 4 units"),
        (["FILE", "--prune_ratio", "1"], "`prune_ratio` must be in [0, 1), got 1"),
        (["FILE", "--keep_units", "1", "--keep_images", "9"], "give exactly one of"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_write_nothing(
    arguments, message, sweep, selection, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    selection.save(tmp_path / "mine.safetensors")
    named = {"SWEEP": str(sweep), "FILE": "mine.safetensors"}
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", *(named.get(one, one) for one in arguments)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_wordnet_ids_are_shown_by_name_and_found_by_id(class_folder, pets, tmp_path, capsys):
    pytest.importorskip("timm")
    names = ("n01440764", "n02012849", "n02102040", "n03126707")
    made_selection(class_folder("part", dict.fromkeys(names, 10)), pets, BALLOTS).save(tmp_path / "s.safetensors")
    report(capsys, tmp_path / "s.safetensors", "--keep_units", 2, "--output", tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text()
    assert (
        "Ranked highest: tench and crane. Closest to being kept, but dropped: crane bird and English springer." in page
    )
    assert '<th scope="row">tench</th><td>n01440764</td>' in page
