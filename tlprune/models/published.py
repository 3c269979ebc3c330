"""Weights that others have published, by name: torchvision's, and timm's through the extra.

What is fetched is what the installed library names, checked against the hash that it gives; it is read without
executing anything.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision.models
from torch import Tensor
from torchvision.models import WeightsEnum

from tlprune.errors import InputError, near_miss
from tlprune.models.backbones import TORCHVISION, timm_library

__all__ = ["check_published", "is_published", "read_published"]


def is_published(name: str) -> bool:
    """Whether a name stands for published weights, and not for a file."""
    return name.startswith(("torchvision:", "timm:"))


def check_published(name: str) -> None:
    """Refuses names that there are not, without fetching anything.

    Args:
        name: ``torchvision:NETWORK``, ``torchvision:NETWORK.WEIGHTS`` or ``timm:NETWORK``.

    Raises:
        InputError: There are no such weights, or timm is not installed.
    """
    library, _, rest = name.partition(":")
    if library == "torchvision":
        _weights_of(rest)
        return
    timm = timm_library(name)
    if ":" not in rest and rest not in (known := timm.list_pretrained()):
        raise InputError(f"timm has no weights {rest!r}: {near_miss(rest, known)}")


def read_published(name: str) -> tuple[str, dict[str, Tensor]]:
    """Reads published weights, fetching them where the library's own cache does not hold them.

    Args:
        name: As :func:`check_published`.

    Returns:
        The name of the network for :func:`tlprune.models.backbones.create_backbone`, and its tensors with its head's.

    Raises:
        InputError: As :func:`check_published`, or they cannot be fetched, or are not what was published.
    """
    check_published(name)
    library, _, rest = name.partition(":")
    if library == "torchvision":
        return rest.partition(".")[0], _read_torchvision(name, _weights_of(rest))
    try:
        with _nothing_executed():
            network = timm_library(name).create_model(rest, pretrained=True)
    except Exception as error:  # each store of weights raises errors of its own
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: cannot be fetched or read ({reason})") from error
    return name, dict(network.state_dict())


def _weights_of(rest: str) -> WeightsEnum:
    network, _, version = rest.partition(".")
    if network not in TORCHVISION:
        raise InputError(f"torchvision has no network {network!r} that is supported: {near_miss(network, TORCHVISION)}")
    versions = torchvision.models.get_model_weights(network)
    if version and version not in versions.__members__:
        raise InputError(f"{network} has no weights {version!r}: {near_miss(version, list(versions.__members__))}")
    weights: WeightsEnum = versions[version] if version else versions.DEFAULT
    return weights


def _read_torchvision(name: str, weights: WeightsEnum) -> dict[str, Tensor]:
    file = Path(urlparse(weights.url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    published = path.stem.rpartition("-")[2]  # the beginning of the SHA-256
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(path), published)
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{name}: cannot fetch {weights.url} to {path} ({error}); download it by hand") from error
    if not digest.startswith(published):
        raise InputError(f"{path}: not what torchvision published, its SHA-256 begins {digest[:8]}; delete it")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextmanager
def _nothing_executed() -> Iterator[None]:
    """Has torch.load take tensors alone, whoever calls it."""
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
