"""Weights in and out of files, without executing anything, every key accounted for.

Two layouts are read: a safetensors file that :func:`save_classifier` wrote, and a Lightning checkpoint whose module
holds its network as ``backbone`` and ``head``. Both are local files: a URL is refused.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.models.backbones import Backbone, Classifier, create_backbone

__all__ = ["SavedWeights", "load_backbone", "load_classifier", "read_checkpoint", "read_weights", "save_classifier"]


@dataclass(frozen=True)
class SavedWeights:
    """What a weights file holds.

    Args:
        path: Where it was read from.
        backbone: Name of the network, if the file says so.
        state: Tensors under ``backbone.*`` and, with a head, ``head.*``.
        classes: Class names that the head's outputs stand for; empty if the file does not say.
        seconds: Time that training took; None if the file does not say.
    """

    path: Path
    backbone: str | None
    state: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def num_classes(self) -> int | None:
        """Outputs of the head; None without one."""
        head = self.state.get("head.weight")
        return None if head is None else int(head.shape[0])


def save_classifier(
    path: str | os.PathLike[str],
    backbone: str,
    network: Backbone,
    head: nn.Linear | None,
    classes: Sequence[str] = (),
    seconds: float | None = None,
) -> None:
    """Writes a backbone and its head to one safetensors file.

    The caller sees to it that the file takes its name only when it is whole.

    Args:
        path: The file to write.
        backbone: Name that :func:`tlprune.models.backbones.create_backbone` takes.
        network: The backbone.
        head: Its classification layer, if it shall be kept.
        classes: What the head's outputs stand for, in order.
        seconds: Time that training took.
    """
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    if head is not None:
        state |= {f"head.{key}": value for key, value in head.state_dict().items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    metadata = {"tlprune": "weights", "backbone": backbone, "classes": json.dumps(list(classes))}
    if seconds is not None:
        metadata["seconds"] = repr(seconds)
    save_file(tensors, path, metadata)


def read_weights(path: str | os.PathLike[str]) -> SavedWeights:
    """Reads a weights file.

    Args:
        path: A safetensors file of tlprune, or a Lightning checkpoint.

    Returns:
        The tensors under ``backbone.*`` and ``head.*``. Prefixes that compiling or DDP leave are stripped.

    Raises:
        InputError: The file is missing, damaged, a URL, or holds no network called ``backbone``.
    """
    if "://" in str(path):
        raise InputError(f"{path}: weights are read from local files only; download the file first")
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such weights file")
    saved = _read_safetensors(file) if file.suffix == ".safetensors" else _read_checkpoint(file)
    if not any(key.startswith("backbone.") for key in saved.state):
        found = ", ".join(sorted(saved.state)[:3]) or "nothing"
        raise InputError(f"{path}: no weights under 'backbone.' (it holds {found}, ...), so not a model of this kind")
    return saved


def load_backbone(path: str | os.PathLike[str], backbone: str | None = None) -> Backbone:
    """Builds a backbone and gives it the weights of a file; a head in the file is left aside.

    Args:
        path: As :func:`read_weights`.
        backbone: Name of the network; None takes the one that the file names.

    Returns:
        The network, on the CPU.

    Raises:
        InputError: As :func:`read_weights`, or the weights are those of another network.
    """
    saved = read_weights(path)
    network = create_backbone(_name(saved, backbone))
    _load_all(network, saved, "backbone.")
    return network


def load_classifier(path: str | os.PathLike[str], backbone: str | None = None) -> tuple[Classifier, SavedWeights]:
    """Builds a backbone with its head and gives both the weights of a file.

    Args:
        path: As :func:`read_weights`.
        backbone: Name of the network; None takes the one that the file names.

    Returns:
        The classifier, on the CPU, and what the file says of it.

    Raises:
        InputError: As :func:`read_weights`, or there is no head, or the weights are those of another network.
    """
    saved = read_weights(path)
    if saved.num_classes is None:
        raise InputError(f"{path}: holds a backbone without a head, so it cannot name a class")
    classifier = Classifier(create_backbone(_name(saved, backbone)), saved.num_classes)
    _load_all(classifier.backbone, saved, "backbone.")
    _load_all(classifier.head, saved, "head.")
    return classifier, saved


def _name(saved: SavedWeights, backbone: str | None) -> str:
    name = backbone or saved.backbone
    if name is None:
        raise InputError(f"{saved.path}: does not say which network it holds; give the backbone's name beside it")
    return name


def _load_all(module: nn.Module, saved: SavedWeights, prefix: str) -> None:
    given = {key.removeprefix(prefix): value for key, value in saved.state.items() if key.startswith(prefix)}
    wanted = module.state_dict()
    missing, left_over = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    other = [key for key in sorted(wanted.keys() & given.keys()) if wanted[key].shape != given[key].shape]
    if missing or left_over or other:
        details = [_listed("missing", missing), _listed("left over", left_over)]
        details += [_listed("of another shape", other)]
        raise InputError(f"{saved.path}: weights of another network: {'; '.join(filter(None, details))}")
    module.load_state_dict(given)


def _listed(what: str, keys: list[str]) -> str:
    return f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""


def _read_safetensors(path: Path) -> SavedWeights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        classes = tuple(map(str, _list(json.loads(metadata.get("classes", "[]")))))
        seconds = float(metadata["seconds"]) if "seconds" in metadata else None
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ValueError(f"training took {seconds} seconds")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged or no safetensors file ({error})") from error
    return SavedWeights(path, metadata.get("backbone"), state, classes, seconds)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("class names are no list")
    return value


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a Lightning checkpoint without executing anything.

    Args:
        path: The file.

    Returns:
        Its content; ``state_dict`` is a dictionary.

    Raises:
        InputError: The file is damaged, holds more than tensors and plain values, or is no Lightning checkpoint.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: damaged, or holds more than tensors and is not loaded ({reason[:120]})") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise InputError(f"{path}: not a Lightning checkpoint (no 'state_dict' in it)")
    return content


def _read_checkpoint(path: Path) -> SavedWeights:
    content = read_checkpoint(path)
    hyper_parameters = content.get("hyper_parameters")
    named = hyper_parameters.get("backbone") if isinstance(hyper_parameters, dict) else None
    state = {_plain(key): value for key, value in content["state_dict"].items() if isinstance(value, Tensor)}
    classes = content.get("classes")
    labels = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
    return SavedWeights(path, named if isinstance(named, str) else None, state, labels)


def _plain(key: str) -> str:
    return key.replace("_orig_mod.", "").removeprefix("module.")
