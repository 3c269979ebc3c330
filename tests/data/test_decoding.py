import os

import numpy as np
import pytest
import torch
from PIL import Image

from tlprune.data.decoding import decode_image
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
