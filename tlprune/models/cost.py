"""Measures the training time of a network on this machine."""

import time
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from tlprune.errors import InputError, require_within
from tlprune.models.backbones import Classifier, create_backbone

__all__ = ["training_seconds_per_image"]


_STEPS = 4
"""Timed steps, after one to warm up."""


def training_seconds_per_image(backbone: str, image_size: int, batch_size: int, num_classes: int) -> float:
    """Times training steps (forward, backward and SGD) on random images, without data loading; takes their median.

    Args:
        backbone: Name of the network.
        image_size: Height and width in pixels.
        batch_size: Number of images per step.
        num_classes: Number of outputs of the head.

    Returns:
        Seconds per image, on the first GPU if there is one.

    Raises:
        InputError: There is no such network, or it cannot be trained on images of this size.
    """
    require_within("batch_size", batch_size, 1)
    require_within("image_size", image_size, 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = Classifier(create_backbone(backbone), num_classes).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch_size, 3, image_size, image_size, device=device)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
    taken = []
    for _ in range(_STEPS + 1):
        begin = time.perf_counter()
        try:
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            what = f"batches of {batch_size} images of {image_size} pixels"
            raise InputError(f"{backbone} cannot be trained on {what}: {reason}") from error
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return median(taken[1:]) / batch_size
