"""Folders with links, odd names and things that are no files: no hang, nothing unsaid, names kept or refused."""

import io
import os
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from tlprune import Selection
from tlprune.cli import main
from tlprune.data.decoding import decode_image
from tlprune.data.scanning import scan_class_folder
from tlprune.data.sources import absolute_source, open_source, source_classes
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_file

SECONDS = 60
NAMES = {
    "line break": b"x\ny.png",
    "carriage return": b"x\ry.png",
    "tab": b"x\ty.png",
    "not UTF-8": b"x\xff\xfe.png",
    "emoji": "\N{GRINNING FACE}.png".encode(),
    "very long": b"n" * 251 + b".png",
    "leading dash": b"-rf.png",
    "hash": b"#1.png",
    "spaces": b" a  b .png",
    "quotes": b"'\"\\`$(x).png",
}


@pytest.fixture(autouse=True)
def _no_hang(tmp_path, monkeypatch):
    """Whatever waits for ever ends in an error."""
    monkeypatch.chdir(tmp_path)

    def hangs(*_):
        raise BaseExceptionGroup("it hangs", [TimeoutError()])  # which nobody catches as bad input

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def source(class_folder):
    return class_folder("src", {"ant": 3, "bee": 3}, size=8)


def add(source, name, folder="ant"):
    """One more image, by a name in bytes."""
    path = source / folder / os.fsdecode(name)
    with path.open("wb") as file:
        Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(file, "PNG")
    return path


def select(source, *more):
    """Random order of single images: every image is one unit."""
    options = ["--selector=RandomSelector", "--selector.unit=sample", "--output=s.safetensors"]
    return main(["select", f"--source={source}", *options, *more])


def export(form, output="kept"):
    return main(["export", "s.safetensors", f"--format={form}", "--prune_ratio=0", f"--output={output}"])


def one_line(capsys):
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize("name", NAMES)
def test_names_are_kept_or_refused_in_one_line(source, capsys, name):
    odd = add(source, NAMES[name])
    images = scan_class_folder(source)
    assert [os.fsencode(source / path) for path in images.paths] == [
        os.fsencode(path) for path, _ in ImageFolder(source).samples
    ]
    assert images[images.paths.index(f"ant/{odd.name}")][0].unique().tolist() == [7]
    assert select(source) == 0
    assert len(Selection.load("s.safetensors").unit_of_sample) == 7
    capsys.readouterr()
    if "\n" in odd.name or "\r" in odd.name:
        assert export("paths") == 2
        assert "a name with a line break cannot stand in a list of paths; export indices" in one_line(capsys)
        assert not Path("kept").exists()
    else:
        assert export("paths") == 0
        listed = [line for line in Path("kept").read_bytes().split(b"\n") if line and not line.startswith(b"#")]
        assert listed == [os.fsencode(source / path) for path in images.paths]
    assert export("symlinks", "links") == 0
    assert sorted(os.listdir(b"links/ant")) == sorted(os.listdir(os.fsencode(source / "ant")))
    assert decode_image(Path("links/ant") / odd.name).unique().tolist() == [7]
    assert export("indices", "indices") == 0


@pytest.mark.parametrize("name", ["emoji", "very long", "leading dash", "hash", "quotes"])
def test_a_list_of_paths_is_read_back_as_it_was_written(source, name):
    add(source, NAMES[name])
    assert select(source) == 0
    assert export("paths", "kept.txt") == 0
    images, _ = open_source("kept.txt")
    assert [images.root / path for path in images.paths] == [source / path for path in scan_class_folder(source).paths]


@pytest.mark.parametrize("name", ["not UTF-8", "tab"])
def test_a_list_never_mistakes_one_name_for_another(source, name, capsys):
    """A list is text, and a tab in it comes before a label."""
    add(source, NAMES[name])
    assert select(source) == 0
    assert export("paths", "kept.txt") == 0
    capsys.readouterr()
    assert select("kept.txt") == 2
    assert "kept.txt: " in one_line(capsys)


def test_a_skipped_image_keeps_its_name_in_the_selection(class_folder, capsys):
    source = class_folder("many", {"ant": 100, "bee": 100}, size=4)
    for name in (b"x\xff.png", b"x\ny.png"):
        (source / "bee" / os.fsdecode(name)).write_bytes(b"")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot be decoded and are skipped")
        assert select(source, "--on_bad_image=skip") == 0
    found = Selection.load("s.safetensors")
    assert sorted(map(os.fsencode, found.skipped)) == [b"bee/x\ny.png", b"bee/x\xff.png"]
    assert len(found.unit_of_sample) == 200
    assert export("paths") == 0  # what is skipped is found again by its name
    assert main(["show", "s.safetensors"]) == 0


