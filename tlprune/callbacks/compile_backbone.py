"""Compiles the backbone during training, or captures its work as CUDA graphs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tlprune.errors import InputError, OfLightning, did_you_mean

__all__ = ["CompileBackbone"]

_GRAPHS = "graphs"
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", _GRAPHS)
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class CompileBackbone(OfLightning, Callback):
    """Compiles ``backbone`` of the module in place when training begins, without a change to checkpoints.

    Compilation takes seconds to minutes for each image size, so it is worthwhile for long runs. ``graphs`` compiles
    nothing: it captures the forward and the backward pass as CUDA graphs in a second, after which a GPU starts each as
    one piece. That is worthwhile for small networks, of which a step takes longer to launch than to compute. It does
    nothing without a GPU.

    Args:
        mode: Mode of ``torch.compile``: ``default``, ``reduce-overhead``, ``max-autotune``; or ``graphs``, for
            training in one process on one view of each image, without accumulating gradients over batches.
        dynamic: Whether to compile once for all sizes; None lets torch decide.

    Raises:
        InputError: ``mode`` does not exist.
    """

    def __init__(self, mode: str = "default", dynamic: bool | None = None) -> None:
        if mode not in _MODES:
            raise InputError(f"unknown `mode` {mode!r}: {did_you_mean(mode, _MODES)}")
        self.mode = mode
        self.dynamic = dynamic
        self._captured: _Captured | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compiles the backbone.

        Raises:
            InputError: The module has no backbone, or graphs cannot be captured in such a training.
        """
        backbone = getattr(pl_module, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise InputError(f"CompileBackbone needs a module with a `backbone`, got {type(pl_module).__name__}")
        if self.mode != _GRAPHS:
            backbone.compile(mode=self.mode, dynamic=self.dynamic)
        elif trainer.world_size > 1:
            raise InputError(f"CompileBackbone: `mode: graphs` is for one process, got {trainer.world_size}")
        elif trainer.accumulate_grad_batches > 1:  # the graph of the next batch writes over the gradients of this one
            raise InputError(
                "CompileBackbone: `mode: graphs` does not add up gradients of several batches, got "
                f"accumulate_grad_batches: {trainer.accumulate_grad_batches}"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Captures graphs at the first batch, whose shape they keep.

        Raises:
            InputError: A batch holds several views of each image.
        """
        if self.mode != _GRAPHS or not _on_gpu(trainer):
            return
        if self._captured is None:
            images = batch[0] if isinstance(batch, (tuple, list)) else batch
            if not isinstance(images, Tensor):
                raise InputError("CompileBackbone: `mode: graphs` takes one view of each image, got several")
            with _as_in(trainer):
                self._captured = _Captured(cast(nn.Module, pl_module.backbone), images)
        self._captured.is_free = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes captured graphs."""
        if self._captured is not None:
            self._captured.remove()
            self._captured = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes captured graphs."""
        self.on_fit_end(trainer, pl_module)


class _Captured:
    """A backbone whose forward pass in training is replayed from CUDA graphs, once in each training step.

    A second call in a step, other shapes, and evaluation run as without graphs, since graphs have one memory for what
    they compute.

    Args:
        network: The backbone, on a GPU.
        images: Batch whose shape and type graphs take.

    Attributes:
        is_free: Whether the graphs may be replayed: whether the step has not done so yet.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.network = network
        self.like = torch.zeros_like(images)
        self.is_free = False
        self._plain: Callable[[Tensor], Tensor] = network.forward
        training = network.training
        network.train()
        self._graphs = _graphs_of(network, self.like)
        network.train(training)
        network.forward = self._forward

    def _forward(self, images: Tensor) -> Tensor:
        fits = images.shape == self.like.shape and images.dtype == self.like.dtype and not images.requires_grad
        if not (fits and self.is_free and self.network.training and torch.is_grad_enabled()):
            return self._plain(images)
        self.is_free = False
        return self._graphs(images).clone()  # the next step writes where the graph left it

    def remove(self) -> None:
        """Gives the backbone its own forward pass back."""
        del self.network.forward


def _graphs_of(network: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Captures forward and backward pass; statistics and random numbers are as before."""
    before = [buffer.clone() for buffer in network.buffers()]
    drawn = torch.cuda.get_rng_state(images.device)
    # a function in place of the module, whose forward pass would be replaced by one that checks no shape
    graphs = cast("Callable[[Tensor], Tensor]", torch.cuda.make_graphed_callables(_Alone(network), (images,)))
    for buffer, values in zip(network.buffers(), before, strict=True):
        buffer.copy_(values)
    torch.cuda.set_rng_state(drawn, images.device)
    return graphs


class _Alone(nn.Module):
    """The same network as a module of its own, for which graphs are made."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features


def _on_gpu(trainer: Trainer) -> bool:
    return trainer.strategy.root_device.type == "cuda"


def _as_in(trainer: Trainer) -> AbstractContextManager[Any]:
    """Returns the Trainer's precision for a forward pass, without a cache, which graphs must not read from."""
    mixed = _MIXED.get(str(trainer.precision))
    return nullcontext() if mixed is None else torch.autocast("cuda", mixed, cache_enabled=False)
