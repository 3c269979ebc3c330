from multiprocessing import get_context

import numpy as np
import pytest

from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import FAMILIES, draw_image, synthetic_classes, synthetic_source
from tlprune.errors import InputError


def test_a_hundred_classes_in_three_families():
    names = [drawn.name for drawn in synthetic_classes()]
    assert len(names) == len({name.lower() for name in names}) == 100  # some file systems ignore case
    assert names == sorted(names)
    assert {drawn.family for drawn in synthetic_classes()} == set(FAMILIES)


@pytest.mark.parametrize("drawn", synthetic_classes(), ids=lambda drawn: drawn.name)
def test_every_class_draws_images_that_vary_and_repeat(drawn):
    first, again, other = (np.asarray(draw_image(drawn, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.std() > 5, "nothing is drawn"


def test_draws_a_class_folder_once(tmp_path):
    root = synthetic_source(tmp_path, 2)
    images = scan_class_folder(root)
    assert images.classes == tuple(drawn.name for drawn in synthetic_classes())
    assert len(images) == 200
    assert images[0][0].shape == (3, 32, 32)
    drawn = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert synthetic_source(tmp_path, 2) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.png")} == drawn
    assert sorted(path.name for path in tmp_path.iterdir() if "part" in path.name) == []


def test_several_processes_draw_once(tmp_path):
    context = get_context("spawn")
    with context.Pool(3) as pool:
        roots = pool.starmap(synthetic_source, [(tmp_path, 1)] * 3)
    assert len(set(roots)) == 1
    assert len(scan_class_folder(roots[0])) == 100


def test_no_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="`images_per_class` must be at least 1, got 0"):
        synthetic_source(tmp_path, 0)