@pytest.mark.parametrize("name", [b"c\xff", b"c\nd", "\N{GRINNING FACE}".encode(), b"-c", b"c" * 255])
def test_class_names_are_kept(source, capsys, name):
    (source / "ant").rename(source / os.fsdecode(name))
    assert main(["select", f"--source={source}", "--selector=RandomSelector", "--output=s.safetensors"]) == 0
    found = Selection.load("s.safetensors")
    assert sorted(map(os.fsencode, found.unit_names)) == sorted([name, b"bee"])
    assert main(["show", "s.safetensors", "--keep_units=1"]) == 0
    assert main(["diff", "s.safetensors", "s.safetensors", "--keep_units=1"]) == 0
    assert main(["explain", "s.safetensors", f"--unit={os.fsdecode(name)}", "--keep_units=1"]) == 0


def test_a_key_that_would_read_as_a_comment_is_refused(source, capsys):
    (source / "ant").rename(source / "#ant")
    assert select(source) == 0
    capsys.readouterr()
    assert export("webdataset") == 2
    assert "'#ant/000': would read as a comment in a list of keys; export indices instead" in one_line(capsys)
    assert not Path("kept").exists()


def test_a_name_that_is_no_text_is_printed_on_any_terminal(source, monkeypatch):
    (source / "ant").rename(source / os.fsdecode(b"c\xff"))
    add(source, b"x\xff.png", "bee")
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["select", f"--source={source}", "--selector=RandomSelector", "--output=s.safetensors"]) == 0
    assert rb"c\udcff" in terminal.buffer.getvalue()


@pytest.mark.parametrize("name", [b"r\xff", b"r\nx", "\N{GRINNING FACE}".encode(), b"-r", b"r: {x}, [y]", b"null"])
def test_roots_of_any_name(source, capsys, name):
    root = os.fsdecode(name)
    source.rename(root)
    assert select(root) == 0
    assert export("indices") == 0
    assert Selection.load("s.safetensors").metadata["source"] == os.fspath(Path(root).absolute())


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may be a hundred bytes long
        one.bind(path.name)
        os.chdir(here)


def make_link_to_device(path):
    path.symlink_to("/dev/zero")


def make_link_to_pipe(path):
    os.mkfifo("pipe")
    path.symlink_to(Path("pipe").absolute())


NO_FILES = [make_pipe, make_socket, make_link_to_device, make_link_to_pipe]


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_is_named_when_it_is_met(source, make):
    make(source / "ant" / "x.jpg")
    images = scan_class_folder(source)
    with pytest.raises(InputError, match=r"ant/x\.jpg: not a regular file"):
        _ = images[images.paths.index("ant/x.jpg")]
    with pytest.raises(OSError, match="not a regular file"):
        digest_file(source / "ant" / "x.jpg")


def test_what_is_no_file_is_skipped_where_bad_images_are(class_folder, capsys):
    source = class_folder("many", {"ant": 200, "bee": 198}, size=4)
    for number, make in enumerate((make_pipe, make_socket, make_link_to_device)):
        make(source / "ant" / f"x{number}.jpg")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot be decoded and are skipped")
        assert select(source, "--on_bad_image=skip") == 0
    assert Selection.load("s.safetensors").skipped == ("ant/x0.jpg", "ant/x1.jpg", "ant/x2.jpg")


def test_pipes_beside_class_folders_are_not_opened(source):
    for name in ("x.jpg", "words.txt", "classnames.txt", "meta.bin", "a class"):
        os.mkfifo(source / name)
    assert open_source(str(source))[0].classes == ("ant", "bee")


def test_a_folder_that_is_called_like_an_image_is_a_folder(source):
    (source / "ant" / "empty.jpg").mkdir()
    (source / "ant" / "full.jpg").mkdir()
    add(source, b"y.png", "ant/full.jpg")
    paths = scan_class_folder(source).paths
    assert [path for path in paths if "jpg" in path] == ["ant/full.jpg/y.png"]
    assert len(paths) == 7


@pytest.mark.parametrize("depth", [".", "deep/er"])
def test_a_link_to_a_folder_above_is_not_followed_and_that_is_said(source, depth):
    place = source / "ant" / depth
    place.mkdir(parents=True, exist_ok=True)
    (place / "loop").symlink_to(source)
    (place / "x.jpg").symlink_to(source / "bee")
    links = [os.path.normpath(f"ant/{depth}/{name}") for name in ("loop", "x.jpg")]
    with pytest.warns(UserWarning, match=f"src: {', '.join(links)}: links to folders are not followed"):
        assert len(scan_class_folder(source)) == 6


