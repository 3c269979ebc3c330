from functools import partial

import pytest
import torch
from torchvision import models
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tlprune.data.datasets import TensorImages
from tlprune.data.loaders import batches
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import MEAN, STD, EvalTransform, TrainTransform, random_flip_, random_shift
from tlprune.data.two_views import RECIPES, ContrastView
from tlprune.errors import InputError
from tlprune.models.published import timm_preprocessing, torchvision_preprocessing
from tlprune.preprocessing import Preprocessing


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
    seen = TransformedDataset(drawn, EvalTransform(size))
    torch.testing.assert_close(seen[1][0], v2.Compose(steps)(drawn[1][0]), atol=1e-5, rtol=0)


def test_batch_equals_its_images_one_by_one():
    seen = TransformedDataset(images(), EvalTransform(32))
    pixels, labels = seen.__getitems__([4, 1])
    assert torch.equal(pixels[0], seen[4][0])
    assert labels.tolist() == [4, 1]


def test_new_labels_replace_old_ones():
    seen = TransformedDataset(images(3), EvalTransform(32), torch.tensor([2, 0, 1]))
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
    seen = TransformedDataset(images(4, 40, 36), TrainTransform(32, augment))
    pixels, _ = seen.__getitems__([0, 1, 2, 3])
    assert pixels.shape == (4, 3, 32, 32)
    assert pixels.dtype == torch.float32
    again, _ = seen.__getitems__([0, 1, 2, 3])
    assert torch.equal(pixels, again) == (augment == "none")


def test_last_batch_is_left_out_only_in_training():
    seen = TransformedDataset(images(5), EvalTransform(32))
    assert [len(labels) for _, labels in batches(seen, 2, shuffle=True, num_workers=0)] == [2, 2]
    assert [len(labels) for _, labels in batches(seen, 2, shuffle=False, num_workers=0)] == [2, 2, 1]
    assert [len(labels) for _, labels in batches(seen, 9, shuffle=True, num_workers=0)] == [5]


def test_size_below_one_is_refused():
    with pytest.raises(InputError, match="`image_size` must be from 1 to 4096, got 0"):
        EvalTransform(0)


def test_a_crop_is_torchvisions():
    pixels = images(1, 60, 80)[0][0]
    torch.manual_seed(5)
    theirs = v2.RandomResizedCrop(32, antialias=True)(pixels)
    torch.manual_seed(5)
    assert torch.equal(TrainTransform(32, "crop").resize(pixels), theirs)


PHOTOGRAPHS = [(300, 260), (180, 331), (700, 525)]
"""Heights and widths: larger and smaller than what models see."""


def photograph(height, width):
    """Smooth shapes with sharp edges and noise."""
    rows, columns = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 7, width), indexing="ij")
    waves = torch.stack([rows.sin() * columns.cos(), (rows * columns).sin(), (rows + columns).cos()])
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height))
    edges = (rows.floor() + columns.floor()) % 2
    return ((waves * 0.3 + 0.3 + 0.2 * edges + 0.2 * noise).clamp(0, 1) * 255).byte()


def check_as_pillow(seen, theirs, std):
    """Both resize rows, then columns; Pillow rounds its weights otherwise, and torch's plain kernels round once."""
    away = (seen - theirs).abs() * torch.tensor(std).view(3, 1, 1) * 255
    assert away.max() < 2.01
    assert (away > 1.01).float().mean() < 1e-3
    assert away.mean() < 0.3


def seen_at_its_size(pixels, said):
    assert said.image_size is not None
    view = EvalTransform(said.image_size, said)
    return view.normalize_batch(view.resize(pixels)[None])[0]


@pytest.mark.parametrize(
    "weights",
    [
        models.ResNet18_Weights.IMAGENET1K_V1,
        models.ResNet50_Weights.IMAGENET1K_V2,
        models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1,
        models.ViT_B_16_Weights.IMAGENET1K_SWAG_LINEAR_V1,
        models.ViT_L_16_Weights.IMAGENET1K_V1,
        models.ViT_L_16_Weights.IMAGENET1K_SWAG_E2E_V1,
    ],
)
def test_torchvisions_weights_see_what_torchvision_shows_them(weights):
    said = torchvision_preprocessing(weights)
    for height, width in PHOTOGRAPHS:
        pixels = photograph(height, width)
        theirs = weights.transforms()(functional.to_pil_image(pixels))
        check_as_pillow(seen_at_its_size(pixels, said), theirs, said.std)


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224.augreg_in21k_ft_in1k",
        "vit_small_patch14_dinov2.lvd142m",
        "vit_base_patch16_clip_224.openai",
        "vit_base_patch16_siglip_224.webli",
        "tf_efficientnet_lite0.in1k",
        "convnext_tiny.fb_in1k",
        "resnet50.a1_in1k",
        "inception_v3.tv_in1k",
        "volo_d4_448.sail_in1k",
    ],
)
def test_timms_weights_see_what_timm_shows_them(name):
    timm = pytest.importorskip("timm")
    from timm.data import create_transform, resolve_data_config

    config = timm.get_pretrained_cfg(name).to_dict()
    said = timm_preprocessing(f"timm:{name}", config)
    theirs = create_transform(**resolve_data_config(pretrained_cfg=config), is_training=False)
    for height, width in PHOTOGRAPHS:
        pixels = photograph(height, width)
        check_as_pillow(seen_at_its_size(pixels, said), theirs(functional.to_pil_image(pixels)), said.std)


HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5), 24, 0.9, "bicubic")


@pytest.mark.parametrize(
    "make",
    [
        EvalTransform,
        partial(TrainTransform, augment="crop_flip"),
        partial(TrainTransform, augment="shift"),
        partial(ContrastView, recipe=RECIPES["simclr"]),
    ],
)
def test_every_view_normalises_as_the_weights_expect_at_every_size(make):
    black = TensorImages(torch.zeros(2, 3, 40, 40, dtype=torch.uint8), torch.zeros(2), ["a"])
    for view in (make(32, preprocessing=HALF), make(24, preprocessing=HALF).at_size(32)):
        seen = TransformedDataset(black, view).__getitems__([0, 1])[0]
        for batch in seen if isinstance(seen, list) else [seen]:
            assert torch.equal(batch[0, :, 0, 0], torch.tensor([-1.0, -2.0, -1.0]))


def test_training_crops_follow_the_interpolation():
    pixels = images(1, 60, 80)[0][0]
    torch.manual_seed(5)
    theirs = v2.RandomResizedCrop(32, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)(pixels)
    torch.manual_seed(5)
    assert torch.equal(TrainTransform(32, "crop", HALF).resize(pixels), theirs)


def test_a_view_says_how_it_differs_from_imagenets_and_nothing_else():
    drawn = images()
    usual = {"view": "EvalView", "image_size": 32}
    assert TransformedDataset(drawn, EvalTransform(32)).transform_config == usual
    assert TransformedDataset(drawn, EvalTransform(32, Preprocessing(MEAN, STD, 224, 0.875))).transform_config == usual
    differs = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5], "crop_share": 0.9, "interpolation": "bicubic"}
    assert TransformedDataset(drawn, EvalTransform(32, HALF)).transform_config == usual | differs
