"""Images of 16 bits a channel, in the formats that hold them: scaled to 8 bits alike, or refused by name."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tlprune.data import sixteen_bits
from tlprune.data.decoding import decode_image
from tlprune.errors import InputError

HEIGHT, WIDTH = 5, 7
RAMP = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP // 2], -1)
OPAQUE = np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)


def png(pixels):
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pnm(pixels, highest=65535, text=False):
    kind = (2 if pixels.ndim == 2 else 3) + (0 if text else 3)
    content = " ".join(map(str, pixels.ravel())).encode() if text else pixels.astype(">u2").tobytes()
    return b"P%d %d %d %d\n" % (kind, WIDTH, HEIGHT, highest) + content


def tiff(pixels, order="<", photometric=None, sample_format=1, bits=16, content=None):
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() if content is None else content
    place = 8 + len(content) + len(content) % 2
    photometric = (1 if channels == 1 else 2) if photometric is None else photometric
    tags = {256: WIDTH, 257: HEIGHT, 258: [bits] * channels, 259: 1, 262: photometric, 273: 8, 277: channels}
    tags |= {278: HEIGHT, 279: len(content), 339: [sample_format] * channels}
    tags |= {338: 2} if channels == 4 else {}
    entries, beside = b"", b""
    after = place + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, list) and len(value) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(value), after + len(beside))
            beside += struct.pack(f"{order}{len(value)}H", *value)
        else:
            first = value[0] if isinstance(value, list) else value
            entries += struct.pack(f"{order}HHIHH", tag, 3, 1, first, 0)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, place)
    return (head + content).ljust(place, b"\0") + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beside


def decoded(folder, name, content):
    (folder / name).write_bytes(content)
    return decode_image(folder / name).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("name", "grey", "coloured"),
    [
        ("a.png", png(RAMP), png(COLOURS)),
        ("a.png", png(np.stack([RAMP, OPAQUE[..., 0]], -1)), png(np.concatenate([COLOURS, OPAQUE], -1))),
        ("a.pgm", pnm(RAMP), pnm(COLOURS)),
        ("a.pgm", pnm(RAMP, text=True), pnm(COLOURS, text=True)),
        ("a.pgm", pnm(RAMP // 16, 4095), pnm(COLOURS // 16, 4095)),
        ("a.tif", tiff(RAMP), tiff(COLOURS)),
        ("a.tif", tiff(RAMP, ">"), tiff(COLOURS, ">")),
        ("a.tif", tiff(RAMP, "<"), tiff(np.concatenate([COLOURS, OPAQUE], -1))),
    ],
)
def test_grey_and_colours_are_scaled_alike(tmp_path, name, grey, coloured):
    grey, coloured = (decoded(tmp_path, name, content) for content in (grey, coloured))
    assert np.abs(grey[..., 0].astype(int) - RAMP // 257).max() <= 1
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert np.array_equal(grey[..., 0], coloured[..., 0])
    assert np.abs(coloured.astype(int) - COLOURS // 257).max() <= 1


def test_strips_of_a_large_image_are_scaled_alike(tmp_path, monkeypatch):
    contents = {"a.png": png(RAMP), "a.pgm": pnm(RAMP), "a.tif": tiff(RAMP, ">"), "b.tif": tiff(RAMP, photometric=0)}
    whole = {name: decoded(tmp_path, name, content) for name, content in contents.items()}
    monkeypatch.setattr("tlprune.data.decoding._STRIP", 2 * WIDTH)
    for name, content in contents.items():
        assert np.array_equal(decoded(tmp_path, name, content), whole[name])


def test_where_white_is_zero_it_stays_white(tmp_path):
    pixels = decoded(tmp_path, "a.tif", tiff(65535 - RAMP, photometric=0))
    assert np.abs(pixels[..., 0].astype(int) - RAMP // 257).max() <= 1


def test_twelve_bits_that_a_file_says_to_be_so_fill_the_range(tmp_path):
    values = (RAMP // 16)[:, :6].ravel()
    first, second = values[::2].astype(int), values[1::2].astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    content = packed.tobytes()
    whole = tiff(np.zeros((HEIGHT, WIDTH), np.uint16), bits=12, content=content)
    (tmp_path / "a.tif").write_bytes(
        whole.replace(struct.pack("<HHIHH", 256, 3, 1, WIDTH, 0), struct.pack("<HHIHH", 256, 3, 1, 6, 0))
    )
    assert np.array_equal(decode_image(tmp_path / "a.tif")[0].numpy(), (RAMP // 256)[:, :6])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (tiff((RAMP.astype(np.int32) - 32768).astype(np.int16), sample_format=2), "pixels of 16 bits with a sign"),
        (tiff(RAMP.astype(np.uint32), bits=32), "pixels of 32 bits"),
        (tiff(RAMP.astype(np.int32), sample_format=2, bits=32), "pixels of 32 bits"),
        (tiff(RAMP.astype(np.float32), sample_format=3, bits=32), "pixels of 32 bits"),
    ],
)
def test_numbers_without_a_known_range_are_refused_by_name(tmp_path, content, what):
    with pytest.raises(InputError, match=f"a.tif: {what} have no known range; convert them to 8 bits"):
        decoded(tmp_path, "a.tif", content)


@pytest.mark.parametrize("content", [png(np.arange(35, dtype=np.uint16).reshape(5, 7)), png(COLOURS // 300)])
def test_eight_bits_in_sixteen_are_said(tmp_path, content):
    sixteen_bits._warned.clear()
    with pytest.warns(UserWarning, match="its 16 bits hold values below 256 of 65,536, so it is nearly black"):
        decoded(tmp_path, "a.png", content)


def test_a_black_image_is_black(tmp_path):
    sixteen_bits._warned.clear()
    assert not decoded(tmp_path, "a.png", png(np.zeros((5, 7), dtype=np.uint16))).any()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png(RAMP // 16)),
        ("a.png", png(COLOURS // 16)),
        ("a.tif", tiff(RAMP // 16)),
        ("a.tif", tiff(COLOURS // 16, ">")),
        ("a.pgm", pnm(RAMP // 17)),
    ],
)
def test_an_image_that_uses_a_small_part_of_the_range_is_said_once(tmp_path, name, content):
    sixteen_bits._warned.clear()  # pytest may give the folder of an earlier test once more
    with pytest.warns(
        UserWarning, match=f"{name}: its 16 bits hold values below 4,096 of 65,536, so it is nearly black"
    ):
        decoded(tmp_path, name, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded(tmp_path, f"other-{name}", content)


def test_dark_images_of_eight_bits_and_black_ones_are_as_they_are(tmp_path):
    Image.fromarray(np.full((5, 7), 3, np.uint8)).save(tmp_path / "a.png")
    assert decode_image(tmp_path / "a.png").unique().tolist() == [3]
    assert decoded(tmp_path, "b.png", png(RAMP * 0)).max() == 0


def test_as_an_error_it_is_no_damage(tmp_path):
    sixteen_bits._warned.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(sixteen_bits.DarkImageWarning):
            decoded(tmp_path, "a.png", png(RAMP // 16))
