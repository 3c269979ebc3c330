import pytest
import torch

from tlprune.data.display_names import class_titles
from tlprune.data.sources import open_source

_IDS = ("n01440764", "n02012849", "n03126707")
_UNKNOWN = ("n00000001", "n00000002")  # ids of no class of ImageNet
_WORDS = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"


def test_folders_that_are_no_wordnet_ids_keep_their_names(tmp_path):
    (tmp_path / "words.txt").write_text(_WORDS)
    assert class_titles(tmp_path, ("n01440764", "cat")) == ("n01440764", "cat")
    assert class_titles(tmp_path, ()) == ()


@pytest.mark.parametrize("name", ["LOC_synset_mapping.txt", "classnames.txt", "words.txt"])
@pytest.mark.parametrize("above", [0, 3])
def test_lists_beside_or_above_the_folder_name_classes(tmp_path, name, above):
    root = tmp_path.joinpath(*"abc"[:above])
    root.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(_WORDS.replace(" ", "\t", 1))
    assert class_titles(root, _IDS) == ("tench", "crane (n02012849)", "crane (n03126707)")


def test_torchvision_meta_file_names_classes(tmp_path):
    synonyms = {"n01440764": ("tench", "Tinca tinca"), "n02012849": ("crane",), "n03126707": ("crane",)}
    torch.save((synonyms, ["n01440764"]), tmp_path / "meta.bin")
    assert class_titles(tmp_path / "train", _IDS[:2]) == ("tench", "crane")


def test_damaged_meta_file_costs_names_and_says_so(tmp_path):
    (tmp_path / "meta.bin").write_bytes(b"\x80\x02garbage")
    with pytest.warns(UserWarning, match=r"meta\.bin: damaged, .*; its names are not used"):
        assert class_titles(tmp_path, _UNKNOWN) == _UNKNOWN
    torch.save({"other": 1}, tmp_path / "meta.bin")
    with pytest.warns(UserWarning, match=r"meta\.bin: not a file of torchvision's ImageNet; its names are not used"):
        assert class_titles(tmp_path, _UNKNOWN) == _UNKNOWN


def test_ids_that_nothing_explains_stay(tmp_path):
    assert class_titles(tmp_path, _UNKNOWN) == _UNKNOWN


def test_a_part_of_imagenet_is_named_as_all_of_it(tmp_path):
    pytest.importorskip("timm")
    assert class_titles(tmp_path, _IDS) == ("tench", "crane bird", "crane")
    assert class_titles(tmp_path, _IDS[::-2]) == ("crane", "tench")
    (tmp_path / "words.txt").write_text("n01440764 a list beside the folders\n")
    assert class_titles(tmp_path, _IDS[:1]) == ("a list beside the folders",)


def test_a_thousand_ids_are_imagenets(tmp_path):
    known = {0: "n01440764", 217: "n02102040", 491: "n03000684", 569: "n03417042", 701: "n03888257", 999: "n15075141"}
    ids = [known.get(place, f"n{place:08}") for place in range(1000)]
    titles = class_titles(tmp_path, ids)
    assert (titles[217], titles[491], titles[569], titles[701]) == (
        "English springer",
        "chain saw",
        "garbage truck",
        "parachute",
    )
    others = [f"n2{place:07}" for place in range(1000)]
    assert class_titles(tmp_path, others) == tuple(others)
    assert (titles[0], titles[134], titles[517], titles[999]) == ("tench", "crane bird", "crane", "toilet tissue")
    assert len(set(titles)) == 1000


def test_titles_are_for_people_and_change_no_digest(class_folder, tmp_path):
    root = class_folder("imagenet/train", dict.fromkeys(_UNKNOWN, 2))
    bare, _ = open_source(str(tmp_path / "imagenet"))
    (tmp_path / "imagenet" / "LOC_synset_mapping.txt").write_text("n00000001 tench\n")
    named, _ = open_source(str(tmp_path / "imagenet"))
    assert named.root == root
    assert named.classes == bare.classes == _UNKNOWN
    assert bare.display_names == _UNKNOWN
    assert named.display_names[0] == "tench"
    assert named.fingerprint() == bare.fingerprint()
    assert named.subset(torch.tensor([0])).display_names == named.display_names
