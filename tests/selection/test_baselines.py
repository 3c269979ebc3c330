import pytest
import torch
from torch import nn

from tlprune.errors import InputError
from tlprune.selection.baselines import ListSelector, RandomSelector, ReverseSelector
from tlprune.selection.feature_mapping import FeatureMapping
from tlprune.selection.multi_target import MultiTarget


@pytest.fixture
def source(points):
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    return points(torch.arange(12.0).view(6, 2), labels, ("ant", "bee", "cat"))


def test_single_images_reach_any_number(source):
    found = RandomSelector(1, unit="sample").select(source)
    assert found.unit_kind == "sample"
    for images in range(1, 7):
        assert len(found.keep(images=images)) == images
    assert found.keep(images=4).tolist() == sorted(found.ranking[:4].tolist())
    assert found.name(3) == "sample 3"


def test_random_single_images_need_no_labels(points):
    found = RandomSelector(unit="sample").select(points(torch.zeros(4, 1)))
    assert sorted(found.ranking.tolist()) == [0, 1, 2, 3]
    with pytest.raises(InputError, match="RandomSelector needs a labelled source"):
        RandomSelector().select(points(torch.zeros(4, 1)))


def test_reverse_of_several_targets_is_the_reverse_of_their_common_order(source, points, tmp_path):
    targets = [points(torch.tensor([[0.0, 1.0]]), digest="a"), points(torch.tensor([[9.0, 9.0]]), digest="b")]
    common = MultiTarget("union")
    forward = FeatureMapping("classes").select(source, targets, nn.Flatten(), common, tmp_path)
    reverse = ReverseSelector(FeatureMapping("classes"))
    backward = reverse.select(source, targets, nn.Flatten(), common, tmp_path)
    assert backward.ranking.tolist() == forward.ranking.flip(0).tolist()
    assert (backward.method, backward.unit_kind) == ("reverse", "class")
    assert backward.config == reverse.config(source, targets, nn.Flatten(), common)
    one = reverse.select(source, targets[0], nn.Flatten(), cache=tmp_path)
    single = FeatureMapping("classes").select(source, targets[0], nn.Flatten(), cache=tmp_path)
    assert one.ranking.tolist() == single.ranking.flip(0).tolist()


def test_a_list_of_classes_comes_first_and_the_rest_after(source, points, tmp_path):
    path = tmp_path / "wanted.txt"
    path.write_text("# my favourites\n\ncat\nant\n")
    found = ListSelector(str(path)).select(source)
    assert found.ranking.tolist() == [2, 0, 1]
    assert found.keep(units=1).tolist() == [5]
    assert found.config["options"]["listed"] == 2
    hashed = points(torch.zeros(3, 1), torch.arange(3), ("# a", "#hash", "wei  rd "))
    path.write_text("# a comment\n#hash\nwei  rd \n")
    assert ListSelector(str(path)).select(hashed).ranking.tolist() == [1, 2, 0]
    path.write_text("ant\n")
    assert ListSelector(str(path)).options != found.config["options"]


def test_exported_indices_are_read_back(source, tmp_path):
    from tlprune.selection.export import export_indices

    kept = torch.tensor([1, 3, 4])
    export_indices(kept, 6, tmp_path / "kept.txt")
    found = ListSelector(str(tmp_path / "kept.txt"), unit="sample").select(source)
    assert found.keep(images=3).tolist() == kept.tolist()


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("cat\ncatt\n", "class", "no class 'catt': did you mean 'cat'?"),
        ("cat\nkoala\nemu\n", "class", "2 of 3 listed classes are not among the 3 of the source, first 'koala'"),
        ("cat\nant\ncat\n", "class", "'cat' is named twice"),
        ("6\n", "sample", r"'6' is no image index in \[0, 6\)"),
        ("-1\n", "sample", "'-1' is no image index"),
    ],
)
def test_bad_lines_are_named(source, tmp_path, text, unit, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        ListSelector(str(tmp_path / "list.txt"), unit=unit).select(source)


def test_bad_lists_and_units_are_refused(tmp_path):
    with pytest.raises(InputError, match="none.txt: No such file"):
        ListSelector(str(tmp_path / "none.txt"))
    (tmp_path / "picture").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        ListSelector(str(tmp_path / "picture"))
    with pytest.raises(InputError, match="`unit` must be 'class' or 'sample', got 'images'"):
        RandomSelector(unit="images")


@pytest.mark.parametrize("saved", [torch.tensor([4, 0, 2]), [4, 0, 2]])
def test_indices_of_the_reference_code_are_read(source, tmp_path, saved):
    torch.save(saved, tmp_path / "top3.indices")
    selection = ListSelector(str(tmp_path / "top3.indices"), unit="sample").select(source)
    assert selection.ranking.tolist() == [4, 0, 2, 1, 3, 5]
    assert selection.keep(images=3).tolist() == [0, 2, 4]


class _Marks:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (lambda folder: _Marks(str(folder / "marker")), "holds more than tensors and is not loaded"),
        (lambda folder: torch.tensor([[1, 2]]), r"must hold a vector of integers, got torch.int64 of shape \[1, 2\]"),
        (lambda folder: torch.tensor([0.5]), "must hold a vector of integers, got torch.float32"),
        (lambda folder: torch.tensor([], dtype=torch.int64), "must hold a vector of integers"),
        (lambda folder: {"a": 1}, "not indices that torch saved"),
    ],
)
def test_other_things_in_such_a_file_are_refused(tmp_path, saved, message):
    torch.save(saved(tmp_path), tmp_path / "x.indices")
    with pytest.raises(InputError, match=message):
        ListSelector(str(tmp_path / "x.indices"), unit="sample")
    assert not (tmp_path / "marker").exists()


def test_indices_are_of_images_and_must_be_there(tmp_path):
    with pytest.raises(InputError, match="it lists images; set `unit: sample`"):
        ListSelector(str(tmp_path / "x.indices"))
    with pytest.raises(InputError, match=r"x\.indices: No such file"):
        ListSelector(str(tmp_path / "x.indices"), unit="sample")


def test_titles_are_names_too(source, tmp_path):
    source.display_names = ("wood ant", "honey bee", "tabby cat")
    (tmp_path / "classes.txt").write_text("\ufeffhoney bee\ncat\n")
    assert ListSelector(str(tmp_path / "classes.txt")).select(source).ranking.tolist() == [1, 2, 0]
    (tmp_path / "twice.txt").write_text("honey bee\nbee\n")
    with pytest.raises(InputError, match="'bee' is named twice"):
        ListSelector(str(tmp_path / "twice.txt")).select(source)
