import json
import math

import pytest

from tlprune.errors import InputError
from tlprune.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

HALF = (0.5, 0.5, 0.5)


def test_what_is_given_beats_what_is_known_and_imagenet_fills_the_rest():
    known = Preprocessing(HALF, HALF, 384, 1.0, "bicubic", "squash")
    assert Preprocessing().over(known) == known
    assert Preprocessing(image_size=224).over(known) == Preprocessing(HALF, HALF, 224, 1.0, "bicubic", "squash")
    assert Preprocessing().filled() == Preprocessing(IMAGENET_MEAN, IMAGENET_STD, None, 0.875, "bilinear", "center")


@pytest.mark.parametrize(
    "said",
    [
        Preprocessing(),
        Preprocessing(image_size=224),
        Preprocessing(HALF, None, None, 224 / 235, "bicubic"),
        Preprocessing(HALF, HALF, 384, 1.0, "nearest", "squash"),
    ],
)
def test_goes_through_json_and_back(said):
    assert Preprocessing.from_json(json.loads(json.dumps(said.as_json()))) == said


def test_what_is_imagenets_is_not_written():
    assert Preprocessing().filled().as_json() == {}
    assert Preprocessing().filled().described() == ""


def test_is_described_in_words():
    said = Preprocessing(HALF, (0.5, 0.25, 0.5), 384, 0.95, "bicubic", "squash")
    assert said.described() == "384 pixels, mean 0.5, 0.5, 0.5, std 0.5, 0.25, 0.5, crop share 0.95, bicubic, squash"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": [0.5]}, r"`mean` must be three numbers in \[0, 1\], got \[0.5\]"),
        ({"mean": "0.5"}, r"`mean` must be three numbers in \[0, 1\], got 0.5"),
        ({"mean": [124, 116, 104]}, r"`mean` must be three numbers in \[0, 1\], got \[124, 116, 104\]"),
        ({"mean": [0.5, 0.5, math.nan]}, "`mean` must be three numbers"),
        ({"std": [0.5, 0, 0.5]}, r"`std` must be three numbers in \(0, 1\], got \[0.5, 0, 0.5\]"),
        ({"std": [0.5, True, 0.5]}, "`std` must be three numbers"),
        ({"image_size": 0}, "`image_size` must be from 1 to 4096, got 0"),
        ({"image_size": 2.5}, "`image_size` must be a whole number, got 2.5"),
        ({"crop_share": 0}, r"`crop_share` must be in \(0, 2\], got 0"),
        ({"crop_share": "most"}, r"`crop_share` must be in \(0, 2\], got 'most'"),
        ({"interpolation": "cubic"}, "`interpolation` must be one of nearest, bilinear, bicubic, got 'cubic'"),
        ({"crop_mode": "border"}, "`crop_mode` must be one of center, squash, got 'border'"),
        ({"means": [0.5, 0.5, 0.5]}, "`preprocessing` has no 'means': did you mean 'mean'"),
        ([1], "`preprocessing` must be an object, got list"),
    ],
)
def test_what_is_out_of_range_is_refused(given, message):
    with pytest.raises(InputError, match=f"^{message}"):
        Preprocessing.from_json(given)
