"""Compiles the backbone during training, or captures its work as CUDA graphs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from tlprune.errors import InputError, OfLightning, did_you_mean

__all__ = ["CompileBackbone"]

_GRAPHS = "graphs"
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", _GRAPHS)
_BUILT_IN = ("training", "momentum", "track_running_stats", "p")
"""Attributes of layers that a graph keeps as they were when it was captured."""

_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class CompileBackbone(OfLightning, Callback):
    """Compiles ``backbone`` of the module in place when training begins, without a change to checkpoints.

    Compilation takes seconds to minutes for each image size, so it is worthwhile for long runs. ``graphs`` compiles
    nothing: it captures the forward and the backward pass as CUDA graphs in a second, after which a GPU starts each as
    one piece. That is worthwhile for small networks, of which a step takes longer to launch than to compute. It does
    nothing without a GPU.

    Graphs are captured again at the first batch of an epoch if parameters were frozen or unfrozen, or tensors or modes
    of layers replaced. Steps that do not fit the graphs run as without them: other image sizes, a backbone in
    evaluation, batch norms that average over all batches (without ``momentum``). Hooks on layers within the backbone
    are called while graphs are captured, and not in later steps.

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
        elif (most := _most_added_up(trainer)) > 1:  # the graph of the next batch writes over the gradients of this one
            raise InputError(
                "CompileBackbone: `mode: graphs` does not add up gradients of several batches, got "
                f"accumulate_grad_batches: {most}"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Captures graphs at the first batch, whose shape they keep, and of later epochs if the backbone has changed.

        Raises:
            InputError: A batch does not begin with one view of each image.
        """
        if self.mode != _GRAPHS or not _on_gpu(trainer):
            return
        if self._captured is not None and batch_idx == 0 and not self._captured.is_current:
            self._remove()
        backbone = cast(nn.Module, pl_module.backbone)
        if self._captured is None and _can_be_captured(backbone):
            images = batch[0] if isinstance(batch, (tuple, list)) else batch
            if not isinstance(images, Tensor):
                got = "several" if isinstance(images, (tuple, list)) else f"a batch of type {type(images).__name__}"
                raise InputError(f"CompileBackbone: `mode: graphs` takes one view of each image, got {got}")
            with _as_in(trainer):
                self._captured = _Captured(backbone, images)
        if self._captured is not None:
            self._captured.is_free = True

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Checks that no gradients are added to those of a graph, which writes over them.

        Raises:
            InputError: The module keeps gradients from step to step.
        """
        captured = self._captured
        if captured is not None and not captured.is_free and captured.has_gradients:
            raise InputError(
                "CompileBackbone: `mode: graphs` needs gradients that are None before each backward pass, as "
                f"`zero_grad(set_to_none=True)` leaves them; {type(pl_module).__name__} adds to those that are there"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes captured graphs."""
        self._remove()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes captured graphs."""
        self._remove()

    def _remove(self) -> None:
        if self._captured is not None:
            self._captured.remove()
            self._captured = None


class _Captured:
    """A backbone whose forward pass in training is replayed from CUDA graphs, once in each training step.

    A second call in a step, other shapes, evaluation, and a backbone of which something was replaced run as without
    graphs, since graphs have one memory for what they read and compute. It takes the place of ``network.forward``;
    copies of the network, and the network in a file, have their own forward pass.

    Args:
        network: The backbone, on a GPU and in training.
        images: Batch whose shape and type graphs take.

    Attributes:
        is_free: Whether the graphs may be replayed: whether the step has not done so yet.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.network = network
        self.like = torch.zeros_like(images)
        self.is_free = False
        self._plain: Callable[[Tensor], Tensor] = network.forward
        self._layers = [(vars(layer), [vars(layer).get(name) for name in _BUILT_IN]) for layer in network.modules()]
        self._tensors = [
            (store, name, tensor, tensor.data_ptr(), tensor.requires_grad)
            for layer in network.modules()
            for store in (layer._parameters, layer._buffers)
            for name, tensor in store.items()
            if tensor is not None
        ]
        self._graphs = _graphs_of(network, self.like)
        network.forward = self

    def __call__(self, images: Tensor) -> Tensor:
        fits = images.shape == self.like.shape and images.dtype == self.like.dtype and not images.requires_grad
        if not (fits and self.is_free and torch.is_grad_enabled() and self.is_current):
            return self._plain(images)
        self.is_free = False
        found: Tensor = tree_map_only(Tensor, Tensor.clone, self._graphs(images))
        return found  # copied, as the next step writes where the graph left it

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.network, "forward")  # of a copy that is being made, in which nothing is replaced yet

    @property
    def is_current(self) -> bool:
        """Whether the network reads and writes the same tensors, in the same way, as when it was captured."""
        return all(
            store.get(name) is tensor and tensor.data_ptr() == place and tensor.requires_grad == learns
            for store, name, tensor, place, learns in self._tensors
        ) and all([known.get(name) for name in _BUILT_IN] == values for known, values in self._layers)

    @property
    def has_gradients(self) -> bool:
        """Whether a parameter of the network has a gradient."""
        return any(tensor.grad is not None for _, _, tensor, _, learns in self._tensors if learns)

    def remove(self) -> None:
        """Gives the backbone its own forward pass back."""
        del self.network.forward


def _can_be_captured(network: nn.Module) -> bool:
    """Returns whether the network trains, and computes nothing that a GPU must tell the CPU."""
    return network.training and not any(
        isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats and layer.momentum is None
        for layer in network.modules()
    )


def _most_added_up(trainer: Trainer) -> int:
    """Returns the largest number of batches whose gradients the Trainer adds up."""
    schedules = [one.scheduling for one in trainer.callbacks if isinstance(one, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
    return max(trainer.accumulate_grad_batches, *(count for one in schedules for count in one.values()), 1)


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
