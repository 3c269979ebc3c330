"""Targets by name: how one is asked for, and what is checked before it is used. Sizes here are the real ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from real_layouts import write_coop, write_images, write_official
from tlprune import DownstreamDataModule, PrunedSourceDataModule
from tlprune.data.named_targets import open_set
from tlprune.data.target_catalogue import TARGET_SETS, Sizes
from tlprune.data.target_splits import absolute_target, check_target, list_targets, open_named, open_target
from tlprune.errors import InputError


@pytest.fixture(autouse=True)
def _no_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("TLPRUNE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def textures(tmp_path):
    """CoOp's split of DTD in its real size, which is the same for every class."""
    folder = tmp_path / "sets" / "dtd"
    entry = write_coop("dtd", folder, (60, 24, 36), 47)
    assert entry == TARGET_SETS["dtd"]
    return folder


def test_a_name_with_its_folder_opens(textures):
    target = open_target(f"dtd:{textures}")
    assert (target.name, target.image_size, len(target.classes)) == ("dtd", 224, 47)
    assert (len(target.train), len(target.val), len(target.test)) == (2820, 1128, 1692)
    assert target.split == "CoOp, split_zhou_DescribableTextures.json"


@pytest.mark.parametrize("inside", ["dtd", "dtd/dtd"])
def test_a_name_alone_is_looked_for_in_the_data_folder(inside, textures, tmp_path, monkeypatch):
    if inside == "dtd/dtd":  # as torchvision unpacks it
        textures.rename(tmp_path / "elsewhere")
        textures.mkdir()
        (tmp_path / "elsewhere").rename(textures / "dtd")
    monkeypatch.setenv("TLPRUNE_DATA", str(textures.parent))
    check_target("dtd")
    target = open_target("dtd")
    assert target.train.root == textures.parent / inside / "images"


@pytest.mark.parametrize("called", ["flowers102", "oxford_flowers", "flowers-102"])
def test_folders_may_be_called_as_others_call_them(called, tmp_path, monkeypatch):
    write_official("flowers102", tmp_path / "data" / called)
    monkeypatch.setenv("TLPRUNE_DATA", "data")
    check_target("flowers102")
    assert absolute_target("flowers102") == f"flowers102:{tmp_path / 'data' / called}"


def test_a_module_opens_and_probes_one(textures):
    data = DownstreamDataModule(f"dtd:{textures}", image_size=16, batch_size=8)
    assert data.num_classes == 47
    data.setup()
    assert next(iter(data.train_dataloader()))[0].shape == (8, 3, 16, 16)
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 1692


def test_one_votes_and_the_selection_remembers_where_it_lay(textures, class_folder, surrogate_file, monkeypatch):
    source = class_folder("src", dict.fromkeys("abcd", 3))
    monkeypatch.setenv("TLPRUNE_DATA", str(textures.parent))
    data = PrunedSourceDataModule(str(source), "dtd", surrogate=str(surrogate_file(4)), prune_ratio=0.5, image_size=16)
    with pytest.warns(UserWarning, match="2 units are kept, but only 1"):  # all its images are one picture
        data.setup("fit")
    assert data.selection.votes.sum() == 2820
    assert data.selection.metadata["targets"] == [f"dtd:{textures}"]


