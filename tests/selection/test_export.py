import io
import sys
import tarfile

import pytest
import torch
from PIL import Image

from tlprune.errors import InputError
from tlprune.selection.export import export_keys, export_parquet
from tlprune.selection.selection import Selection

PATHS = ("ant/a.png", "ant/b.v2.png", "bee/sub/c.jpg", "bee/d.png")


@pytest.fixture
def selection():
    return Selection(
        method="label_mapping",
        unit_names=("ant", "bee"),
        ranking=torch.tensor([1, 0]),
        votes=torch.tensor([1.0, 4.0]),
        scores=torch.tensor([0.5, 4.5]),
        unit_of_sample=torch.tensor([0, 0, 1, 1]),
        assignments=torch.tensor([0, 1, 1, 1, 1]),
    )


def test_parquet_holds_one_row_for_each_kept_image(selection, tmp_path):
    from pyarrow import parquet

    kept = torch.tensor([1, 2])
    export_parquet(selection, kept, PATHS, ["ant", "ant", "bee", "bee"], tmp_path / "kept.parquet")
    table = parquet.read_table(tmp_path / "kept.parquet")
    assert table.to_pylist() == [
        {"index": 1, "path": "ant/b.v2.png", "label": "ant", "unit": "ant", "unit_rank": 2, "unit_votes": 1.0},
        {"index": 2, "path": "bee/sub/c.jpg", "label": "bee", "unit": "bee", "unit_rank": 1, "unit_votes": 4.0},
    ]
    assert b"lists what is KEPT: rows of 2 of 4 source images" in table.schema.metadata[b"tlprune"]
    assert table.schema.metadata[b"selection_digest"].decode() == selection.digest


def test_parquet_of_a_source_without_labels(selection, tmp_path):
    from pyarrow import parquet

    export_parquet(selection, torch.tensor([0]), PATHS, None, tmp_path / "kept.parquet")
    assert parquet.read_table(tmp_path / "kept.parquet").to_pylist()[0]["label"] is None


def test_without_pyarrow_one_line_says_what_to_install(selection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install 'tlprune\[parquet\]'"):
        export_parquet(selection, torch.tensor([0]), PATHS, None, tmp_path / "kept.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_keys_are_those_that_webdataset_makes(tmp_path):
    import webdataset

    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for path in PATHS:
            member = tarfile.TarInfo(path)
            member.size = len(picture.getvalue())
            shard.addfile(member, io.BytesIO(picture.getvalue()))
    export_keys(torch.tensor([1, 2]), tmp_path, PATHS, tmp_path / "kept.txt")
    heading, *keys = (tmp_path / "kept.txt").read_text().splitlines()
    assert heading.startswith("# tlprune lists what is KEPT: WebDataset keys of 2 of 4 source images")
    kept = set(keys)
    pipeline = webdataset.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False)
    found = [sample["__key__"] for sample in pipeline.select(lambda sample: sample["__key__"] in kept)]
    assert found == keys == ["ant/b", "bee/sub/c"]


def test_two_images_with_one_key_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"ant/a.png and ant/a.b.png in .* have the same WebDataset key 'ant/a'"):
        export_keys(torch.tensor([0]), tmp_path, ("ant/a.png", "ant/a.b.png"), tmp_path / "kept.txt")
    assert not list(tmp_path.iterdir())
