import os
from pathlib import Path

import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from tlprune.data.datasets import TensorImages
from tlprune.data.scanning import scan_all_images, scan_class_folder
from tlprune.data.sources import absolute_source, check_source, open_source, source_classes
from tlprune.errors import InputError


def test_equals_torchvision_image_folder(class_folder):
    root = class_folder("src", {"b": 3, "a": 2, "C": 1})
    (root / "a" / "deeper").mkdir()
    (root / "a" / "000.png").rename(root / "a" / "deeper" / "z.png")
    (root / "a" / "notes.txt").write_text("not an image")
    ours, theirs = scan_class_folder(root), ImageFolder(root)
    assert list(ours.classes) == theirs.classes
    assert ours.labels.tolist() == theirs.targets
    assert [str(root / path) for path in ours.paths] == [path for path, _ in theirs.samples]
    for index in range(len(ours)):
        assert torch.equal(ours[index][0], pil_to_tensor(theirs[index][0]))


def test_train_and_val_folders(class_folder, tmp_path):
    class_folder("src/train", {"a": 3, "b": 2})
    class_folder("src/val", {"a": 1, "b": 1})
    train, val = open_source(str(tmp_path / "src"))
    assert (len(train), len(val)) == (5, 2)
    assert source_classes(str(tmp_path / "src")) == ("a", "b")


def test_other_classes_in_val_are_named(class_folder, tmp_path):
    class_folder("src/train", {"a": 1, "b": 1})
    class_folder("src/val", {"a": 1, "x": 1})
    with pytest.raises(InputError, match="training and validation parts have different classes, such as 'b'"):
        open_source(str(tmp_path / "src"))


def test_links_to_folders_are_not_followed(class_folder):
    root = class_folder("src", {"a": 2})
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    with pytest.warns(UserWarning, match="src: a/loop: links to folders are not followed"):
        assert len(scan_class_folder(root)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_text(""), "a file, but none of"),
        (lambda root: root.mkdir(), "neither class folders nor images in it"),
        (lambda root: (root / "cat").mkdir(parents=True), "cat: a class without images"),
    ],
)
def test_what_is_no_source_is_named(tmp_path, make, message):
    root = tmp_path / "source"
    make(root)
    with pytest.raises(InputError, match=message):
        open_source(str(root))


def test_order_is_that_of_imagefolder_in_nested_folders_too(class_folder):
    root = class_folder("src", {"A": 2, "A/sub": 2, "A/sub-b": 1, "A/sub/deep": 1, "B": 1, "B/b": 2})
    (root / "A" / "zoo").mkdir()
    (root / "A" / "000.png").rename(root / "A" / "zoo" / "a.png")
    theirs = [str(Path(path).relative_to(root)) for path, _ in ImageFolder(root).samples]
    assert list(scan_class_folder(root).paths) == theirs


def test_a_class_may_be_called_train(class_folder):
    root = class_folder("src", {"airplane": 2, "bus": 1, "train": 3})
    images, val = open_source(str(root))
    assert (images.classes, len(images), val) == (("airplane", "bus", "train"), 6, None)
    split = class_folder("split/train", {"cat": 2}).parent
    (split / "devkit").mkdir()
    assert open_source(str(split))[0].classes == ("cat",)


def test_images_beside_class_folders_are_not_left_out_in_silence(class_folder):
    root = class_folder("src", {"a": 3, "b": 2})
    (root / "a" / "000.png").rename(root / "stray.png")
    with pytest.warns(UserWarning, match="1 images beside the class folders are skipped"):
        assert len(scan_class_folder(root)) == 4


def test_images_of_endings_that_are_not_read_are_not_left_out_in_silence(class_folder):
    root = class_folder("src", {"a": 3, "b": 2})
    for name in ("a/moving.GIF", "b/phone.heic", "b/notes.txt", "b/.hidden.gif"):
        (root / name).write_bytes(b"")
    for scan in (scan_class_folder, scan_all_images):
        with pytest.warns(UserWarning, match="src: a/moving.GIF, b/phone.heic: skipped; endings that are read: .bmp,"):
            assert len(scan(root)) == 5


def test_a_folder_with_the_name_of_the_built_in_source_is_warned_of(class_folder, tmp_path, monkeypatch):
    class_folder("drawn", {"a": 3})
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="source drawn: the built-in source, not the folder here; .* is ./drawn"):
        assert len(open_source("drawn", tmp_path / "cache")[0].classes) == 100
    assert open_source("./drawn")[0].classes == ("a",)


def test_a_broken_link_is_named(class_folder):
    root = class_folder("src", {"a": 3})
    (root / "a" / "001.png").unlink()
    (root / "a" / "001.png").symlink_to("nowhere")
    with pytest.raises(InputError, match="001.png: No such file"):
        _ = scan_class_folder(root).fingerprint()


def test_a_folder_of_images_is_a_source_without_labels(class_folder):
    root = class_folder("src", {"all": 5, "more": 3})
    (root / "all" / "notes.txt").write_text("")
    images, val = open_source(str(root / "all"))
    assert val is None
    assert images.paths == tuple(f"{number:03}.png" for number in range(5))
    assert (images.classes, images.labels.tolist()) == ((), [0] * 5)
    assert source_classes(str(root / "all")) == ()
    assert images.name(3) == "003.png"
    (root / "all").rename(root / "train")
    (root / "more").rename(root / "val")
    images, val = open_source(str(root))
    assert (len(images), len(val), val.classes) == (5, 3, ())