def test_plain_folders_stay_what_they_were(class_folder, tmp_path, monkeypatch):
    for name in ("dtd", "odd:name", "dtd:x"):
        class_folder(f"{name}/train", {"cat": 5, "dog": 5})
        target = open_target(name)
        assert (target.name, target.classes, len(target.val)) == (name, ("cat", "dog"), 2)
        assert absolute_target(name) == str(tmp_path / name)
    assert absolute_target("digits") == "digits"
    Path("digits").mkdir()
    assert absolute_target("digits") == "digits"
    assert list_targets() == ["digits", "photos"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("oxford_pet", "unknown target 'oxford_pet': did you mean 'oxford_pets'?"),
        ("oxford_pet:/data/pets", "unknown target 'oxford_pet': did you mean 'oxford_pets'?"),
        ("zzz:/data", "choose one of: digits, photos (or give a folder); 'tlprune datasets' lists the others"),
        ("digits:/data", "target digits:/data: 'digits' comes with tlprune and takes no folder"),
        ("no/such:x", "target no/such:x: no such folder"),
        ("oxford_pets:", "target oxford_pets:: no folder after the colon; give it as oxford_pets:FOLDER"),
        ("oxford_pets:nowhere", "oxford_pets: nowhere: no such folder"),
        ("oxford_pets:a_file", "oxford_pets: a_file: a file, not a folder"),
        ("oxford_pets:empty", "oxford_pets: no 'images' in empty (see 'tlprune datasets oxford_pets')"),
        ("dtd:half", "neither 'split_zhou_DescribableTextures.json' nor 'labels/train1.txt' in half"),
        ("cifar10:empty", "cifar10: no 'batches.meta' in empty"),
        (
            "oxford_pets",
            "target oxford_pets: $TLPRUNE_DATA is not set; give it as oxford_pets:FOLDER, or set TLPRUNE_DATA to the "
            "folder that holds 'oxford_pets'",
        ),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_opened(target, message):
    Path("a_file").write_text("")
    Path("empty").mkdir()
    Path("half/images").mkdir(parents=True)
    for refuse in (check_target, open_target, DownstreamDataModule):
        with pytest.raises(InputError) as caught:
            refuse(target)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_data_folder_that_lacks_the_set_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TLPRUNE_DATA", str(tmp_path))
    message = rf"no 'sun397' in {tmp_path} \(\$TLPRUNE_DATA\); give it as sun397:FOLDER, or put it there"
    with pytest.raises(InputError, match=message):
        check_target("sun397")
    monkeypatch.setenv("TLPRUNE_DATA", "nowhere")
    with pytest.raises(InputError, match="TLPRUNE_DATA=nowhere: no such folder"):
        check_target("sun397")


def test_sun_without_lists_says_what_is_expected(tmp_path):
    write_images(tmp_path / "SUN397", ["a/abbey/sun_a.jpg"])
    (tmp_path / "SUN397" / "ClassName.txt").write_text("/a/abbey\n")
    with pytest.raises(InputError, match=r"neither 'split_zhou_SUN397.json' nor 'Training_01.txt' in"):
        open_target(f"sun397:{tmp_path}")


@pytest.mark.parametrize("name", TARGET_SETS)
def test_a_part_of_a_set_is_refused(name, tmp_path):
    entry = write_official(name, tmp_path)
    with pytest.raises(InputError, match=rf"^{name}: \d classes in .*, expected 1000"):
        open_set(replace(entry, num_classes=1000), tmp_path)
    for part in ("train", "test"):
        wrong = replace(entry, official_sizes=entry.official_sizes._replace(**{part: 5000}))
        with pytest.raises(InputError, match=rf"^{name}: \d+ images in '{part}', expected 5,000 \(official"):
            open_set(wrong, tmp_path)


def test_a_part_of_a_set_is_refused_by_its_real_size(textures):
    write_coop("oxford_pets", textures.parent / "pets", (2, 1, 1), 37)
    message = r"oxford_pets: 74 images in 'train', expected 2,944 \(CoOp, split_zhou_OxfordPets.json; "
    with pytest.raises(InputError, match=message):
        open_target(f"oxford_pets:{textures.parent / 'pets'}")


def test_the_seed_decides_what_is_held_out_and_every_class_gives_its_share(tmp_path):
    entry = write_official("food101", tmp_path)
    one, same, other = (open_named(entry, tmp_path, seed) for seed in (0, 0, 1))
    assert one.val.paths == same.val.paths
    assert one.train.fingerprint() == same.train.fingerprint()
    assert one.val.paths != other.val.paths
    assert one.test.paths == other.test.paths
    assert one.val.labels.bincount().tolist() == [1, 1, 1]
    assert len({*one.train.paths, *one.val.paths}) == 15
    assert (one.split, other.split) == tuple(f"official, a fifth of train held out, seed {seed}" for seed in (0, 1))


def test_sizes_agree_with_each_other():
    for entry in TARGET_SETS.values():
        if entry.coop_sizes is None:
            continue
        official, coop = entry.official_sizes, entry.coop_sizes
        assert sum(coop) == sum(filter(None, official))
        if entry.name in ("oxford_pets", "sun397", "stanford_cars", "ucf101"):  # CoOp kept their test images
            assert coop == Sizes(official.train - coop.val, coop.val, official.test)