def test_a_link_out_of_the_root_is_not_followed_but_a_file_behind_one_is_read(source, class_folder):
    other = class_folder("other", {"all": 5}, size=8) / "all"
    (source / "ant" / "more").symlink_to(other)
    (source / "ant" / "one.png").symlink_to(other / "000.png")
    with pytest.warns(UserWarning, match="ant/more: links to folders are not followed"):
        images = scan_class_folder(source)
    assert len(images) == 7
    assert images[images.paths.index("ant/one.png")][0].equal(decode_image(other / "000.png"))


def test_links_are_followed_when_asked_for_but_not_round_in_a_circle(source, class_folder):
    other = class_folder("other", {"all": 5, "more": 2}, size=8)
    (source / "ant" / "linked").symlink_to(other / "all")
    (other / "all" / "on").symlink_to(other / "more")
    (other / "more" / "back").symlink_to(other / "all")
    (source / "bee" / "up").symlink_to(source)
    with pytest.warns(UserWarning, match="ant/linked/on/back, bee/up: links to folders are not followed, since they"):
        images, _ = open_source(f"linked:{source}")
    assert images.classes == ("ant", "bee")
    assert images.labels.bincount().tolist() == [3 + 5 + 2, 3]
    assert {f"ant/linked/on/{number:03}.png" for number in range(2)} < set(images.paths)
    assert images[len(images) - 1][0].shape[0] == 3
    with pytest.warns(UserWarning, match="since they lead round"):
        assert source_classes(f"linked:{source}") == ("ant", "bee")
    assert absolute_source(f"linked:{source}") == f"linked:{source}"


def test_linked_parts_are_parts(class_folder, tmp_path):
    root = class_folder("set/train", {"a": 2, "b": 2}).parent
    class_folder("set/val", {"a": 1, "b": 1})
    (root / "val" / "a" / "again").symlink_to(root / "train" / "a")
    train, val = open_source(f"linked:{root}")
    assert (len(train), len(val)) == (4, 4)
    with pytest.raises(InputError, match="no such folder"):
        open_source(f"linked:{tmp_path / 'nowhere'}")


def test_a_class_folder_may_be_a_link(source, class_folder):
    """So sets are put together from others; what lies in it counts once for each link, as to ImageFolder."""
    other = class_folder("other", {"all": 5}, size=8) / "all"
    (source / "cat").symlink_to(other)
    images = scan_class_folder(source)
    assert images.classes == ("ant", "bee", "cat")
    assert images.labels.bincount().tolist() == [3, 3, 5]
    assert [os.fspath(source / path) for path in images.paths] == [path for path, _ in ImageFolder(source).samples]


def test_a_class_folder_that_links_to_its_own_root_ends(source):
    (source / "loop").symlink_to(source)
    with pytest.warns(UserWarning, match="src: loop/loop: links to folders are not followed"):
        images = scan_class_folder(source)
    assert images.labels.bincount().tolist() == [3, 3, 6]


def test_links_to_nowhere_are_said(source, capsys):
    (source / "cat").symlink_to("unmounted")
    with pytest.warns(UserWarning, match="src: cat: broken links are skipped"):
        assert scan_class_folder(source).classes == ("ant", "bee")
    (source / "cat").unlink()
    (source / "ant" / "x.png").symlink_to("nowhere")
    assert select(source) == 2
    assert "ant/x.png: No such file or directory" in one_line(capsys)
    (source / "ant" / "x.png").unlink()
    (source / "ant" / "x.png").symlink_to("x.png")
    assert select(source) == 2
    assert "ant/x.png: Too many levels of symbolic links" in one_line(capsys)
    (source / "ant" / "x.png").unlink()
    (source / "dog").symlink_to("dog")
    assert select(source) == 2
    assert "src/dog: Too many levels of symbolic links" in one_line(capsys)
    assert not Path("s.safetensors").exists()


@pytest.fixture
def as_nobody(source):
    """A copy of the source where everybody may look: pytest's own folder is for its user alone."""
    home = Path(tempfile.mkdtemp())
    root = Path(shutil.copytree(source, home / "src"))
    home.chmod(0o755)
    yield root
    os.seteuid(os.getuid())
    for folder in (root, root / "ant"):
        folder.chmod(0o755)
    shutil.rmtree(home)


def give_up_rights():
    """To the superuser no file is unreadable."""
    if os.getuid() == 0:
        os.seteuid(65534)


def test_what_may_not_be_read_is_named(as_nobody):
    (as_nobody / "ant" / "001.png").chmod(0)
    give_up_rights()
    images = scan_class_folder(as_nobody)
    with pytest.raises(InputError, match=f"^{as_nobody}/ant/001.png: Permission denied$"):
        _ = images[1]


@pytest.mark.parametrize("folder", [".", "ant"])
def test_a_folder_that_may_not_be_read_is_named(as_nobody, folder):
    (as_nobody / folder).chmod(0)
    give_up_rights()
    with pytest.raises(InputError, match=f"^{as_nobody / folder}/?: Permission denied$"):
        open_source(str(as_nobody))
