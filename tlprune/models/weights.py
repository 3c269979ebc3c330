"""Reads and writes weights without executing code, and accounts for every key.

Supported are safetensors files, of :func:`save_classifier` and of other libraries; checkpoints of Lightning and plain
torch in the layouts of :mod:`tlprune.models.layouts`; and published weights of torchvision and timm, by name. URLs are
rejected.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from warnings import warn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.models.backbones import Backbone, Classifier, create_backbone, list_backbones, recognise_backbone
from tlprune.models.layouts import recognise
from tlprune.models.published import check_published, is_published, read_published
from tlprune.preprocessing import Preprocessing
from tlprune.storage.checkpoints import load_torch
from tlprune.storage.fingerprint import digest_json, digest_tensors
from tlprune.storage.paths import user_path

__all__ = [
    "SavedWeights",
    "check_weights",
    "load_backbone",
    "load_classifier",
    "name_of",
    "read_weights",
    "save_classifier",
]


Value = TypeVar("Value")

_FORMAT = "weights, with checksum"


@dataclass(frozen=True)
class SavedWeights:
    """Content of a weights file.

    Args:
        path: Path of the file.
        backbone: Name of the network, from the file or recognised by its weights; None if unknown.
        state: Tensors under ``backbone.*`` and, with a head, ``head.*``.
        classes: Class names of the outputs of the head; empty if not in the file.
        seconds: Training time in seconds; None if not in the file.
        preprocessing: Preprocessing that the weights expect, as far as it is in the file.
        left_out: Keys of the file that are in no entry of ``state``, sorted: parts needed only in pretraining.
        is_named: Whether the file names its network; otherwise ``backbone`` was recognised by the weights.
    """

    path: Path
    backbone: str | None
    state: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()
    seconds: float | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    left_out: tuple[str, ...] = ()
    is_named: bool = True

    @property
    def num_classes(self) -> int | None:
        """Number of outputs of the head; None without a head."""
        head = self.state.get("head.weight")
        return None if head is None else int(head.shape[0])


def save_classifier(
    path: str | os.PathLike[str],
    backbone: str | None,
    network: nn.Module,
    head: nn.Linear | None,
    classes: Sequence[str] = (),
    seconds: float | None = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Writes a backbone and its head to one safetensors file.

    The caller is responsible for an atomic write.

    Args:
        path: Path of the file to write.
        backbone: Name for :func:`tlprune.models.backbones.create_backbone`; None if the network has none.
        network: The backbone, or a plain network with features as output. Keys are those of the plain network, under
            ``backbone.network.``.
        head: Classification layer; None to leave it out.
        classes: Class names of the outputs of the head, in order.
        seconds: Training time in seconds.
        preprocessing: Preprocessing that the weights expect; None for the usual ImageNet evaluation.
    """
    prefix = "backbone." if isinstance(network, Backbone) else "backbone.network."
    state = {prefix + key.replace("_orig_mod.", ""): value for key, value in network.state_dict().items()}
    if head is not None:
        state |= {f"head.{key}": value for key, value in head.state_dict().items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    metadata = {"tlprune": _FORMAT, "classes": json.dumps(list(classes))}
    if backbone is not None:
        metadata["backbone"] = backbone
    if seconds is not None:
        metadata["seconds"] = repr(seconds)
    if preprocessing is not None and (expected := preprocessing.as_json()):
        metadata["preprocessing"] = json.dumps(expected)
    metadata["checksum"] = _checksum(tensors, metadata)
    save_file(tensors, path, metadata)


def name_of(network: nn.Module) -> str | None:
    """Returns the name of a plain network with features as output, from its weights or the configuration by timm.

    Returns:
        Name for :func:`tlprune.models.backbones.create_backbone`; None if no network there has such weights.
    """
    renamed, _ = recognise({f"backbone.{key}": value for key, value in network.state_dict().items()})
    shapes = {key: value.shape for key, value in _within(renamed, "backbone.").items()}
    if (named := recognise_backbone(shapes)) is not None:
        return named
    config = getattr(getattr(network, "_orig_mod", network), "pretrained_cfg", None)
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if architecture is None:
        return None
    with torch.device("meta"):
        same = create_backbone(f"timm:{architecture}").state_dict()
    return f"timm:{architecture}" if shapes == {key: value.shape for key, value in same.items()} else None


def check_weights(path: str | os.PathLike[str], what: str = "weights") -> None:
    """Checks that weights exist, without reading them.

    Args:
        path: Path or name of the weights, as in :func:`read_weights`.
        what: Name of the weights in messages.

    Raises:
        InputError: There is no such file, there are no such published weights, or ``path`` is a URL.
    """
    if is_published(str(path)):
        check_published(str(path))
    elif "://" in str(path):
        raise InputError(f"{what} {path}: read from local files only; download the file first")
    elif not (file := user_path(path)).is_file():
        raise InputError(f"{what} {path}: {'a folder, not a file' if file.is_dir() else 'no such file'}")


def read_weights(path: str | os.PathLike[str]) -> SavedWeights:
    """Reads weights.

    Args:
        path: Path of a safetensors file or of a checkpoint of Lightning or plain torch, or name of published weights:
            ``torchvision:resnet50``, ``torchvision:resnet50.IMAGENET1K_V1``, ``timm:resnet50.a1_in1k``.

    Returns:
        The tensors under ``backbone.*`` and ``head.*``. Parts needed only in pretraining (projections, momentum
        encoders, queues) are dropped; other parts beside the network are dropped with a warning.

    Raises:
        InputError: The weights are missing, damaged or contain no network, or ``path`` is a URL.
    """
    check_weights(path)
    file = user_path(path)
    if is_published(str(path)):
        name, state, preprocessing = read_published(str(path))
        saved = SavedWeights(file, name, state, preprocessing=preprocessing)
    else:
        saved = _read_safetensors(file) if file.suffix == ".safetensors" else _read_checkpoint(file)
    renamed, beside = recognise(saved.state)
    if not renamed:
        raise InputError(f"{path}: no weights of a network in it ({_listed('tensors', beside) or 'nothing at all'})")
    if beside:
        warn(f"{path}: {_listed('beside the network left aside', beside)}", stacklevel=2)
    named = saved.backbone
    is_named = named is not None and (named in list_backbones() or named.startswith("timm:"))
    if not is_named:
        shapes = {key: value.shape for key, value in renamed.items()}
        named = recognise_backbone(_within(shapes, "backbone.")) or named
    taken = {id(value) for value in renamed.values()}
    left_out = tuple(sorted(key for key, value in saved.state.items() if id(value) not in taken))
    return replace(saved, state=renamed, backbone=named, left_out=left_out, is_named=is_named)


def load_backbone(weights: str | os.PathLike[str] | SavedWeights, backbone: str | None = None) -> Backbone:
    """Builds a backbone and loads its weights; a head is ignored.

    Args:
        weights: A result of :func:`read_weights`, or its argument.
        backbone: Name of the network; None for the name in the file.

    Returns:
        The network, on the CPU.

    Raises:
        InputError: As in :func:`read_weights`, or the weights belong to another network.
    """
    saved = _read(weights)
    network = create_backbone(_name(saved, backbone))
    _load_all(network, saved, "backbone.")
    return network


def load_classifier(
    weights: str | os.PathLike[str] | SavedWeights, backbone: str | None = None
) -> tuple[Classifier, SavedWeights]:
    """Builds a backbone with its head and loads the weights of both.

    Args:
        weights: A result of :func:`read_weights`, or its argument.
        backbone: Name of the network; None for the name in the file.

    Returns:
        The classifier, on the CPU, and the content of the file.

    Raises:
        InputError: As in :func:`read_weights`, or there is no head, or the weights belong to another network.
    """
    saved = _read(weights)
    if saved.num_classes is None:
        raise InputError(
            f"{saved.path}: holds a backbone without a head, so it cannot name a class; Feature Mapping needs none"
        )
    classifier = Classifier(create_backbone(_name(saved, backbone)), saved.num_classes)
    _load_all(classifier.backbone, saved, "backbone.")
    _load_all(classifier.head, saved, "head.")
    return classifier, saved


def _read(weights: str | os.PathLike[str] | SavedWeights) -> SavedWeights:
    return weights if isinstance(weights, SavedWeights) else read_weights(weights)


def _name(saved: SavedWeights, backbone: str | None) -> str:
    name = backbone or saved.backbone
    if name is None:
        raise InputError(f"{saved.path}: does not say which network it holds; give the backbone's name beside it")
    return name


def _load_all(module: nn.Module, saved: SavedWeights, prefix: str) -> None:
    tensors = _within(saved.state, prefix)
    wanted = module.state_dict()
    # batch counters are missing in old files and do not affect the output of a network
    tensors = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")} | tensors
    missing, left_over = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    other = [key for key in sorted(wanted.keys() & tensors.keys()) if wanted[key].shape != tensors[key].shape]
    if missing or left_over or other:
        details = [_listed("missing", missing), _listed("left over", left_over)]
        details += [_listed("of another shape", other)]
        raise InputError(f"{saved.path}: weights of another network: {'; '.join(filter(None, details))}")
    module.load_state_dict(tensors)


def _within(values: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _listed(what: str, keys: list[str]) -> str:
    return f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""


def _read_safetensors(path: Path) -> SavedWeights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        classes = tuple(map(str, _list(json.loads(metadata.get("classes", "[]")))))
        checksum = metadata.pop("checksum", None)
        if (kind := metadata.get("tlprune", _FORMAT)) != _FORMAT:
            raise InputError(f"{path}: a {kind} of tlprune, not weights")
        # files of other libraries have no checksum
        if (checksum or metadata.get("tlprune") == _FORMAT) and checksum != _checksum(state, metadata):
            raise ValueError("its checksum does not match")
        seconds = float(metadata["seconds"]) if "seconds" in metadata else None
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ValueError(f"training took {seconds} seconds")
        # other libraries may use the same key for other content
        text = metadata.get("preprocessing", "{}") if metadata.get("tlprune") == _FORMAT else "{}"
        preprocessing = Preprocessing.from_json(json.loads(text))
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged or no safetensors file ({error})") from error
    return SavedWeights(path, metadata.get("backbone"), state, classes, seconds, preprocessing)


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    return digest_json([digest_tensors(tensors), dict(metadata)])


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("class names must be a list")
    return value


def _read_checkpoint(path: Path) -> SavedWeights:
    content = load_torch(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: no dictionary of tensors, nor a checkpoint with one")
    parts = content.get("state_dicts")
    if isinstance(parts, dict):  # reference code of the method: network, optimiser and schedule
        content = {**content, "state_dict": parts.get("network")}
    # Lightning, MoCo and most others; training scripts of torchvision; only the tensors of a network
    tensors = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), content)
    state = {str(key): value for key, value in tensors.items() if isinstance(value, Tensor)}
    hyper_parameters = content.get("hyper_parameters")
    values = {**content, **(hyper_parameters if isinstance(hyper_parameters, dict) else {})}
    named = [values[key] for key in ("backbone", "arch", "base_encoder") if isinstance(values.get(key), str)]
    classes = content.get("classes")
    labels = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
    try:
        preprocessing = Preprocessing.from_json(content.get("preprocessing", {}))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return SavedWeights(path, named[0] if named else None, state, labels, preprocessing=preprocessing)
