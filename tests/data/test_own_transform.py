import random

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import ToTensor, v2
from torchvision.transforms.v2 import functional

from tlprune.data.datasets import TensorImages
from tlprune.data.loaders import batches
from tlprune.data.own_transform import OwnTransform
from tlprune.data.transformed import TransformedDataset
from tlprune.errors import InputError
from tlprune.preprocessing import Preprocessing

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))


def images(count=6, height=40, width=36):
    pixels = torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()
    return TensorImages(pixels, torch.arange(count), [str(label) for label in range(count)])


def seen(change, drawn=None, size=32):
    return TransformedDataset(drawn or images(), OwnTransform(size, change, "transform", preprocessing=HALF))


def corner(pixels):
    return pixels[:, :32, :32]


def test_bytes_are_normalised_as_the_weights_expect_and_floats_are_left():
    drawn = images()
    by_hand = (drawn.pixels[:, :, :32, :32].numpy() / 255 - 0.5) / np.array([0.5, 0.25, 0.5]).reshape(3, 1, 1)
    batch, labels = seen(corner).__getitems__([4, 1])
    np.testing.assert_allclose(batch.numpy(), by_hand[[4, 1]], atol=1e-6)
    assert labels.tolist() == [4, 1]
    batch, _ = seen(lambda pixels: corner(pixels).double() / 255).__getitems__([4, 1])
    assert torch.equal(batch, (drawn.pixels[[4, 1], :, :32, :32].double() / 255).float())


def test_it_is_given_every_pixel_of_each_image_once():
    given = []

    def watch(pixels):
        given.append(pixels.clone())
        return corner(pixels)

    drawn = images(3, 50, 70)
    seen(watch, drawn).__getitems__([2, 0])
    assert len(given) == 2
    assert torch.equal(torch.stack(given), drawn.pixels[[2, 0]])


def test_images_of_the_right_size_are_transformed_too_and_may_be_changed_in_place():
    drawn = images(3, 32, 32)
    before = drawn.pixels.clone()
    batch, _ = seen(lambda pixels: pixels.zero_(), drawn).__getitems__([0, 1])
    assert torch.equal(batch[:, :, 0, 0], torch.tensor([[-1.0, -2.0, -1.0]] * 2))
    assert torch.equal(drawn.pixels, before)


def test_a_module_of_torchvision_gives_what_it_gives_alone():
    steps = v2.Compose([v2.RandomResizedCrop(32, antialias=True), v2.RandomHorizontalFlip(), v2.ToImage()])
    transform = OwnTransform(32, steps, "transform")
    for index in range(6):
        torch.manual_seed(index)
        one = transform.resize(images()[index][0])
        torch.manual_seed(index)
        assert torch.equal(one, steps(images()[index][0]))
        assert type(one) is torch.Tensor


def test_several_views_are_batches_of_their_own():
    views, labels = seen(lambda pixels: [corner(pixels), 255 - corner(pixels)]).__getitems__([0, 1, 2])
    assert [view.shape for view in views] == [(3, 3, 32, 32)] * 2
    assert torch.allclose(views[0], -views[1], atol=1e-6)
    assert labels.tolist() == [0, 1, 2]


def noise(pixels):
    """Draws each channel from another generator that a user may draw from."""
    drawn = [int(torch.randint(0, 200, ())), random.randrange(200), int(np.random.randint(200))]  # noqa: NPY002
    return torch.tensor(drawn).byte().view(3, 1, 1).expand(3, 32, 32)


def seed_all():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)


def draw_all():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_follow_the_seed_in_every_process_and_disturb_nobody(workers):
    seed_all()
    undisturbed = draw_all()
    seed_all()
    loader = batches(seen(noise), 2, shuffle=True, num_workers=workers, seed=5)
    epochs = torch.stack([torch.cat([batch[:, :, 0, 0] for batch, _ in loader]) for _ in range(2)])
    assert draw_all() == undisturbed
    assert [len(epochs[..., channel].unique()) > 9 for channel in range(3)] == [True] * 3  # of 12 draws
    again = batches(seen(noise), 2, shuffle=True, num_workers=0, seed=5)
    assert torch.equal(epochs[0], torch.cat([batch[:, :, 0, 0] for batch, _ in again]))


def test_draws_in_evaluation_disturb_nobody():
    seed_all()
    undisturbed = draw_all()
    seed_all()
    assert len(list(batches(seen(noise), 2, shuffle=False, num_workers=0))) == 3
    assert draw_all() == undisturbed


class Named(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, pixels):
        return self.made(pixels)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (functional.to_pil_image, r"3 x 32 x 32 \(`image_size`\), got a PIL image: end it with .*PILToTensor"),
        (lambda pixels: pixels.numpy(), "got ndarray"),
        (lambda pixels: corner(pixels)[:1], "got 1 x 32 x 32$"),
        (lambda pixels: pixels[:, :24, :24], "got 3 x 24 x 24: set `image_size` to 24"),
        (lambda pixels: pixels, "got 3 x 40 x 36$"),
        (lambda pixels: corner(pixels).float().mean(), "got a single number"),
        (lambda pixels: corner(pixels).long(), "got torch.int64"),
        (lambda pixels: [corner(pixels)], "a list of at least 2 views, got 1"),
        (lambda pixels: [corner(pixels), corner(pixels).float()], "one view in uint8 and another in floats"),
        (ToTensor(), r"failed on a uint8 tensor of 3 x 40 x 36: TypeError: .*ToPILImage if it needs PIL images"),
    ],
)
@pytest.mark.filterwarnings("ignore:The given")
def test_what_is_no_image_is_refused_in_one_line_with_the_name(made, message):
    with pytest.raises(InputError, match=rf"^`transform` \(Named\) .*{message}") as refused:
        seen(Named(made)).__getitems__([0])
    assert "\n" not in str(refused.value)


def test_images_of_a_batch_that_differ_are_refused_by_name():
    def sometimes(pixels):
        return corner(pixels) if int(pixels[0, 0, 0]) % 2 else corner(pixels).float()

    with pytest.raises(
        InputError, match=r"images of a batch alike: image 0 became torch.float32 \[3, 32, 32\], image 1"
    ):
        seen(sometimes).__getitems__(list(range(6)))


def test_a_failure_in_a_loading_process_is_one_line_too():
    loader = batches(seen(functional.to_pil_image), 2, shuffle=False, num_workers=1)
    with pytest.raises(InputError, match=r"^`transform` \(to_pil_image\) must give tensors .* got a PIL image"):
        list(loader)
