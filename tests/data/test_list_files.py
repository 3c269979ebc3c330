import re

import pytest
import torch

from tlprune.data.list_files import open_list
from tlprune.data.scanning import scan_class_folder
from tlprune.data.sources import open_source
from tlprune.errors import InputError
from tlprune.selection.export import export_paths


@pytest.fixture
def images(class_folder):
    return class_folder("images", {"cat": 2, "dog": 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "path,label\nimages/cat/000.png,cat\nimages/dog/000.png,dog\nimages/cat/001.png,cat\n"),
        ("list.csv", "label,note,path\ncat,,images/cat/000.png\ndog,x,images/dog/000.png\ncat,,images/cat/001.png\n"),
        ("list.tsv", "path\tlabel\nimages/cat/000.png\tcat\nimages/dog/000.png\tdog\nimages/cat/001.png\tcat\n"),
        (
            "list.csv",
            "\ufeffPath, Label\r\nimages/cat/000.png,cat\r\nimages/dog/000.png,dog\r\nimages/cat/001.png,cat\r\n",
        ),
        ("list.txt", "\ufeffimages/cat/000.png\tcat\r\nimages/dog/000.png\tdog\r\nimages/cat/001.png\tcat\r\n"),
        ("list.CSV", "path,label\nimages/cat/000.png,cat\nimages/dog/000.png,dog\nimages/cat/001.png,cat\n"),
        ("list.csv", "path;label\nimages/cat/000.png;cat\nimages/dog/000.png;dog\nimages/cat/001.png;cat\n"),
        ("list.csv", "path\tlabel\nimages/cat/000.png\tcat\nimages/dog/000.png\tdog\nimages/cat/001.png\tcat\n"),
        ("list.txt", "#mine\nimages/cat/000.png\tcat\nimages/dog/000.png\tdog\nimages/cat/001.png\tcat\n"),
        ("list.txt", "# of mine\nimages/cat/000.png\tcat\n\nimages/dog/000.png\tdog\nimages/cat/001.png\tcat\n"),
    ],
)
def test_paths_and_labels_in_the_order_of_the_list(tmp_path, images, name, text):
    (tmp_path / name).write_text(text)
    found = open_list(tmp_path / name)
    assert found.root == images
    assert found.paths == ("cat/000.png", "dog/000.png", "cat/001.png")
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0, 1, 0]
    folder = scan_class_folder(images)
    assert torch.equal(found[1][0], folder[2][0])
    assert found.subset(torch.tensor([0, 2, 1])).fingerprint() == folder.fingerprint()


def test_numbers_order_classes_as_numbers(tmp_path, images):
    (tmp_path / "list.txt").write_text("images/cat/000.png 10\nimages/dog/000.png 9\nimages/cat/001.png 10\n")
    found = open_list(tmp_path / "list.txt")
    assert found.classes == ("9", "10")
    assert found.labels.tolist() == [1, 0, 1]


def test_labels_that_are_one_number_stay_two_classes_in_one_order(tmp_path, images):
    (tmp_path / "list.txt").write_text("images/cat/000.png 1\nimages/dog/000.png 01\nimages/cat/001.png 2\n")
    assert open_list(tmp_path / "list.txt").classes == ("01", "1", "2")
    (tmp_path / "long.txt").write_text(f"images/cat/000.png {'1' * 5000}\nimages/dog/000.png 7\n")
    assert open_list(tmp_path / "long.txt").classes == ("1" * 5000, "7")


def test_paths_alone_have_no_labels_and_may_hold_blanks(tmp_path, images):
    (images / "cat" / "000.png").rename(images / "cat" / "a cat.png")
    (tmp_path / "list.txt").write_text("images/cat/a cat.png\nimages/dog/000.png\n")
    found = open_list(tmp_path / "list.txt")
    assert found.classes == ()
    assert found.paths == ("cat/a cat.png", "dog/000.png")


