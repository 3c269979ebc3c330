import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tlprune.data.built_in_targets import digits, photos
from tlprune.data.datasets import TensorImages
from tlprune.selection.copies import ALIKE_SHARE, SAME_SHARE, find_copies
from tlprune.selection.thumbnails import read_thumbnails


def in_blocks(rows, size):
    return [
        (range(start, min(start + size, len(rows))), rows[start : start + size]) for start in range(0, len(rows), size)
    ]


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
def test_the_two_nearest_images_are_those_of_brute_force(block, monkeypatch):
    monkeypatch.setattr("tlprune.selection.copies._ROWS", 8)
    rng = np.random.default_rng(block)
    source, test = (rng.integers(0, 256, (n, 12), dtype=np.uint8) for n in (120, 30))
    test[:3] = source[[5, 60, 119]]
    found = find_copies(torch.from_numpy(test), in_blocks(torch.from_numpy(source), block))
    apart = np.sqrt(np.square((test[:, None] - source[None].astype(float)) / 255).mean(2))
    order = apart.argsort(1, kind="stable")
    np.testing.assert_array_equal(found.source.numpy(), order[:, 0])
    ordered = np.sort(apart, 1)
    np.testing.assert_allclose(found.difference.numpy(), ordered[:, 0], atol=1e-7)
    np.testing.assert_allclose(found.second.numpy(), ordered[:, 1], atol=1e-7)
    np.testing.assert_allclose(found.contrast.numpy(), (test / 255).std(1), rtol=1e-5)
    share = ordered[:, 0] / (test / 255).std(1)
    copied = (share <= SAME_SHARE) | ((share <= ALIKE_SHARE) & (ordered[:, 0] <= 0.5 * ordered[:, 1]))
    assert sorted(found.found.tolist()) == np.flatnonzero(copied).tolist()
    assert {0, 1, 2} <= set(found.found.tolist())


def resized(pixels):
    smaller = [round(size * 7 / 8) for size in pixels.shape[2:]]
    return functional.interpolate(pixels.float(), smaller, mode="bilinear", antialias=True).round().clamp(0, 255).byte()


def encoded(pixels):
    copies = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=75)
        copies.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(copies)


def thumbnails(pixels):
    return read_thumbnails(TensorImages(pixels, torch.zeros(len(pixels), dtype=torch.int64), ()))


@pytest.mark.parametrize("target", [digits, photos])
def test_copies_of_smooth_images_are_found_among_others_of_their_kind(target):
    train, _, test = target(0)
    some = test.pixels[::4]
    for copies in (some, resized(some), encoded(some)):
        source = torch.cat([thumbnails(copies), thumbnails(train.pixels)])
        found = find_copies(thumbnails(some), in_blocks(source, 64))
        right = [one for one in found.found.tolist() if found.source[one] == one]
        assert len(right) >= 0.95 * len(some)
    alone = find_copies(thumbnails(some), in_blocks(thumbnails(train.pixels), 64))
    assert len(alone.found) <= 0.01 * len(some)


def test_images_of_one_brightness_are_no_copies():
    plain = torch.arange(256).byte()[:, None].repeat(1, 256)
    found = find_copies(plain, [(range(256), plain)])
    assert found.difference.tolist() == 256 * [0]
    assert found.contrast.tolist() == 256 * [0]
    assert found.found.tolist() == []


def test_a_copy_that_the_source_has_twice_is_a_copy():
    picture = torch.randint(0, 256, (1, 256), generator=torch.Generator().manual_seed(0)).byte()
    assert find_copies(picture, [(range(2), picture.repeat(2, 1))]).found.tolist() == [0]


def test_the_most_alike_come_first():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(40, 200, (3, 256), generator=generator)
    test = pictures + torch.tensor([[9], [0], [4]])
    assert find_copies(test.byte(), [(range(3), pictures.byte())]).found.tolist() == [1, 2, 0]


def test_without_images_nothing_is_found():
    pictures = torch.zeros(2, 256, dtype=torch.uint8)
    assert find_copies(pictures, []).found.tolist() == []
    assert find_copies(pictures, []).source.tolist() == [-1, -1]
    assert find_copies(pictures[:0], [(range(2), pictures)]).found.tolist() == []
