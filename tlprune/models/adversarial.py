"""Projected gradient descent: the worst change of an image within a few steps of grey."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.preprocessing import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["PGD"]

_GREYS = 255


@dataclass(frozen=True)
class PGD:
    """Changes images within a distance, so that a classifier errs as much as a few steps can make it.

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (2017), section 2.1: begin at a random
    point of the ball, follow the sign of the gradient, and go back into ball and range after each step. Distances are
    those of pixels in [0, 1], whatever the images are normalised by.

    Args:
        epsilon: The most that a pixel of a channel changes, in 1/255, above 0.
        steps: Steps of the attack, at least 1.
        step_size: Length of a step in 1/255; None is twice ``epsilon`` over ``steps``.
        mean: That images are normalised by, for each channel, in [0, 1].
        std: Likewise, in (0, 1].

    Raises:
        InputError: A number is out of range.
    """

    epsilon: float = 3.0
    steps: int = 3
    step_size: float | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= _GREYS:
            raise InputError(f"`epsilon` must be in (0, 255], in 1/255, got {self.epsilon}")
        if self.steps < 1:
            raise InputError(f"`steps` must be at least 1, got {self.steps}")
        if self.step_size is not None and self.step_size <= 0:
            raise InputError(f"`step_size` must be above 0, in 1/255, got {self.step_size}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(0 <= one <= 1 for one in values) or (name == "std" and 0 in values):
                least = "(0" if name == "std" else "[0"
                raise InputError(f"`{name}` must be three numbers in {least}, 1], got {[*values]}")

    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Attacks a batch.

        Args:
            classifier: Gives logits ``[B, C]``; it is in eval mode while it is attacked, and neither its weights nor
                their gradients change.
            images: ``[B, 3, H, W]``, normalised by ``mean`` and ``std``.
            labels: ``[B]`` int64.
            generator: Draws where the attack begins, on the device of ``images``; None for torch's global one.

        Returns:
            The same shape and dtype: within ``epsilon`` of ``images``, and within [0, 1] as pixels.
        """
        epsilon = self.epsilon / _GREYS
        step = (2 * self.epsilon / self.steps if self.step_size is None else self.step_size) / _GREYS
        # a batch that was made in inference mode takes no gradient; its copy does
        with torch.inference_mode(False), torch.enable_grad(), _in_eval_mode(classifier):
            images, labels = images.clone(), labels.clone()
            mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
            pixels = (images * std + mean).clamp_(0, 1)
            lowest, highest = (pixels - epsilon).clamp_(min=0), (pixels + epsilon).clamp_(max=1)
            changed = (
                torch.empty_like(pixels).uniform_(-epsilon, epsilon, generator=generator).add_(pixels).clamp_(0, 1)
            )
            for _ in range(self.steps):
                changed.requires_grad_(True)
                # a sum, not a mean: small gradients of large batches would vanish in half precision
                loss = F.cross_entropy(classifier((changed - mean) / std), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, changed)
                changed = (changed.detach() + step * gradient.sign()).clamp_(lowest, highest)
            return ((changed - mean) / std).detach()


@contextmanager
def _in_eval_mode(classifier: nn.Module) -> Iterator[None]:
    """Batch statistics of changed images must not reach the network's; each part goes back to the mode it was in."""
    modes = [(module, module.training) for module in classifier.modules()]
    classifier.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
