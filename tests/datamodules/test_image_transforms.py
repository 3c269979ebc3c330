import pytest
import torch
from torchvision.transforms.v2 import functional

from tlprune import FeatureMapping, LabelMapping, PrunedSourceDataModule, RandomSelector, SelectOptions
from tlprune.data.datasets import TensorImages
from tlprune.data.image_size import ImageSize
from tlprune.data.target_splits import TargetSplits
from tlprune.datamodules.image_transforms import SourceTransforms
from tlprune.errors import InputError
from tlprune.models.weights import load_classifier
from tlprune.preprocessing import Preprocessing

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5), 24, 0.75, "bicubic")
"""How the weights of these tests expect images."""

SEEN_IN_HALVES = SelectOptions(surrogate_preprocessing=HALF)
CLASSES = [f"colour{label:02}" for label in range(6)]


def test_the_user_decides_then_the_weights_then_the_set():
    assert ImageSize(48, 224).expected(HALF) == 48
    assert ImageSize(None, 224).expected(HALF) == 24
    assert ImageSize(None, 224).expected(Preprocessing()) == 224


@pytest.mark.parametrize(("given", "warned"), [(None, False), (13, False), (47, False), (12, True), (48, True)])
def test_a_size_that_weights_were_not_made_for_is_warned_of(given, warned, recwarn):
    ImageSize(given, 224).warn_if_far(HALF, "surrogate w")
    assert [str(one.message) for one in recwarn] == (
        [f"surrogate w expects images of 24 pixels, and is given {given} (`image_size`)"] if warned else []
    )


@pytest.mark.parametrize(
    ("given", "train", "evaluated"), [((None, None), 24, 24), ((16, None), 16, 16), ((16, 20), 16, 20)]
)
def test_training_and_evaluation_have_sizes_of_their_own(given, train, evaluated):
    views = SourceTransforms(*given, 224, "simclr")
    assert (views.train(HALF).image_size, views.eval(HALF).image_size) == (train, evaluated)
    assert views.train(HALF).preprocessing.mean == views.eval(HALF).preprocessing.mean == HALF.mean


@pytest.fixture
def wide(coloured):
    """A target of four colours, 40 pixels high and 50 wide."""

    def stretched(images):
        return TensorImages(functional.resize(images.pixels, [40, 50]), images.labels, images.classes)

    train, val = stretched(coloured(4, 8, 1)), stretched(coloured(4, 5, 2))
    return TargetSplits("wide", train, val, None, 32, "made for tests")


def prepared(source, target, surrogate, **options):
    data = PrunedSourceDataModule(source, target, surrogate=surrogate, prune_ratio=0.0, **options)
    data.setup()
    return data


def by_hand(images, network):
    """What a network says of images that are seen as HALF says, one step after the other."""
    resized = functional.resize(images.pixels, 32, functional.InterpolationMode.BICUBIC, antialias=True)
    scaled = functional.center_crop(resized, [24, 24]).float() / 255
    with torch.inference_mode():
        return network.eval()((scaled - 0.5) / torch.tensor([0.5, 0.25, 0.5]).view(3, 1, 1))


def test_votes_are_those_of_images_seen_as_the_surrogate_expects(coloured, wide, surrogate_file):
    surrogate = surrogate_file(CLASSES, preprocessing=HALF)
    selection = prepared(coloured(6, 5), wide, str(surrogate)).selection
    votes = by_hand(wide.train, load_classifier(surrogate)[0]).argmax(1)
    assert selection.votes.tolist() == votes.bincount(minlength=6).tolist()
    differs = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5], "crop_share": 0.75, "interpolation": "bicubic"}
    assert selection.config["view"] == {"view": "EvalView", "image_size": 24, **differs}
    assert selection.metadata["image_size"] == 24


def test_source_and_target_are_seen_alike(coloured, wide, surrogate_file):
    """Features of the source decide its centroids, those of the target who votes for them."""
    surrogate, source = surrogate_file(CLASSES, preprocessing=HALF), coloured(6, 5)
    data = prepared(source, wide, str(surrogate), selector=FeatureMapping(units="classes"))
    backbone = load_classifier(surrogate)[0].backbone
    centroids = by_hand(source, backbone).half().float().view(6, 5, -1).mean(1)
    nearest = torch.cdist(by_hand(wide.train, backbone), centroids).argmin(1)
    assert data.selection.votes.tolist() == nearest.bincount(minlength=6).tolist()
    torch.testing.assert_close(data.unit_features(), centroids, atol=1e-3, rtol=1e-3)


def test_what_the_user_says_of_a_silent_file_is_what_a_file_says(coloured, wide, surrogate_file):
    silent = surrogate_file(CLASSES)
    given = prepared(coloured(6, 5), wide, str(silent), selection=SEEN_IN_HALVES).selection
    usual = prepared(coloured(6, 5), wide, str(silent), image_size=24).selection
    said = surrogate_file(CLASSES, preprocessing=HALF)
    assert given.digest == prepared(coloured(6, 5), wide, str(said)).selection.digest
    assert usual.config["view"] == {"view": "EvalView", "image_size": 24}
    assert given.metadata.get("cached") is None is usual.metadata.get("cached")  # neither was taken for the other


def test_what_the_user_says_beats_the_file_one_by_one(coloured, wide, surrogate_file):
    said = str(surrogate_file(CLASSES, preprocessing=HALF))
    mine = Preprocessing(std=(0.5, 0.5, 0.5))
    options = SelectOptions(surrogate_preprocessing=mine, image_size=20)
    view = prepared(coloured(6, 5), wide, said, selection=options).selection.config["view"]
    assert (view["mean"], view["std"], view["image_size"]) == ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 20)


def test_a_size_far_from_the_surrogates_is_said(coloured, wide, surrogate_file):
    weights, size = str(surrogate_file(CLASSES, preprocessing=HALF)), SelectOptions(image_size=8)
    with pytest.warns(
        UserWarning, match="surrogate .*surrogate.safetensors expects images of 24 pixels, and is given 8"
    ):
        prepared(coloured(6, 5), wide, weights, selection=size)


def test_selectors_without_a_surrogate_are_as_before(coloured):
    selection = prepared(coloured(6, 5), None, None, selector=RandomSelector(), selection=SEEN_IN_HALVES).selection
    assert (selection.config["view"], selection.metadata["image_size"]) == (None, 32)


def test_surrogates_that_expect_images_in_different_ways_are_refused(coloured, surrogate_file):
    from tlprune import EL2N

    pair = [str(surrogate_file(CLASSES, f"{name}.safetensors", how)) for name, how in (("a", None), ("b", HALF))]
    data = PrunedSourceDataModule(coloured(6, 5), selector=EL2N(), surrogate=pair, prune_ratio=0.5)
    with pytest.raises(
        InputError, match=r"surrogates expect images in .*a.safetensors \(32 pixels\) and .*\(24 pixels, m"
    ):
        data.check_inputs()
    prepared(coloured(6, 5), None, pair, selector=EL2N(), selection=SEEN_IN_HALVES)  # said to be alike


def test_a_surrogate_does_not_decide_how_training_images_are_seen(coloured, wide, surrogate_file):
    data = prepared(coloured(6, 5), wide, str(surrogate_file(CLASSES, preprocessing=HALF)), selector=LabelMapping())
    plain = PrunedSourceDataModule(coloured(6, 5))
    plain.setup()
    for images, theirs in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        assert torch.equal(images[0], theirs[0])
