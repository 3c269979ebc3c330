"""Classes are chosen by their names, before there are images of them."""

import re

import pytest
import torch
from PIL import Image

import tlprune
from tlprune import (
    ClassNames,
    InputError,
    LabelMapping,
    ListSelector,
    PrunedSourceDataModule,
    RandomSelector,
    ReverseSelector,
    select,
)
from tlprune.cli import main
from tlprune.data.class_names import LISTS, open_class_names
from tlprune.data.sources import absolute_source, check_source, open_source, source_classes
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection

NO_IMAGES = re.compile(r"\b0 (source )?images")
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]


@pytest.fixture
def listed(tmp_path):
    """Writes a list of class names, and returns the source that it is."""

    def write(text="ant\nbee\ncat\ndog\neel\nfox\n", name="names.txt"):
        (tmp_path / name).write_text(text)
        return f"classes:{tmp_path / name}"

    return write


@pytest.fixture
def target(class_folder):
    return str(class_folder("photos", {"2021/may": 12}))


@pytest.fixture
def surrogate(surrogate_file):
    return str(surrogate_file(NAMES))


@pytest.fixture
def made(listed, target, surrogate):
    return select(listed(), target, surrogate=surrogate, image_size=32)


def test_names_given_in_python_select_as_their_list_does(made, target, surrogate):
    for names in (NAMES, NAMES[::-1]):
        selection = select(ClassNames(names), target, surrogate=surrogate, image_size=32)
        kept = [selection.unit_names[unit] for unit in selection.ranking.tolist() if selection.votes[unit] > 0]
        expected = [made.unit_names[unit] for unit in made.ranking.tolist() if made.votes[unit] > 0]
        assert sorted(kept) == sorted(expected)
    assert select(ClassNames(NAMES), target, surrogate=surrogate, image_size=32).digest == made.digest


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("ant",), "names must be a list, got 'ant'"),
        ((["ant", "bee"], "xy"), "names must be a list, got 'xy'"),
        (([3, 4],), "a text that is not empty, got 3"),
        ((["ant", "bee"], ["Ant", " "]), "a text that is not empty, got ' '"),
    ],
)
def test_names_are_a_list_of_texts(names, message):
    with pytest.raises(InputError, match=f"class names: .*{message}"):
        ClassNames(*names)


def test_readable_names_belong_to_the_classes():
    names = ClassNames(["n1", "n2"], ["ant", "bee"])
    assert (names.classes, names.display_names, len(names)) == (("n1", "n2"), ("ant", "bee"), 0)
    with pytest.raises(InputError, match="mine: 1 readable names of 2 classes, and each class needs one"):
        ClassNames(["n1", "n2"], ["ant"], where="mine")


def test_imagenet_is_in_the_order_of_published_weights():
    info = pytest.importorskip("timm.data").ImageNetInfo()
    names = open_class_names("imagenet1k")
    assert len(set(names.classes)) == len(set(names.display_names)) == 1000
    described = info.label_descriptions(detailed=True)
    known = sum(name.split(" (")[0] in text for name, text in zip(names.display_names, described, strict=True))
    assert known > 950  # a few names differ between the libraries; one place further, hardly any is the same
    assert (names.classes[285], names.display_names[285]) == ("n02124075", "Egyptian cat")