def test_what_is_exported_can_be_a_source(tmp_path, images):
    folder = scan_class_folder(images)
    export_paths(torch.tensor([0, 2]), folder.root, folder.paths, tmp_path / "kept.txt")
    assert open_list(tmp_path / "kept.txt").paths == ("cat/000.png", "dog/000.png")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "where,label\na.png,cat\n", "its first line must name a column 'path', got ['where', 'label']"),
        ("list.csv", "file,image,label\n", "columns 'file', 'image' may all hold paths; call one of them 'path'"),
        ("list.csv", "path,class,target\n", "columns 'class', 'target' may all hold labels; call one of them 'label'"),
        ("list.csv", "path,label,Label\n", "columns 'label', 'Label' may all hold labels"),
        ("list.csv", "path,label\nimages/cat/000.png,cat\n,dog\n", "row 3 has no path"),
        ("list.csv", "path,label\n", "lists no images"),
        ("list.txt", "", "lists no images"),
        ("list.txt", "images/cat/000.png\timages\nimages/dog/000.png\n", "'images/dog/000.png' has no label, others"),
        ("list.txt", "images/cat/000.png\nimages/cat/000.png\n", "'images/cat/000.png' is listed twice"),
        ("list.txt", "images/cat/000.png\nimages/x.png\n", "1 of 2 listed images are missing, first 'images/x.png'"),
        ("list.txt", "images/cat/\0.png\n", "1 of 1 listed images are missing"),
        ("list.txt", "images/cat/000.png\n./images/dog/../cat/000.png\n", "000.png' is listed twice"),
        ("list.txt", "images/cat\n", "1 of 1 listed images are missing"),
        ("list.csv", "path\n" + "x" * 200_000, "not a table: field larger than"),
        ("list.csv", "", "not a table: it is empty"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(tmp_path, images, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"{name}: .*{re.escape(message)}"):
        open_list(tmp_path / name)


ROWS = (("images/cat/000.png", "cat"), ("images/dog/000.png", "dog"), ("images/cat/001.png", "cat"))


def table(path, label, delimiter=","):
    return "".join(f"{delimiter.join(row)}\n" for row in ((path, label), *ROWS))


@pytest.mark.parametrize(
    "path", ["path", "file", "filename", "file_name", "File Name", "filepath", "image", "image_path", "IMG"]
)
@pytest.mark.parametrize(
    "label", ["label", "class", "Class", "target", "category", "label_name", "class name", "labels"]
)
@pytest.mark.parametrize("name", ["list.csv", "list.tsv"])
def test_columns_of_usual_names_are_used(tmp_path, images, path, label, name):
    (tmp_path / name).write_text(table(path, label, "\t" if name.endswith("tsv") else ","))
    found = open_list(tmp_path / name)
    assert found.paths == ("cat/000.png", "dog/000.png", "cat/001.png")
    assert (found.classes, found.labels.tolist()) == (("cat", "dog"), [0, 1, 0])


def test_path_and_label_come_before_other_names(tmp_path, images):
    rows = "".join(f"x,{path},0,{label}\n" for path, label in ROWS)
    (tmp_path / "list.csv").write_text(f"image,path,class,label\n{rows}")
    assert open_list(tmp_path / "list.csv").classes == ("cat", "dog")


@pytest.mark.parametrize("label", ["class_id", "species", "y", "fine_label", "target (mm)"])
def test_a_column_that_may_hold_labels_is_not_passed_over_in_silence(tmp_path, images, label):
    (tmp_path / "list.csv").write_text(table("path", label))
    with pytest.warns(UserWarning, match=re.escape(f"list.csv: no labels are read from '{label}'; they")):
        assert open_list(tmp_path / "list.csv").classes == ()


def test_an_empty_column_of_labels_is_said(tmp_path, images):
    (tmp_path / "list.csv").write_text("path,class\nimages/cat/000.png,\nimages/dog/000.png,\n")
    with pytest.warns(UserWarning, match="its column 'class' is empty, so its images have no labels"):
        assert open_list(tmp_path / "list.csv").classes == ()


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.txt"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_other_codings_are_read_or_named(tmp_path, images, name, coding):
    delimiter = "," if name.endswith("csv") else "\t"
    text = table("path", "label", delimiter).replace("dog\n", "d\xf6gge\n")
    text = text if name != "list.txt" else text.partition("\n")[2]
    (tmp_path / name).write_bytes(text.encode(coding))
    if coding in ("utf-8", "utf-8-sig", "utf-16"):
        assert open_list(tmp_path / name).classes == ("cat", "d\xf6gge")
        return
    line = 2 if name == "list.txt" else 3
    expected = f"line {line}: not text in UTF-8" if coding == "latin-1" else "it looks like UTF-16 or UTF-32"
    with pytest.raises(InputError, match=f"{name}: .*{expected}"):
        open_list(tmp_path / name)


def test_utf_16_that_is_cut_off_is_named(tmp_path, images):
    (tmp_path / "list.csv").write_bytes(table("path", "label").encode("utf-16")[:-1])
    with pytest.raises(InputError, match="list.csv: line 4: not text in UTF-16"):
        open_list(tmp_path / "list.csv")


@pytest.mark.parametrize("column", ["cls", "lbl", "Finding", "tags"])
def test_an_only_other_column_is_said_not_to_be_read(tmp_path, images, column):
    (tmp_path / "list.csv").write_text(f"filepath,{column}\nimages/cat/000.png,cat\nimages/dog/000.png,dog\n")
    with pytest.warns(UserWarning, match=f"list.csv: no labels are read from '{column}'"):
        assert open_list(tmp_path / "list.csv").classes == ()


@pytest.mark.parametrize("column", ["split", "Subset", "fold"])
def test_a_column_of_parts_is_said_not_to_be_used(tmp_path, images, column):
    rows = "images/cat/000.png,cat,train\nimages/dog/000.png,dog,test\n"
    (tmp_path / "list.csv").write_text(f"path,label,{column}\n{rows}")
    with pytest.warns(UserWarning, match=f"list.csv: its column '{column}' is not used, all images are listed"):
        assert len(open_list(tmp_path / "list.csv")) == 2
    (tmp_path / "list.csv").write_text(f"path,label,{column}\n{rows.replace('test', 'train')}")
    assert len(open_list(tmp_path / "list.csv")) == 2


def test_a_source_is_a_list_in_capitals_too(tmp_path, images):
    (tmp_path / "LIST.TXT").write_text("images/cat/000.png\tcat\nimages/dog/000.png\tdog\n")
    assert open_source(str(tmp_path / "LIST.TXT"))[0].classes == ("cat", "dog")
