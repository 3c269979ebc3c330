"""EL2N and GraNd: keep the images that are hardest for the surrogate.

Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021. The methods
are designed for a single dataset and ignore the target, so they serve as controls here. Scores are computed in eval
mode, so that an image's score does not depend on its batch, and averaged over surrogates of several seeds.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tlprune.distributed import raise_on_all_ranks, rank_and_world
from tlprune.errors import InputError, require_within
from tlprune.progress import show_progress
from tlprune.selection.baselines import SourceOnlySelector
from tlprune.selection.fixed_batches import BATCH_SIZE, fixed_batches, named_samples, own_batches
from tlprune.selection.forward import FORWARD, device_of, evaluating, running
from tlprune.selection.selection import Selection
from tlprune.selection.selector import SourceImages, TargetImages

__all__ = ["EL2N", "GraNd", "by_score"]

Scoring = Callable[[Tensor, Tensor], Tensor]
"""Function that scores images ``[b, 3, H, W]`` with labels ``[b]``: returns ``[b]``, higher is harder."""

_GRADIENTS_AT_A_TIME = 8


class _Difficulty(SourceOnlySelector):
    needs = ("labels", "classifier")
    several_surrogates = True

    def __init__(self, unit: Literal["class", "sample"], num_workers: int) -> None:
        super().__init__(unit)
        require_within("num_workers", num_workers, 0)
        self.num_workers = num_workers

    @property
    def options(self) -> dict[str, Any]:
        """Kind of unit that is ranked, and the batches and precision that scores are computed in."""
        return {**super().options, "batch_size": BATCH_SIZE, "precision": "float32", "forward": FORWARD}

    @abstractmethod
    def scoring(self, classifier: nn.Module) -> AbstractContextManager[Scoring]:
        """Returns the scoring function of a classifier with a ``backbone`` and a ``head``."""

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Ranks by the mean score over surrogates, hardest first.

        Raises:
            InputError: If a score is not finite; the images are named.
        """
        if not isinstance(surrogate, nn.ModuleList):
            raise InputError(f"{type(self).__name__} needs surrogates")
        begin = time.perf_counter()
        scores = torch.stack([self._scores(one, source) for one in surrogate]).mean(0)
        ranking, scores = by_score(scores, source, self.unit)
        return self._ordered(source, ranking, scores, time.perf_counter() - begin)

    def _scores(self, classifier: nn.Module, source: SourceImages) -> Tensor:
        """Returns float64 scores ``[N]``; ranks share the batches, and all get the same result."""
        scores = raise_on_all_ranks(lambda: self._own_scores(classifier, source))
        if rank_and_world()[1] > 1:
            scores = scores.to(device_of(classifier))
            dist.all_reduce(scores, dist.ReduceOp.MAX)
        return scores.cpu()

    def _own_scores(self, classifier: nn.Module, source: SourceImages) -> Tensor:
        """Returns float64 scores ``[N]``, minus infinity for images of other ranks."""
        scores = torch.full((len(source),), -torch.inf, dtype=torch.float64)
        device = device_of(classifier)
        batches = own_batches(len(source))
        with self.scoring(classifier) as score, show_progress("scores", sum(map(len, batches))) as advance:
            for indices, pixels, labels in fixed_batches(source, batches, self.num_workers, device):
                advance(len(indices))
                padded = F.pad(labels, (0, len(pixels) - len(labels)))
                found = score(pixels, padded.to(device))[: len(indices)].cpu()
                bad = indices[~found.isfinite()]
                if len(bad):
                    named = named_samples(source, bad)
                    raise InputError(f"the surrogate gives NaN or infinity for source images {named}")
                scores[indices] = found.double()
        return scores


