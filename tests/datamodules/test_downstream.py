import pytest
import torch
from torch import nn

from tlprune import DownstreamDataModule
from tlprune.errors import InputError


class Means(nn.Module):
    def forward(self, images):
        assert not torch.is_grad_enabled()
        return images.mean((2, 3))


def test_loaders_over_three_parts(target):
    data = DownstreamDataModule(target, batch_size=10)
    assert (data.num_classes, data.classes) == (4, target.classes)
    data.setup()
    sizes = [sum(len(labels) for _, labels in loader()) for loader in (data.val_dataloader, data.test_dataloader)]
    assert sizes == [20, 24]
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, labels.dtype) == ((10, 3, 32, 32), torch.int64)


def test_cached_features_take_the_place_of_images(target):
    data = DownstreamDataModule(target, batch_size=10)
    data.setup()
    before = {int(label): image for image, label in zip(*next(iter(data.val_dataloader())), strict=True)}
    assert data.cache_features(Means())
    features, labels = next(iter(data.val_dataloader()))
    assert features.shape == (10, 3)
    torch.testing.assert_close(features[-1], before[int(labels[-1])].mean((1, 2)))
    assert len(next(iter(data.train_dataloader()))[0]) == 10
    assert next(iter(data.test_dataloader()))[0].ndim == 4


def test_images_that_vary_are_not_cached(target):
    data = DownstreamDataModule(target, augment="shift")
    data.setup()
    assert not data.cache_features(Means())
    assert next(iter(data.train_dataloader()))[0].ndim == 4


def test_missing_test_part_is_named(class_folder, tmp_path):
    class_folder("pets/train", {"cat": 5, "dog": 5})
    data = DownstreamDataModule(str(tmp_path / "pets"), image_size=32)
    data.setup()
    with pytest.raises(InputError, match="target pets: no folder 'test' in it"):
        data.test_dataloader()


def test_bad_arguments_are_refused_at_once():
    with pytest.raises(InputError, match="unknown target 'photo': did you mean 'photos'"):
        DownstreamDataModule("photo")
    with pytest.raises(InputError, match="`batch_size` must be at least 1, got 0"):
        DownstreamDataModule(batch_size=0)
