import json
from pathlib import Path

import pytest

from tlprune.errors import InputError
from tlprune.storage.journal import Journal


@pytest.fixture
def stage(tmp_path):
    return Journal(tmp_path / "journal").stage("train", {"rate": 0.1})


def test_a_stage_is_done_once_it_is_finished(stage, tmp_path):
    assert stage.done is None
    made = tmp_path / "made"
    made.write_text("weights")
    stage.finish({"accuracy": 91.5}, [made])
    done = stage.done
    assert done.result == {"accuracy": 91.5}
    assert done.outputs == (made,)
    assert len(done.when) == len("2026-01-01 00:00:00")
    assert Journal(tmp_path / "journal").stage("train", {"rate": 0.1}).done == done


def test_other_dependencies_are_another_stage(stage, tmp_path):
    stage.finish(None)
    for name, depends in (("train", {"rate": 0.2}), ("train", {"rate": 0.1, "seed": 0}), ("test", {"rate": 0.1})):
        assert Journal(tmp_path / "journal").stage(name, depends).done is None
    assert Journal(tmp_path / "elsewhere").stage("train", {"rate": 0.1}).done is None


@pytest.mark.parametrize("what", ["changed", "removed"])
def test_what_was_made_must_still_be_there_as_it_was(stage, tmp_path, what):
    made = tmp_path / "made"
    made.write_text("weights")
    stage.finish(None, [made])
    made.write_text("weightz") if what == "changed" else made.unlink()
    with pytest.warns(UserWarning, match=r"made: changed or removed since it was made; running this stage again"):
        assert stage.done is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"content": 1}', '{"content": {}, "checksum": "0"}', "null"])
def test_a_damaged_note_is_no_note(stage, content):
    stage.finish(1)
    (stage.folder / "done.json").write_text(content)
    with pytest.warns(UserWarning, match=r"done\.json: damaged .*; running this stage again"):
        assert stage.done is None


def test_a_note_that_somebody_changed_is_no_note(stage):
    stage.finish({"accuracy": 70.0})
    note = stage.folder / "done.json"
    content = json.loads(note.read_text())
    content["content"]["result"]["accuracy"] = 99.0
    note.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="its checksum does not match"):
        assert stage.done is None


def test_a_stage_that_is_forgotten_begins_anew_and_what_it_made_stays(stage, tmp_path):
    made = tmp_path / "made"
    made.write_text("weights")
    stage.finish(None, [made])
    (stage.folder / "state").mkdir()
    stage.forget()
    assert stage.done is None
    assert not stage.folder.exists()
    assert made.read_text() == "weights"
    stage.forget()


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "journal").write_text("no folder")
    with pytest.raises(InputError, match="cannot write"):
        Journal(tmp_path / "journal").stage("train", 1).finish(None)
    assert Path(tmp_path / "journal").read_text() == "no folder"
