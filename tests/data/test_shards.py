"""WebDataset tars and Parquet files as sources."""

import gzip
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from shards import picture, samples, write_parquet, write_tar
from tlprune.data.shard_names import ShardNames
from tlprune.data.sources import absolute_source, check_source, open_source
from tlprune.errors import InputError

ROWS = [(0, 1), (2, 0), (1, 5), (0, 7), (1, 1)]
NAMES = ["ant", "bee", "cat"]


def decoded(content):
    import io

    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)))).permute(2, 0, 1)


def equal(images, rows):
    assert len(images) == len(rows)
    for index, row in enumerate(rows):
        assert torch.equal(images[index][0], decoded(picture(*row)))


def found(kind, rest):
    return [str(file) for file in ShardNames.find(kind, rest).files]


def test_names_by_braces_patterns_and_folders(tmp_path, monkeypatch):
    files = [tmp_path / "a" / f"s-{number:02}.tar" for number in range(12)] + [tmp_path / "b" / "s-00.tar"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (tmp_path / "a" / "notes.txt").touch()
    every = [str(file) for file in files]
    assert found("webdataset", f"{tmp_path}/a/s-{{03..10}}.tar") == every[3:11]
    assert found("webdataset", f"{tmp_path}/{{b,a}}/s-{{00..00}}.tar") == [every[12], every[0]]
    assert found("webdataset", f"{tmp_path}/a") == found("webdataset", f"{tmp_path}/a/*.tar") == every[:12]
    assert found("webdataset", f"{tmp_path}/**/s-0?.tar") == every[:10] + every[12:]
    monkeypatch.chdir(tmp_path)
    names = ShardNames.find("webdataset", "{a,b}/s-00.tar")
    assert [names.short(number) for number in range(2)] == ["a/s-00", "b/s-00"]
    assert absolute_source("webdataset:a/s-{00..01}.tar") == f"webdataset:{tmp_path}/a/s-{{00..01}}.tar"
    assert absolute_source("parquet:image=x:a/*.parquet") == f"parquet:image=x:{tmp_path}/a/*.parquet"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("webdataset:s-{0..3}.tar", r"s-2.tar: no such file \(shard 3 of 4\)"),
        ("webdataset:s-{0,1,0}.tar", "s-0.tar is named twice"),
        ("webdataset:none-*.tar", "no file matches it"),
        ("webdataset:", "say which: webdataset:/data/shards-{000..099}.tar"),
        ("webdataset:s-{3..1}.tar", r"\{3..1\} counts from 3 down to 1"),
        ("parquet:imge=x:s.parquet", "no column 'imge': did you mean 'image'"),
    ],
)
def test_names_that_lead_nowhere(tmp_path, monkeypatch, source, said):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        (tmp_path / f"s-{number}.tar").touch()
    with pytest.raises(InputError, match=said):
        check_source(source)


def test_tars_are_an_ordinary_source(tmp_path):
    write_tar(tmp_path / "s-0.tar", samples(ROWS[:2], NAMES))
    write_tar(tmp_path / "s-1.tar", samples(ROWS[2:], NAMES))
    images, val = open_source(f"webdataset:{tmp_path}/s-{{0..1}}.tar")
    assert val is None
    assert images.classes == ("ant", "bee", "cat")
    assert images.labels.tolist() == [label for label, _ in ROWS]
    equal(images, ROWS)
    assert [images.name(index) for index in (0, 2)] == ["s-0.tar/0-1", "s-1.tar/1-5"]
    part = images.subset(torch.tensor([4, 0]))
    equal(part, [ROWS[4], ROWS[0]])
    assert part.labels.tolist() == [1, 0]
    assert torch.equal(pickle.loads(pickle.dumps(images))[3][0], images[3][0])  # noqa: S301 - our own object