class EL2N(_Difficulty):
    """Ranks images by the norm of the surrogate's error: its class probabilities minus the one-hot label.

    Pass several surrogates, each trained for a few epochs from its own seed, as in the paper.

    Args:
        unit: ``sample``, or ``class`` to rank classes by the mean over their images.
        num_workers: Number of processes that load images on each rank.

    Raises:
        InputError: If ``unit`` is neither.
    """

    method = "el2n"

    def __init__(self, unit: Literal["class", "sample"] = "sample", num_workers: int = 0) -> None:
        super().__init__(unit, num_workers)

    @contextmanager
    def scoring(self, classifier: nn.Module) -> Iterator[Scoring]:
        """Yields a function that computes the norm of ``softmax(logits) - onehot(label)``, in [0, sqrt 2]."""
        with running(classifier) as run:
            yield lambda pixels, labels: _error(run(pixels), labels).norm(dim=1)


class GraNd(_Difficulty):
    """Ranks images by the norm of the gradient of their cross entropy.

    Pass several surrogates, each trained for a few epochs from its own seed, as in the paper.

    Args:
        layers: ``all`` for the gradient with respect to every weight, as in the paper; ``head`` for the last layer
            only, which has a closed form and costs no more than a forward pass.
        unit: ``sample``, or ``class`` to rank classes by the mean over their images.
        num_workers: Number of processes that load images on each rank.

    Raises:
        InputError: If ``layers`` or ``unit`` is not one of its two values.
    """

    method = "grand"

    def __init__(
        self,
        layers: Literal["all", "head"] = "head",
        unit: Literal["class", "sample"] = "sample",
        num_workers: int = 0,
    ) -> None:
        super().__init__(unit, num_workers)
        if layers not in ("all", "head"):
            raise InputError(f"`layers` must be 'all' or 'head', got {layers!r}")
        self.layers = layers

    @property
    def options(self) -> dict[str, Any]:
        """Layers of the gradient, and the settings that all scores depend on."""
        return {"layers": self.layers, **super().options}

    @contextmanager
    def scoring(self, classifier: nn.Module) -> Iterator[Scoring]:
        """Yields a function that computes the Euclidean norm of each image's own gradient."""
        if self.layers == "all":
            with evaluating(classifier):
                yield lambda pixels, labels: _gradient_norms(classifier, pixels.to(labels.device), labels)
            return
        parts = (classifier.get_submodule(name) for name in ("backbone", "head"))
        with running(next(parts)) as backbone, running(next(parts)) as head:

            def score(pixels: Tensor, labels: Tensor) -> Tensor:
                features = backbone(pixels)
                # dL/dW = error x features, dL/db = error: the norm of an outer product is the product of the norms
                bias = torch.ones_like(features[:, :1])
                error = _error(head(features), labels)
                norms: Tensor = error.norm(dim=1) * torch.cat([features, bias], 1).norm(dim=1)
                return norms

            yield score


def _error(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.float().softmax(1) - F.one_hot(labels, logits.shape[1])


def _gradient_norms(classifier: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    weights = {name: value.detach() for name, value in classifier.named_parameters()}
    buffers = dict(classifier.named_buffers())

    def loss(given: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(classifier, (given, buffers), (image[None],))
        return F.cross_entropy(logits, label[None])

    gradients: Callable[..., dict[str, Tensor]] = vmap(grad(loss), (None, 0, 0))
    norms = []
    for start in range(0, len(pixels), _GRADIENTS_AT_A_TIME):
        part = slice(start, start + _GRADIENTS_AT_A_TIME)
        found = gradients(weights, pixels[part], labels[part])
        squares = [value.flatten(1).square().sum(1) for value in found.values()]
        norms.append(torch.stack(squares).sum(0).sqrt())
    return torch.cat(norms)


def by_score(scores: Tensor, source: SourceImages, unit: Literal["class", "sample"]) -> tuple[Tensor, Tensor]:
    """Ranks images, or classes by the mean of their images, highest score first, then by index.

    Args:
        scores: Float64 tensor ``[N]``.
        source: Source that the images belong to.
        unit: ``class`` or ``sample``.

    Returns:
        Ranking ``[U]`` int64, and the scores ``[U]`` of the units.
    """
    if unit == "class":
        sizes = source.labels.bincount(minlength=len(source.classes))
        sums = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, source.labels, scores)
        scores = sums / sizes.clamp(min=1)
    return scores.sort(descending=True, stable=True).indices, scores
