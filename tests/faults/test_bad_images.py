"""Images that are damaged, huge or odd: named in error mode, left out in skip mode, within bounded memory."""

import json
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from tlprune import Selection
from tlprune.cli import main
from tlprune.data.decoding import decode_image
from tlprune.errors import InputError

MIB = 1024  # in the unit of ru_maxrss
GOOD = ("cmyk.jpg", "rgba.png", "one.png", "deep.png", "deep_colour.png")
BAD = ("cut.jpg", "cut.png", "empty.jpg", "huge_12k.png", "huge_30k.png", "page.jpg", "float.tiff")


def write_png(path, width, height, bits=1, channels=0):
    """A black picture, row by row; as PNG compresses rows, 30,000 times 30,000 pixels are a few hundred kilobytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    depth = {0: 1, 2: 3, 6: 4}[channels] * bits
    packer = zlib.compressobj(1)
    rows = [packer.compress(bytes(1 + (width * depth + 7) // 8)) for _ in range(height)]
    header = struct.pack(">IIBBBBB", width, height, bits, channels, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(rows) + packer.flush()) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def write_odd_images(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("RGBA").save(folder / "rgba.png")
    photo.crop((0, 0, 1, 1)).save(folder / "one.png")
    Image.fromarray(np.full((16, 16), 40000, np.uint16)).save(folder / "deep.png")
    write_png(folder / "deep_colour.png", 16, 16, bits=16, channels=2)
    for name in ("cut.jpg", "cut.png"):
        photo.save(folder / name)
        (folder / name).write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size // 2])
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<!doctype html><title>404 Not Found</title>")
    write_png(folder / "huge_12k.png", 12_000, 12_000)
    write_png(folder / "huge_30k.png", 30_000, 30_000)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "float.tiff")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    write_odd_images(folder)
    return folder


@pytest.fixture
def source(odd, tmp_path):
    """A thousand images, twelve of them odd: of those seven cannot be decoded."""
    root = tmp_path / "src"
    for label, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True)
        for number in range(494):
            Image.new("RGB", (8, 8), (number % 256, label, 9)).save(root / name / f"{number:03}.png")
    for path in odd.iterdir():
        shutil.copy(path, root / "ant")
    return root


_DECODE = """
import json, resource, sys
from pathlib import Path
from tlprune.data.decoding import decode_image
from tlprune.errors import InputError
found, used = {}, lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = used()
for path in map(Path, sys.argv[1:]):
    try:
        found[path.name] = list(decode_image(path).shape)
    except InputError as error:
        found[path.name] = str(error)
print(json.dumps({"found": found, "above": used() - before}))
"""


def decode_elsewhere(*paths):
    """What each file became in a process of its own, and by how many KiB its memory grew."""
    command = [sys.executable, "-W", "ignore", "-c", _DECODE, *map(str, paths)]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return done["found"], done["above"]


def test_each_is_decoded_or_named_and_memory_stays_within_bounds(odd):
    found, above = decode_elsewhere(*sorted(odd.iterdir()))
    assert set(found) == {*GOOD, *BAD}
    for name in GOOD:
        assert found[name] == ([3, 1, 1] if name == "one.png" else [3, 16, 16])
    for name in BAD:
        assert found[name].startswith(f"{odd / name}: ")
        assert "\n" not in found[name]
    assert above < 200 * MIB


@pytest.mark.slow
def test_the_largest_image_allowed_stays_below_a_gigabyte(tmp_path):
    write_png(tmp_path / "large.png", 9459, 9459, 8, 6)
    found, above = decode_elsewhere(tmp_path / "large.png")
    assert found == {"large.png": [3, 9459, 9459]}
    assert above < 1024 * MIB


@pytest.mark.parametrize("size", [(2049, 2051), (4096, 2048), (30_000, 300)])
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "RGBA", "P", "L", "I;16"])
def test_a_large_image_in_strips_is_what_it_is_in_one(tmp_path, monkeypatch, mode, size):
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, size[::-1], dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
    image.save(tmp_path / "a.tiff")
    strips = decode_image(tmp_path / "a.tiff")
    monkeypatch.setattr("tlprune.data.decoding._STRIP", 2**40)
    assert torch.equal(strips, decode_image(tmp_path / "a.tiff"))


@pytest.mark.filterwarnings("ignore:Image size .* could be decompression bomb")
@pytest.mark.parametrize("name", BAD)
def test_error_mode_names_the_file(odd, name):
    with pytest.raises(InputError, match=rf"^{odd / name}: .+$"):
        decode_image(odd / name)


@pytest.mark.filterwarnings("ignore:.*cannot be decoded and are skipped", "ignore:Image size .* could be decompression")
@pytest.mark.filterwarnings("ignore:.*nearly black")
def test_skip_mode_finishes_and_lists_exactly_those(source, tmp_path, capsys):
    select = ["select", f"--source={source}", "--selector=RandomSelector", "--on_bad_image=skip"]
    assert main([*select, f"--output={tmp_path / 's.safetensors'}"]) == 0
    assert "7 source images that cannot be decoded, first ant/cut.jpg" in capsys.readouterr().out
    found = Selection.load(tmp_path / "s.safetensors")
    assert sorted(found.skipped) == sorted(f"ant/{name}" for name in BAD)
    assert len(found.unit_of_sample) == 1000 - len(BAD)


@pytest.mark.filterwarnings("ignore:Image size .* could be decompression bomb", "ignore:.*nearly black")
def test_above_one_in_a_hundred_it_stops(source, tmp_path, capsys):
    for number in range(4):
        (source / "bee" / f"{number:03}.png").write_bytes(b"")
    select = ["select", f"--source={source}", "--selector=RandomSelector", "--on_bad_image=skip"]
    assert main([*select, f"--output={tmp_path / 's.safetensors'}"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "11 of 1,000 images cannot be decoded, more than 1%; first " in line
    assert not (tmp_path / "s.safetensors").exists()