@pytest.mark.parametrize(
    ("text", "classes", "shown"),
    [
        ("ant\nbee\n", ("ant", "bee"), ("ant", "bee")),
        ("# tlprune lists what is KEPT\n\nwild cat\n#hash\n", ("wild cat", "#hash"), ("wild cat", "#hash")),
        ("n1\tcrane\nn2\tcrane\nn3\tant\n", ("n1", "n2", "n3"), ("crane (n1)", "crane (n2)", "ant")),
    ],
)
def test_a_file_lists_names_or_folders_and_names(listed, text, classes, shown):
    images, val = open_source(source := listed(text))
    assert (images.classes, images.display_names, len(images), val) == (classes, shown, 0, None)
    assert source_classes(source) == classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names.txt: lists no classes"),
        ("ant\nbee\nant\n", "names.txt: class 'ant' is listed twice"),
        ("n1\tant\nbee\n", r"in all lines alike; got 'bee'"),
        ("n1\tant\tbee\n", "in all lines alike"),
    ],
)
def test_bad_lists_are_refused(listed, text, message):
    with pytest.raises(InputError, match=message):
        open_source(listed(text))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("classes:", "which classes"),
        ("classes:imagenet", "source classes:imagenet: no such file; did you mean 'imagenet1k'"),
        ("classes:folder", "a folder, not a file of class names"),
    ],
)
def test_lists_that_are_not_there_are_refused(monkeypatch, tmp_path, source, message):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        check_source(source)


def test_names_lead_to_the_same_list_from_anywhere(monkeypatch, tmp_path, listed):
    listed()
    listed(name="imagenet1k")
    monkeypatch.chdir(tmp_path)
    assert absolute_source("classes:names.txt") == f"classes:{tmp_path}/names.txt"
    assert [absolute_source(f"classes:{name}") for name in LISTS] == ["classes:imagenet1k"]


def test_label_mapping_ranks_names_as_it_ranks_images(class_folder, made, target, surrogate, tmp_path):
    images = str(class_folder("src", dict.fromkeys(NAMES, 2)))
    of_images = select(images, target, surrogate=surrogate, image_size=32)
    for name in ("ranking", "votes", "scores", "assignments"):
        assert torch.equal(getattr(made, name), getattr(of_images, name)), name
    assert not made.sizes_known
    assert of_images.sizes_known
    made.save(tmp_path / "made.safetensors")
    assert Selection.load(tmp_path / "made.safetensors").digest == made.digest


@pytest.mark.parametrize("budget", [{"ratio": 0.5}, {"units": 2}, {"coverage": 0.9}])
def test_budgets_of_units_and_votes_work(made, budget):
    kept = made.kept(Budget(**budget))
    assert kept.units.tolist() == made.ranking[: len(kept.units)].tolist()
    assert len(kept.units) >= 1
    assert len(kept.samples) == 0


@pytest.mark.parametrize("budget", [{"images": 4}, {"exactly": 4}])
def test_budgets_of_images_are_refused(made, budget):
    with pytest.raises(InputError, match="needs the number of images of each class, and only class names are known"):
        made.keep(**budget)


@pytest.mark.parametrize(
    "selector",
    [
        tlprune.FeatureMapping(num_clusters=2),
        tlprune.FeatureMapping(units="classes"),
        tlprune.NearestImages(),
        tlprune.ImportanceResampling(),
        tlprune.TypicalImages(LabelMapping()),
        tlprune.Moderate(),
        tlprune.EL2N(),
        RandomSelector(unit="sample"),
        ReverseSelector(tlprune.NearestImages()),
    ],
    ids=lambda selector: f"{selector.method} of {selector.unit_kind}",
)
def test_selectors_that_need_images_are_refused_by_name(listed, target, surrogate, selector):
    with pytest.raises(InputError, match=f"^{type(selector).__name__} needs images .* its 6 classes are known"):
        select(listed(), target, surrogate=surrogate, selector=selector, image_size=32)


def test_controls_need_names_only(listed, made, target, surrogate):
    drawn = select(listed(), selector=RandomSelector(seed=1))
    assert sorted(drawn.ranking.tolist()) == list(range(6))
    reverse = select(listed(), target, surrogate=surrogate, selector=ReverseSelector(LabelMapping()), image_size=32)
    assert reverse.ranking.tolist() == made.ranking.flip(0).tolist()


@pytest.mark.parametrize(("outputs", "message"), [(5, "has 5 outputs, the source has 6 classes")])
def test_the_surrogate_needs_an_output_for_each_name(listed, target, surrogate_file, outputs, message):
    with pytest.raises(InputError, match=message):
        select(listed(), target, surrogate=str(surrogate_file(outputs)), image_size=32)