def test_a_fingerprint_of_shards_follows_their_content(tmp_path):
    shard = write_tar(tmp_path / "s.tar", samples(ROWS, NAMES))

    def levels():
        images = open_source(f"webdataset:{shard}")[0]
        return [images.fingerprint(level) for level in ("path", "stat", "bytes")]

    first = levels()
    assert levels() == first
    os.utime(shard, ns=(1, 1))
    path, stat, content = levels()
    assert (path, content) == (first[0], first[2])
    assert stat != first[1]
    write_tar(shard, samples([*ROWS[:4], (2, 2)], NAMES))
    assert levels()[0] != first[0]
    assert levels()[2] != first[2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_keys_are_those_of_webdataset(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    members = [("a/b/x.png", picture(0, 0)), ("a/b/x.cls", b"3"), ("a/y.v2.png", picture(0, 1)), ("a/y.cls", b"12")]
    members += [("z.JPG.png", picture(1, 1)), ("z.cls", b"3"), ("README", b"hello"), (".hidden.png", b"no")]
    shard = write_tar(tmp_path / "s.tar", members)
    images = open_source(f"webdataset:{shard}")[0]
    with webdataset.WebDataset(str(shard), shardshuffle=False) as read:
        keys = [sample["__key__"] for sample in read]
    assert [images.key(index) for index in range(len(images))] == keys
    assert images.classes == ("3", "12")  # in the order of the numbers


def test_other_members_are_neither_read_nor_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    bomb = pickle.dumps(Bomb())
    members = [("a.png", picture(0, 0)), ("a.pyd", bomb), ("a.pickle", bomb), ("a.pth", bomb), ("b.pyd", bomb)]
    members += [("../../out.png", picture(1, 0)), ("/abs.png", picture(2, 0))]
    images = open_source(f"webdataset:{write_tar(tmp_path / 'in' / 's.tar', members)}")[0]
    equal(images, [(0, 0), (1, 0), (2, 0)])
    images.shards[0].copy([0], tmp_path / "copy.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.tar", "in"]


def test_a_copy_has_the_same_bytes(tmp_path):
    long = "folder/" * 20 + "x"  # a name with a header of its own
    members = [("a.png", picture(0, 0)), ("a.json", b"{}"), (f"{long}.png", picture(1, 1)), ("c.png", picture(2, 2))]
    shard = write_tar(tmp_path / "s.tar", members)
    images = open_source(f"webdataset:{shard}")[0]
    images.shards[0].copy([0, 1], tmp_path / "copy.tar")
    with tarfile.open(tmp_path / "copy.tar") as tar:
        assert [(one.name, tar.extractfile(one).read()) for one in tar] == members[:3]
    with tarfile.open(shard) as tar:
        third = next(one for one in tar if one.name == "c.png").offset
    assert (tmp_path / "copy.tar").read_bytes()[:third] == shard.read_bytes()[:third]


def flipped(content):
    place = content.index(b"1-4.png") + 150  # in the checksum of a header
    return content[:place] + b"\xff" + content[place + 1 :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[: len(content) // 2], "truncated|unexpected end of data"),
        (flipped, r"damaged: no member of a tar at byte [\d,]+ of [\d,]+"),
        (lambda content: gzip.compress(content), "cannot be read as a tar: compressed, and images are read in place"),
        (lambda content: b"", "cannot be read as a tar: empty file"),
        (lambda content: bytes(10240), "a shard without images; it has no members at all"),
        (lambda content: b"text" * 999, "cannot be read as a tar"),
    ],
    ids=["truncated", "flipped", "compressed", "empty", "zeros", "text"],
)
def test_damaged_tars_are_refused(tmp_path, change, said):
    shard = write_tar(tmp_path / "s.tar", samples([(number % 3, number) for number in range(9)]))
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(InputError, match=f"s.tar: ({said})"):
        open_source(f"webdataset:{shard}")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.txt", b"x"), ("a.json", b"x")], "a shard without images; it has json, txt, and images end in .bmp"),
        ([("a.png", b"x"), ("a.jpg", b"x")], "sample 'a' has two images, .png and .jpg"),
        ([("a.png", b"x"), ("b.png", b"x"), ("a.png", b"x")], "two samples have the key 'a'"),
        ([("a.png", b"x"), ("b.png", b"x"), ("b.cls", b"1")], "1 of 2 samples have a label"),
        ([("a.png", b"x"), ("a.cls", b" \n")], "'a.cls' has no label in it"),
        ([("a.png", b"x"), ("a.cls", b"1" * 2000)], "'a.cls' has 2,000 bytes, and a label at most 1,024"),
    ],
)
def test_tars_that_do_not_fit_are_refused(tmp_path, members, said):
    with pytest.raises(InputError, match=f"s.tar: {said}"):
        open_source(f"webdataset:{write_tar(tmp_path / 's.tar', members)}")