def test_digest_follows_content(class_folder):
    root = class_folder("src", {"a": 2, "b": 1})
    before = scan_class_folder(root).fingerprint()
    assert scan_class_folder(root).fingerprint() == before
    (root / "b" / "000.png").rename(root / "b" / "001.png")
    assert scan_class_folder(root).fingerprint() != before


def test_memory_holds_what_files_hold(class_folder):
    files = scan_class_folder(class_folder("src", {"a": 2, "b": 3}))
    memory = TensorImages.from_images(files)
    assert all(torch.equal(memory[i][0], files[i][0]) and memory[i][1] == files[i][1] for i in range(5))
    picked = torch.tensor([4, 0])
    assert torch.equal(memory.subset(picked)[0][0], files.subset(picked)[0][0])
    assert memory.subset(picked).labels.tolist() == files.subset(picked).labels.tolist() == [1, 0]


def test_images_of_two_sizes_do_not_fit_in_memory(class_folder):
    root = class_folder("src", {"a": 1})
    (class_folder("more", {"a": 1}, size=20) / "a" / "000.png").rename(root / "a" / "001.png")
    with pytest.raises(InputError, match="image 1 is 20 x 20, image 0 is 32 x 32"):
        TensorImages.from_images(scan_class_folder(root))


def test_unlabelled_takes_all_images_at_any_depth(class_folder, tmp_path):
    root = class_folder("web", {"b": 2, "a/deep/er": 1, ".hidden": 1})
    (root / "a" / "note.txt").write_text("")
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    with pytest.warns(UserWarning, match="web: a/loop: links to folders are not followed"):
        images, val = open_source(f"unlabelled:{root}")
    assert images.paths == (".hidden/000.png", "a/deep/er/000.png", "b/000.png", "b/001.png")
    assert val is None
    assert images.classes == ()
    assert images.labels.tolist() == [0, 0, 0, 0]
    (root / "a" / "loop").unlink()
    assert source_classes(f"unlabelled:{root}") == ()
    assert absolute_source(f"unlabelled:{root}") == f"unlabelled:{root}"


def test_a_list_file_is_a_source(class_folder, tmp_path, monkeypatch):
    class_folder("images", {"cat": 1, "dog": 1})
    (tmp_path / "list.csv").write_text("path,label\nimages/dog/000.png,dog\nimages/cat/000.png,cat\n")
    monkeypatch.chdir(tmp_path)
    images, val = open_source("list.csv")
    assert images.paths == ("dog/000.png", "cat/000.png")
    assert val is None
    assert source_classes("list.csv") == ("cat", "dog")
    assert absolute_source("list.csv") == str(tmp_path / "list.csv")


def test_a_folder_with_a_colon_in_its_name_is_a_folder(class_folder, tmp_path, monkeypatch):
    class_folder("unlabelled:x", {"cat": 1})
    monkeypatch.chdir(tmp_path)
    assert open_source("unlabelled:x")[0].classes == ("cat",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("unlabelled:", "the source has no name"),
        ("unlabelled:{}/none", "no such folder"),
        ("{}/none.csv", "no such file"),
        ("{}/weights.pt", r"a file, but none of \.csv, \.tsv, \.txt"),
        ("huggingface:", "huggingface:FOLDER, or the set's name on the hub"),
    ],
)
def test_other_kinds_of_source_that_are_not_there(tmp_path, source, message):
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        check_source(source.format(tmp_path))


def test_a_link_to_nowhere_and_a_folder_that_cannot_be_read_are_named(class_folder):
    root = class_folder("src", {"a": 2})
    (root / "a" / "gone.png").symlink_to(root / "nothing.png")
    with pytest.raises(InputError, match="gone.png: No such file"):
        scan_class_folder(root)


def test_folders_beside_a_training_part_are_said(class_folder, tmp_path):
    class_folder("src/train", {"a": 1})
    class_folder("src", {"bus": 1})
    with pytest.warns(UserWarning, match="'train' is used as its training part; bus beside it not used"):
        assert open_source(str(tmp_path / "src"))[0].classes == ("a",)


def test_a_validation_part_without_class_folders_is_said(class_folder, tmp_path):
    class_folder("src/train", {"a": 1})
    class_folder("flat", {"x": 1}).joinpath("x").rename(tmp_path / "src" / "val")
    with pytest.raises(InputError, match=r"its validation part has no labels \(no class folders\)"):
        open_source(str(tmp_path / "src"))


def test_names_that_no_file_can_have_and_deep_folders(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such folder"):
        check_source("x" * 300)
    deep = tmp_path / "deep"
    deep.mkdir()
    monkeypatch.chdir(deep)
    for _ in range(1100):
        Path("d").mkdir()
        os.chdir("d")
    try:
        with pytest.raises(InputError, match="no images in it"):
            open_source(f"unlabelled:{deep}")
    finally:
        for _ in range(1100):  # what removes folders for pytest calls itself for each
            os.chdir("..")
            Path("d").rmdir()


@pytest.mark.parametrize(("name", "inside"), [("CIFAR10", "cifar-10-batches-py"), ("CIFAR100", "cifar-100-python")])
def test_cifar_given_as_a_folder_or_as_a_target_is_said_to_be_one_of_torchvision(tmp_path, name, inside):
    (tmp_path / inside).mkdir()
    (tmp_path / inside / ("meta" if name == "CIFAR100" else "batches.meta")).touch()
    for source in (str(tmp_path), f"{name.lower()}:{tmp_path}"):
        with pytest.raises(InputError, match=f"torchvision:{name}:{tmp_path}$"):
            open_source(source)
