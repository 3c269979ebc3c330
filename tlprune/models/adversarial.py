"""Projected gradient descent (PGD), an adversarial attack with small pixel changes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from tlprune.errors import InputError, require_within
from tlprune.preprocessing import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["PGD"]

_GREYS = 255


@dataclass(frozen=True)
class PGD:
    """Attack that maximises the loss of a classifier within a maximum pixel distance in a few gradient steps.

    Follows Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (2017), section 2.1: starts at
    a random point of the ball, follows the sign of the gradient, and projects to ball and pixel range after each step.
    Distances refer to pixels in [0, 1], independent of the normalisation of the images.

    Args:
        epsilon: Largest change of a pixel in one channel, in 1/255, above 0.
        steps: Number of steps of the attack, at least 1.
        step_size: Size of a step in 1/255; None for ``2 * epsilon / steps``.
        mean: Mean of each channel that images are normalised with, in [0, 1].
        std: Standard deviation of each channel that images are normalised with, in (0, 1].

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
        require_within("steps", self.steps, 1)
        if self.step_size is not None and self.step_size <= 0:
            raise InputError(f"`step_size` must be above 0, in 1/255, got {self.step_size}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(0 <= value <= 1 for value in values) or (name == "std" and 0 in values):
                least = "(0" if name == "std" else "[0"
                raise InputError(f"`{name}` must be three numbers in {least}, 1], got {[*values]}")

    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Attacks a batch.

        Args:
            classifier: Network with logits ``[B, C]``. It is in eval mode during the attack; its weights and their
                gradients do not change.
            images: Images normalised with ``mean`` and ``std``, ``[B, 3, H, W]``.
            labels: Labels, ``[B]`` int64, or probabilities ``[B, C]``.
            generator: Generator of the random start, on the device of ``images``; None for the global one of torch.

        Returns:
            Images of the same shape and dtype, within ``epsilon`` of ``images`` and within [0, 1] as pixels.
        """
        epsilon = self.epsilon / _GREYS
        step = (2 * self.epsilon / self.steps if self.step_size is None else self.step_size) / _GREYS
        # a batch created in inference mode cannot have a gradient, but its copy can
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
                # sum, not mean: the small gradients of large batches would underflow in half precision
                loss = F.cross_entropy(classifier((changed - mean) / std), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, changed)
                changed = (changed.detach() + step * gradient.sign()).clamp_(lowest, highest)
            return ((changed - mean) / std).detach()


@contextmanager
def _in_eval_mode(classifier: nn.Module) -> Iterator[None]:
    """Switches to eval mode, so that attacked images do not change batch statistics, and restores every mode after."""
    modes = [(module, module.training) for module in classifier.modules()]
    classifier.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
