import os

import numpy as np
import pytest
import torch
from PIL import Image

from tlprune.data.decoding import decode_bytes, decode_image
from tlprune.errors import InputError


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        Image.fromarray(np.full((5, 7), 40000, np.uint16)).save(path)
    else:
        Image.new("RGB", (7, 5), (200, 10, 90)).convert(mode).save(path)
    pixels = decode_image(path)
    assert pixels.shape == (3, 5, 7)
    assert pixels.dtype == torch.uint8


def test_values_are_those_of_the_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), pixels)


def test_bad_files_are_named(tmp_path):
    good = tmp_path / "good.jpg"
    Image.new("RGB", (64, 64)).save(good)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(good.read_bytes())
    os.truncate(cut, good.stat().st_size // 2)
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.jpg").touch()
    for name in ("cut.jpg", "page.jpg", "empty.jpg", "missing.jpg"):
        with pytest.raises(InputError, match=name):
            decode_image(tmp_path / name)


def test_huge_images_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("tlprune.data.decoding.MAX_PIXELS", 99)
    Image.new("RGB", (10, 10)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="huge.png: 10 x 10 pixels is more than 99 allowed"):
        decode_image(tmp_path / "huge.png")


def test_sixteen_bits_are_scaled_and_numbers_without_a_range_are_refused(tmp_path):
    ramp = np.linspace(0, 65535, 35).astype(np.uint16).reshape(5, 7)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    assert np.array_equal(decode_image(tmp_path / "ramp.png")[0].numpy(), ramp // 256)
    Image.fromarray(np.random.default_rng(0).random((5, 7)).astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match="float.tiff: pixels of 32 bits have no known range"):
        decode_image(tmp_path / "float.tiff")


@pytest.mark.parametrize("ending", ["png", "ppm", "tiff", "bmp", "webp", "jpg"])
def test_damaged_bytes_never_raise_anything_else(tmp_path, ending):
    path = tmp_path / f"image.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(damaged), 60), 3):
            damaged[place] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        try:
            assert decode_image(path).dtype == torch.uint8
        except InputError as error:
            assert path.name in str(error)
            refused += 1
    assert refused > 0


def test_a_loading_process_says_no_more_than_this_one(class_folder):
    from tlprune.data.scanning import scan_class_folder
    from tlprune.data.transformed import TransformedDataset
    from tlprune.data.transforms import EvalTransform
    from tlprune.selection.features import extract_features

    root = class_folder("src", {"a": 3})
    (root / "a" / "001.png").write_text("no image")
    said = []
    for workers in (0, 1):
        with pytest.raises(InputError) as raised:
            extract_features(
                torch.nn.Flatten(), TransformedDataset(scan_class_folder(root), EvalTransform(32)), workers
            )
        said.append(str(raised.value))
    assert said[0] == said[1] == f"{root}/a/001.png: not an image that can be read"


def test_a_large_image_is_converted_strip_by_strip_to_the_same_pixels(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (45, 67, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = decode_image(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(whole.permute(1, 2, 0).numpy(), np.asarray(image))
    monkeypatch.setattr("tlprune.data.decoding._STRIP", 200)
    assert torch.equal(decode_image(tmp_path / "a.jpg"), whole)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30, "optimize": True}])
def test_a_jpeg_has_the_pixels_that_pillow_gives(tmp_path, mode, options):
    noise = np.random.default_rng(0).integers(0, 256, (45, 67, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).convert(mode).save(path, **options)
    with Image.open(path) as image:
        theirs = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode_image(path).permute(1, 2, 0).numpy(), theirs)
    assert np.array_equal(decode_bytes(path.read_bytes(), "a").permute(1, 2, 0).numpy(), theirs)


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_of_a_jpeg_that_is_not_whole_pillow_decides(tmp_path, cut):
    path = tmp_path / "a.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:-cut])
    try:
        with Image.open(path) as image:
            theirs = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except OSError as error:
        with pytest.raises(InputError, match=str(error).split("(")[0]):
            decode_image(path)
    else:
        assert torch.equal(decode_image(path), theirs)


def test_a_jpeg_too_long_to_be_read_at_once_has_the_same_pixels(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    whole = decode_image(path)
    monkeypatch.setattr("tlprune.data.decoding._MOST_BYTES", 10)
    assert torch.equal(decode_image(path), whole)
