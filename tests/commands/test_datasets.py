from pathlib import Path

import pytest

from real_layouts import write_official
from tlprune.cli import main
from tlprune.commands.datasets import EMBEDDED
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.data.target_splits import list_targets, open_target


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch):
    monkeypatch.delenv("TLPRUNE_DATA", raising=False)


def output(capsys, *arguments) -> list[str]:
    assert main(["datasets", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def row(lines, name) -> list[str]:
    [found] = [line.split() for line in lines if line.startswith(f"{name} ")]
    return found


def test_the_table_has_every_target_and_its_sizes(capsys):
    lines = output(capsys)
    assert {line.split()[0] for line in lines[1:13]} == {*list_targets(), *TARGET_SETS}
    assert row(lines, "oxford_pets") == ["oxford_pets", "37", "2,944", "736", "3,669", "-"]
    assert row(lines, "sun397") == ["sun397", "*", "397", "15,880", "3,970", "19,850", "-"]
    assert row(lines, "cifar100") == ["cifar100", "100", "40,000", "10,000", "10,000", "-"]
    assert row(lines, "waterbirds") == ["waterbirds", "2", "4,795", "1,199", "5,794", "-"]
    assert [line.split()[0] for line in lines[1:13] if " * " in line] == ["sun397", "stanford_cars"]
    assert "found: the folder in $TLPRUNE_DATA, which is not set" in lines


@pytest.mark.parametrize("name", EMBEDDED)
def test_sizes_of_what_comes_with_tlprune_are_right(name):
    target = open_target(name)
    assert EMBEDDED[name] == (len(target.classes), (len(target.train), len(target.val), len(target.test)))


def test_the_table_says_what_was_found(capsys, tmp_path, monkeypatch):
    write_official("flowers102", tmp_path / "flowers-102")
    write_official("waterbirds", tmp_path / "waterbird_complete95_forest2water2")
    (tmp_path / "dtd").mkdir()
    monkeypatch.setenv("TLPRUNE_DATA", str(tmp_path))
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:13])) <= 80
    found = {line.split()[0]: line.split()[-1] for line in lines[1:13]}
    assert (found["flowers102"], found["dtd"], found["food101"]) == ("flowers-102", "incomplete", "-")
    assert found["waterbirds"] == "waterbird_complete95_forest2water2"
    assert main(["datasets", "flowers102"]) == 0
    said = capsys.readouterr().out
    assert f"found      {tmp_path / 'flowers-102'}\nholds      flowers102: " in said
    assert "3 classes" in said


def test_details_count_what_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(TARGET_SETS, "dtd", write_official("dtd", tmp_path / "dtd"))
    monkeypatch.setenv("TLPRUNE_DATA", str(tmp_path))
    assert main(["datasets", "dtd"]) == 0
    said = capsys.readouterr().out
    assert "holds      12 train, 6 val, 9 test\n           split: official, partition 1\n" in said
    next((tmp_path / "dtd" / "images").rglob("*.jpg")).unlink()
    assert main(["datasets", "dtd"]) == 0
    assert "1 of 27 listed images are missing" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", TARGET_SETS)
def test_details_name_page_layout_and_every_file(name, capsys):
    text = " ".join(" ".join(output(capsys, name)).split())
    entry = TARGET_SETS[name]
    for part in (
        entry.home_page,
        entry.terms,
        entry.title,
        *entry.files,
        *entry.folders,
        *filter(None, [entry.coop_file]),
    ):
        assert part in text
    assert ("can no longer download it" in text) == (name in ("sun397", "stanford_cars"))


def test_other_names(capsys):
    assert output(capsys, "digits") == ["digits comes with tlprune: nothing to get. Use it as `target: digits`."]
    assert main(["datasets", "cifar1"]) == 2
    assert "unknown target 'cifar1': did you mean 'cifar10'?" in capsys.readouterr().err


def test_a_data_folder_that_is_none_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("TLPRUNE_DATA", "nowhere")
    assert main(["datasets"]) == 2
    assert capsys.readouterr().err == "tlprune: error: TLPRUNE_DATA=nowhere: no such folder\n"


def test_the_page_on_data_has_the_same_sizes_and_files():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text().partition("## Targets\n")[2]

    def shown(sizes):
        return "" if sizes is None else ", ".join("-" if size is None else f"{size:,}" for size in sizes)

    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    sizes = {cells[0].strip("`"): cells for cells in rows if cells[1].isdigit()}
    files = {cells[0].strip("`"): " ".join(cells) for cells in rows if not cells[1].isdigit()}
    assert list(sizes) == list(files) == list(TARGET_SETS)
    for name, entry in TARGET_SETS.items():
        _, classes, coop, official, pixels = sizes[name]
        assert (classes, coop) == (str(entry.num_classes), shown(entry.coop_sizes))
        assert official.partition(" (")[0] == shown(entry.official_sizes)
        assert pixels == str(entry.image_size)
        wanted = [*entry.folders, *filter(None, [entry.coop_file]), *(Path(file).name for file in entry.files)]
        assert [one for one in wanted if one not in files[name] and not one.startswith("data_batch")] == []
