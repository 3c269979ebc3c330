import pytest
import torch
from torchvision.transforms import v2

from tlprune.data.images import TensorImages
from tlprune.data.loaders import batches
from tlprune.data.transforms import MEAN, STD, EvalView, TrainView, random_flip_, random_shift
from tlprune.data.viewed import ViewedImages
from tlprune.errors import InputError


def images(count=6, height=32, width=32):
    pixels = torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return TensorImages(pixels, torch.arange(count), [str(label) for label in range(count)])


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (50, 40, 32), (300, 260, 224)])
def test_evaluation_view_equals_torchvision(height, width, size):
    steps = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    if (height, width) != (size, size):
        steps = [v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size), *steps]
    drawn = images(2, height, width)
    seen = ViewedImages(drawn, EvalView(size))
    torch.testing.assert_close(seen[1][0], v2.Compose(steps)(drawn[1][0]), atol=1e-5, rtol=0)


def test_batch_equals_its_images_one_by_one():
    seen = ViewedImages(images(), EvalView(32))
    pixels, labels = seen.__getitems__([4, 1])
    assert torch.equal(pixels[0], seen[4][0])
    assert labels.tolist() == [4, 1]


def test_new_labels_replace_old_ones():
    seen = ViewedImages(images(3), EvalView(32), torch.tensor([2, 0, 1]))
    assert [seen[index][1] for index in range(3)] == [2, 0, 1]


@pytest.mark.parametrize("reach", [0, 4])
def test_shift_moves_each_image_by_itself(reach):
    # each pixel says its own place, so a shifted image must be a window of the padded place map
    place = torch.arange(16 * 16, dtype=torch.float32).view(1, 1, 16, 16)
    padded = torch.nn.functional.pad(place, (reach,) * 4, mode="replicate")[0, 0]
    torch.manual_seed(0)
    moved = random_shift(place.expand(64, 1, 16, 16), reach)[:, 0]
    windows = {
        tuple(padded[top : top + 16, left : left + 16].flatten().tolist())
        for top in range(2 * reach + 1)
        for left in range(2 * reach + 1)
    }
    found = {tuple(image.flatten().tolist()) for image in moved}
    assert found <= windows
    assert len(found) > 20 or reach == 0


def test_flip_turns_about_half():
    batch = torch.arange(4.0).repeat(400, 1, 1, 1)
    torch.manual_seed(0)
    flipped = (random_flip_(batch)[:, 0, 0, 0] == 3).sum().item()
    assert 160 < flipped < 240
    assert torch.equal(random_flip_(batch).sort(3).values, torch.arange(4.0).expand(400, 1, 1, 4))


@pytest.mark.parametrize("augment", ["none", "shift", "crop", "crop_flip"])
def test_training_view_gives_what_models_expect(augment):
    seen = ViewedImages(images(4, 40, 36), TrainView(32, augment))
    pixels, _ = seen.__getitems__([0, 1, 2, 3])
    assert pixels.shape == (4, 3, 32, 32)
    assert pixels.dtype == torch.float32
    again, _ = seen.__getitems__([0, 1, 2, 3])
    assert torch.equal(pixels, again) == (augment == "none")


def test_last_batch_is_left_out_only_in_training():
    seen = ViewedImages(images(5), EvalView(32))
    assert [len(labels) for _, labels in batches(seen, 2, shuffle=True, num_workers=0)] == [2, 2]
    assert [len(labels) for _, labels in batches(seen, 2, shuffle=False, num_workers=0)] == [2, 2, 1]
    assert [len(labels) for _, labels in batches(seen, 9, shuffle=True, num_workers=0)] == [5]


def test_size_below_one_is_refused():
    with pytest.raises(InputError, match="`image_size` must be from 1 to 4096, got 0"):
        EvalView(0)


def test_a_crop_is_torchvisions():
    pixels = images(1, 60, 80)[0][0]
    torch.manual_seed(5)
    theirs = v2.RandomResizedCrop(32, antialias=True)(pixels)
    torch.manual_seed(5)
    assert torch.equal(TrainView(32, "crop").resize(pixels), theirs)