def test_shards_with_and_without_labels_are_refused(tmp_path):
    write_tar(tmp_path / "s-0.tar", samples(ROWS, NAMES))
    write_tar(tmp_path / "s-1.tar", samples([(0, 9)]))
    with pytest.raises(InputError, match=r"shards must all have labels, or none: .*s-0.tar has labels, .*s-1.tar has"):
        open_source(f"webdataset:{tmp_path}")


def test_parquet_by_rows_of_several_groups(tmp_path):
    pytest.importorskip("pyarrow")
    rows = [(number % 3, number) for number in range(11)]
    labels = [NAMES[label] for label, _ in rows]
    write_parquet(tmp_path / "s-0.parquet", rows[:7], labels[:7], row_group_size=3)
    write_parquet(tmp_path / "s-1.parquet", rows[7:], labels[7:])
    images, _ = open_source(f"parquet:{tmp_path}/*.parquet")
    equal(images, rows)
    assert images.classes == tuple(NAMES)
    assert [images.classes[label] for label in images.labels.tolist()] == labels
    assert images.name(8) == "s-1.parquet, row 1"
    assert torch.equal(pickle.loads(pickle.dumps(images))[4][0], images[4][0])  # noqa: S301 - our own object


def test_parquet_of_hugging_face_has_its_class_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=NAMES)})
    table = {"img": [{"bytes": picture(*row), "path": None} for row in ROWS], "fine_label": [row[0] for row in ROWS]}
    datasets.Dataset.from_dict(table, features=kinds).to_parquet(tmp_path / "s.parquet")
    images, _ = open_source(f"parquet:{tmp_path}")
    equal(images, ROWS)
    assert images.classes == tuple(NAMES)
    assert images.labels.tolist() == [row[0] for row in ROWS]


def test_plain_columns_are_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"photo": [picture(*row) for row in ROWS], "kind": [7 * row[0] for row in ROWS], "other": [b""] * 5}
    parquet.write_table(pyarrow.table(columns), tmp_path / "s.parquet")
    images, _ = open_source(f"parquet:image=photo,label=kind:{tmp_path}")
    equal(images, ROWS)
    assert images.classes == ("0", "7", "14")
    with pytest.raises(InputError, match="a shard without images: no column of image bytes among photo, kind, other"):
        open_source(f"parquet:{tmp_path}")
    with pytest.raises(InputError, match="column 'kind' holds int64, not bytes or a struct"):
        open_source(f"parquet:image=kind:{tmp_path}")
    with pytest.raises(InputError, match="no column 'kin': did you mean 'kind'"):
        open_source(f"parquet:image=photo,label=kin:{tmp_path}")


def test_parquet_that_cannot_be_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    shard = write_parquet(tmp_path / "s.parquet", ROWS, ["ant", "", "bee", "ant", "bee"])
    with pytest.raises(InputError, match="s.parquet: row 1 has no label in 'label'"):
        open_source(f"parquet:{shard}")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match="s.parquet: no Parquet file that can be read"):
        open_source(f"parquet:{shard}")
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    parquet.write_table(pyarrow.table({"image": pyarrow.array([], kind)}), shard)
    with pytest.raises(InputError, match="s.parquet: a shard without images; it has 0 rows"):
        open_source(f"parquet:{shard}")
    parquet.write_table(pyarrow.table({"image": pyarrow.array([None], kind)}), shard)
    with pytest.raises(InputError, match="row 0: it has no image"):
        open_source(f"parquet:{shard}")[0][0]
