import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tlprune.errors import InputError
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection


@pytest.fixture
def selection():
    return Selection(
        method="label_mapping",
        unit_names=("cat", "dog", "owl"),
        ranking=torch.tensor([2, 0, 1]),
        votes=torch.tensor([1.0, 0.0, 4.0]),
        scores=torch.tensor([1.5, 0.25, 3.25]),
        unit_of_sample=torch.tensor([0, 0, 1, 2, 2, 2]),
        assignments=torch.tensor([2, 2, 0, 2, 2]),
        settings={"source_digest": "a" * 64},
        metadata={"seconds": {"vote": 0.5}},
    )


def test_keeps_in_data_set_order(selection):
    assert selection.keep(units=1).tolist() == [3, 4, 5]
    assert selection.keep(units=2).tolist() == [0, 1, 3, 4, 5]
    assert selection.keep(ratio=0).tolist() == [0, 1, 2, 3, 4, 5]
    assert selection.keep(images=4).tolist() == [3, 4, 5]
    assert selection.keep(coverage=0.8).tolist() == [3, 4, 5]
    assert selection.keep(coverage=0.81).tolist() == [0, 1, 3, 4, 5]
    assert selection.units_kept(Budget(units=2)).tolist() == [2, 0]
    assert selection.coverage(1) == pytest.approx(0.8)


def test_reads_what_it_wrote(selection, tmp_path):
    selection.save(tmp_path / "s.safetensors")
    again = Selection.load(tmp_path / "s.safetensors")
    assert again.digest == selection.digest
    assert again.metadata == selection.metadata
    assert again.unit_names == selection.unit_names
    assert torch.equal(again.assignments, selection.assignments)
    assert again.unit_of_sample.dtype == torch.int32


def test_digest_ignores_time_but_not_content(selection):
    from dataclasses import replace

    assert replace(selection, metadata={}).digest == selection.digest
    assert replace(selection, votes=torch.tensor([1.0, 0.0, 5.0])).digest != selection.digest
    assert replace(selection, config={}).digest != selection.digest


def test_every_flipped_byte_is_noticed(selection, tmp_path):
    path = tmp_path / "s.safetensors"
    selection.save(path)
    content = path.read_bytes()
    original = selection.digest
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0x20
        path.write_bytes(damaged)
        try:
            assert Selection.load(path).digest == original, f"byte {place} changed the selection unnoticed"
        except InputError:
            continue
        # only bytes that carry no meaning may pass: white space that pads the header
        assert content[place : place + 1] == b" ", f"byte {place} was changed unnoticed"


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_truncated_file_is_refused(selection, tmp_path, share):
    path = tmp_path / "s.safetensors"
    selection.save(path)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(InputError, match="s.safetensors: damaged"):
        Selection.load(path)


def test_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such selection"):
        Selection.load(tmp_path / "none.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not a selection"):
        Selection.load(tmp_path / "w.safetensors")


def test_newer_layout_is_refused(selection, tmp_path, monkeypatch):
    monkeypatch.setattr("tlprune.selection.selection.SCHEMA", 99)
    selection = replace(selection, asked_by=torch.full((3,), -1))
    selection.save(tmp_path / "s.safetensors")
    monkeypatch.undo()
    with pytest.raises(InputError, match="newer tlprune"):
        Selection.load(tmp_path / "s.safetensors")


def test_file_holds_plain_tensors(selection, tmp_path):
    selection.save(tmp_path / "s.safetensors")
    tensors = load_file(tmp_path / "s.safetensors")
    assert sorted(tensors) == ["ballots", "ranking", "scores", "target_votes", "unit_of_sample", "votes"]


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("ranking", torch.tensor([0, 0, 1]), "each of its 3 units once"),
        ("votes", torch.zeros(2), "of 3 units has votes"),
        ("unit_of_sample", torch.tensor([0, 3]), r"units in \[0, 3\)"),
        ("assignments", torch.tensor([-1]), r"units in \[0, 3\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(selection, part, value, message):
    from dataclasses import replace

    with pytest.raises(InputError, match=message):
        replace(selection, **{part: value})


def test_other_source_is_refused(selection):
    selection.require_source("a" * 64, "here")
    with pytest.raises(InputError, match="made for another source: it names aaaaaaaaaaaa, here is bbbbbbbbbbbb"):
        selection.require_source("b" * 64, "here")


def test_it_prints_as_one_line(selection):
    assert repr(selection) == "Selection(label_mapping: 3 classes of 6 images, first owl, cat, dog)"
    single = replace(selection, unit_kind="sample", unit_names=(), unit_of_sample=torch.arange(3))
    assert repr(single).startswith("Selection(label_mapping: 3 single images of 3 images, first ")
