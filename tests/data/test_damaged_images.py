import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from forked import run_ranks
from tlprune import PrunedSourceDataModule, RandomSelector, Selection
from tlprune.cli import main
from tlprune.data.damaged_images import find_damaged, without_damaged
from tlprune.data.scanning import scan_class_folder
from tlprune.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.* images cannot be decoded and are skipped")
BAD = ["ant/007.png", "bee/050.png", "bee/099.png"]


@pytest.fixture
def source(class_folder):
    """Three hundred images, three of them bad in three ways."""
    root = class_folder("src", {"ant": 100, "bee": 100, "cat": 100}, size=8)
    (root / BAD[0]).write_bytes((root / BAD[0]).read_bytes()[:60])
    (root / BAD[1]).write_bytes(b"<html>not found</html>")
    (root / BAD[2]).write_bytes(b"")
    return root


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_those_that_cannot_be_decoded_are_found(source, tmp_path, workers):
    before = torch.get_rng_state()
    found = find_damaged(scan_class_folder(source), tmp_path / "cache", workers)
    assert torch.equal(torch.get_rng_state(), before)  # so that training draws the same whether this was cached or not
    assert [one.name for one in found] == BAD
    assert [one.number for one in found] == [7, 150, 199]
    for one in found:
        assert one.reason.startswith(str(source / one.name))


def test_what_was_found_is_remembered_until_a_file_changes(source, tmp_path, monkeypatch):
    images = scan_class_folder(source)
    first = find_damaged(images, tmp_path / "cache")
    decoded = []
    whole = type(images).__getitem__
    monkeypatch.setattr(type(images), "__getitem__", lambda self, index: decoded.append(index) or whole(self, index))
    assert find_damaged(scan_class_folder(source), tmp_path / "cache") == first
    assert decoded == []
    [note] = (tmp_path / "cache" / "damaged").glob("*.json")
    content = json.loads(note.read_text())
    content["damaged"] = content["damaged"][:1]
    note.write_text(json.dumps(content))  # somebody changed what was remembered
    assert find_damaged(scan_class_folder(source), tmp_path / "cache") == first
    assert len(decoded) == 300
    size = (source / BAD[1]).stat().st_size
    picture = (source / "ant" / "000.png").read_bytes()
    (source / BAD[1]).write_bytes(picture[:size])  # another file of the same size
    os.utime(source / BAD[1], (1, 1))
    again = find_damaged(scan_class_folder(source), tmp_path / "cache")
    assert [one.name for one in again] == BAD
    assert again != first
    assert len(decoded) == 600


def test_too_many_are_not_skipped(source, tmp_path):
    (source / "cat" / "000.png").write_bytes(b"")
    message = r"4 of 300 images cannot be decoded, more than 1%; first .*ant/007\.png: "
    with pytest.raises(InputError, match=message):
        without_damaged(scan_class_folder(source), tmp_path / "cache")


def test_a_whole_set_stays_as_it_is(class_folder, tmp_path):
    images = scan_class_folder(class_folder("whole", {"a": 3}))
    assert without_damaged(images, tmp_path / "cache") == (images, ())


def made(source, **options):
    return PrunedSourceDataModule(
        str(source), selector=RandomSelector(), prune_ratio=0.0, image_size=8, batch_size=32, val_share=0.1, **options
    )


def test_error_is_the_default_and_names_the_file(source):
    data = made(source)
    data.setup()
    with pytest.raises(InputError, match=r"(ant/007|bee/050|bee/099)\.png: "):
        for _ in (*data.train_dataloader(), *data.val_dataloader()):
            pass


def test_skipping_trains_on_the_rest_and_notes_what_was_skipped(source, tmp_path):
    data = made(source, on_bad_image="skip")
    data.check_inputs()
    with pytest.warns(UserWarning, match=r"3 of 300 images cannot be decoded and are skipped; first .*ant/007\.png"):
        data.setup()
    assert data.skipped == tuple(BAD)
    assert sum(len(labels) for _, labels in data.val_dataloader()) + data.images_kept == 297
    assert len(list(data.train_dataloader())) == data.images_kept // 32
    assert data.selection.skipped == tuple(BAD)
    data.selection.save(tmp_path / "s.safetensors")
    assert Selection.load(tmp_path / "s.safetensors").skipped == tuple(BAD)
    other = made(source, on_bad_image="skip", selection=str(tmp_path / "s.safetensors"))
    other.setup()
    assert other.images_kept == data.images_kept
    with pytest.raises(InputError, match="it skipped 3 bad images; set `on_bad_image: skip`"):
        made(source, selection=str(tmp_path / "s.safetensors")).setup()


def test_the_commands_know_of_skipped_images(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    select = ["select", f"--source={source}", "--target=digits", "--selector=RandomSelector", "--output=s.safetensors"]
    assert main([*select, "--on_bad_image=skip", "--num_workers=1"]) == 0
    said = capsys.readouterr().out
    assert "skipped    3 source images that cannot be decoded, first ant/007.png" in said
    assert "297 source images" in said
    assert main(["export", "s.safetensors", "--format=paths", "--prune_ratio=0", "--output=kept.txt"]) == 0
    kept = [line for line in Path("kept.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(kept) == 297
    for path in kept:
        with Image.open(path) as image:
            image.load()


_ON_RANKS = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from tlprune.data.scanning import scan_class_folder
from tlprune.data.damaged_images import find_damaged
dist.init_process_group("gloo")
found = find_damaged(scan_class_folder(Path(sys.argv[1])), Path(sys.argv[2]))
Path(sys.argv[2], f"rank{dist.get_rank()}.json").write_text(json.dumps([one.name for one in found]))
dist.destroy_process_group()
"""


def test_all_ranks_look_and_all_know(source, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(_ON_RANKS)
    run_ranks(3, [sys.executable, script, source, tmp_path], tmp_path)
    assert [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(3)] == [BAD] * 3


def test_another_policy_is_refused():
    with pytest.raises(InputError, match="`on_bad_image` must be 'error' or 'skip', got 'ignore'"):
        PrunedSourceDataModule(on_bad_image="ignore")