def test_names_cannot_be_trained_on(listed, made, class_folder):
    with pytest.raises(InputError, match="only class names are known, and no images, so it cannot be trained on"):
        PrunedSourceDataModule(listed())
    images = str(class_folder("src", dict.fromkeys(NAMES, 2)))
    with pytest.raises(InputError, match="made from class names, without images: export its classes"):
        PrunedSourceDataModule(images, selection=made, keep_units=2).setup()
    with pytest.raises(InputError, match="made from class names, without images: export its classes"):
        tlprune.prune(open_source(images)[0], made, units=2)


def test_what_is_kept_of_names_is_kept_of_images_later(class_folder, listed, target, surrogate_file, tmp_path, capsys):
    ids = [f"n0000000{place}" for place in range(6)]
    source = listed("".join(f"{code}\t{name}\n" for code, name in zip(ids, NAMES, strict=True)))
    made, kept = str(tmp_path / "made.safetensors"), str(tmp_path / "kept.txt")
    given = ["--source", source, "--target", target, "--surrogate", str(surrogate_file(6)), "--image_size", "32"]
    assert main(["select", *given, "--output", made, "--keep_units", "3"]) == 0
    said = capsys.readouterr().out
    best = Selection.load(made)
    first = int(best.ranking[0])
    assert "class names alone, their images are not known" in said
    assert f"{NAMES[first]}" in said
    assert ids[first] in said
    assert main(["export", made, "--format", "classes", "--keep_units", "3", "--output", kept]) == 0
    wanted = [ids[unit] for unit in best.ranking[:3].tolist()]
    assert [line for line in (tmp_path / "kept.txt").read_text().splitlines() if line[0] != "#"] == wanted
    images = str(class_folder("src", dict.fromkeys(ids, 2)))
    data = PrunedSourceDataModule(images, selector=ListSelector(kept), keep_units=3, val_share=0.0, image_size=32)
    data.setup()
    assert sorted(data.classes) == sorted(wanted)
    assert data.selection.ranking[:3].tolist() == best.ranking[:3].tolist()


def test_commands_say_what_is_not_known(made, target, tmp_path, capsys):
    path, output = str(tmp_path / "made.safetensors"), tmp_path / "output"
    made.save(path)
    unit = made.name(int(made.ranking[0]))
    for words in (
        ["show", path, "--keep_units", "2"],
        ["diff", path, path, "--keep_units", "2"],
        ["explain", path, "--unit", unit, "--output", str(tmp_path / "why.png")],
        ["advise", path],
        ["report", path, "--output", str(tmp_path / "page")],
    ):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert not NO_IMAGES.search(said), words
    assert "only its class names are known" in said
    with Image.open(tmp_path / "why.png") as picture:  # a row of voters, and none of images that nobody has
        assert picture.height < picture.width / 6
    assert not NO_IMAGES.search((tmp_path / "page" / "index.html").read_text())
    listing = ["export", path, "--output", str(output), "--format"]
    for words, message in (
        ([*listing, "indices", "--keep_units", "2"], "export its classes"),
        ([*listing, "classes", "--keep_exactly", "2"], "cannot cut the last"),
        (["audit", path, "--output", str(output)], "made from class names, without images"),
        (["advise", path, "--full_seconds", "10", "--output", str(output)], "a forecast needs the number of images"),
        (["show", path, "--keep_images", "5"], "`keep_images` 5 needs the number of images"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_classes_are_exported_of_classes_alone(tmp_path, class_folder, capsys):
    source, path = str(class_folder("src", {"ant": 2, "bee": 2})), str(tmp_path / "made.safetensors")
    select(source, selector=RandomSelector(unit="sample"), output=path)
    output = tmp_path / "kept.txt"
    assert main(["export", path, "--format", "classes", "--keep_units", "2", "--output", str(output)]) == 2
    assert "ranks single images, so there are no classes to list" in capsys.readouterr().err
    assert not output.exists()
