"""Transfers of a sweep: training configs and classifiers of frozen features, by mode, with any numbers of labels."""

import math
from collections.abc import Mapping
from typing import Any

from tlprune.data.shots import ALL_SHOTS, read_shots
from tlprune.errors import InputError, did_you_mean
from tlprune.experiments.frozen_transfers import FrozenTransfer
from tlprune.experiments.linear_probe import LinearProbe
from tlprune.experiments.neighbours import Neighbours
from tlprune.experiments.recipes import Recipe

__all__ = ["drawn_shots", "transfer_of", "transfers_of"]


def transfers_of(given: Mapping[str, str | Mapping[str, Any]]) -> dict[str, Recipe | FrozenTransfer]:
    """Parses the transfers of a sweep.

    A list of ``shots`` makes a mode for each of them: ``NAME`` for all labels, then ``NAME_20`` and ``NAME_5``.

    Args:
        given: Each transfer by name, as for :func:`transfer_of`; ``shots`` may be a list.

    Returns:
        Transfers by mode, in order, of a list the most labels first.

    Raises:
        InputError: If a transfer is invalid, or two have the same mode.
    """
    transfers: dict[str, Recipe | FrozenTransfer] = {}
    made_by: dict[str, str] = {}
    for name, options in given.items():
        for mode, one in _by_shots(name, options).items():
            if mode in transfers:
                pair = " and ".join(map(repr, (made_by[mode], name)))
                raise InputError(f"transfers {pair} both make the mode {mode!r}: give one of them another name")
            transfers[mode] = transfer_of(mode, one)
            made_by[mode] = name
    return transfers


def _by_shots(name: str, given: str | Mapping[str, Any]) -> dict[str, str | Mapping[str, Any]]:
    """Returns the options of each mode of a transfer."""
    if isinstance(given, str) or not isinstance(given.get("shots"), (list, tuple)):
        return {name: given}
    listed = [_shots(name, shots) for shots in given["shots"]]
    if not listed:
        raise InputError(f"transfer {name!r}: `shots` is an empty list; give whole numbers, or {ALL_SHOTS!r}")
    if twice := [value for value in given["shots"] if given["shots"].count(value) > 1]:
        raise InputError(f"transfer {name!r}: `shots` names {twice[0]!r} twice")
    listed.sort(key=lambda shots: math.inf if shots is None else shots, reverse=True)
    return {
        name if shots is None else f"{name}_{shots}": {**given, "shots": ALL_SHOTS if shots is None else shots}
        for shots in listed
    }


def _shots(name: str, value: object) -> int | None:
    try:
        return read_shots(value)
    except InputError as error:
        raise InputError(f"transfer {name!r}: {error}") from error


def transfer_of(mode: str, given: str | Mapping[str, Any]) -> Recipe | FrozenTransfer:
    """Parses one transfer mode.

    Args:
        mode: Name of the mode, for messages.
        given: Config of ``tlprune fit``, by itself or as ``config`` with ``shots``; or the options of
            :class:`LinearProbe` (with ``solver``) or of :class:`Neighbours`.

    Raises:
        InputError: If it is none of these.
    """
    if isinstance(given, str):
        return _trained(given)
    if "config" in given:
        return _with_shots(mode, given)
    return LinearProbe.read(mode, given) if "solver" in given else Neighbours.read(mode, given)


def _trained(path: str) -> Recipe:
    recipe = Recipe.read(path, "DownstreamDataModule")
    _ = recipe.shots  # refuses a wrong number
    return recipe


def _with_shots(mode: str, given: Mapping[str, Any]) -> Recipe:
    known = ("config", "shots")
    if odd := next((name for name in given if name not in known), None):
        raise InputError(f"transfer {mode!r} has no option {odd!r} beside `config`: {did_you_mean(odd, known)}")
    if not isinstance(given["config"], str):
        raise InputError(f"transfer {mode!r}: `config` must be a file of 'tlprune fit', got {given['config']!r}")
    recipe = _trained(given["config"])
    return recipe.with_shots(_shots(mode, given["shots"])) if "shots" in given else recipe


def drawn_shots(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Options of a target that draw few labelled images by the seed of a repetition; empty for all images.

    The config may set ``shots_seed`` itself, which then draws the same images in every repetition.
    """
    if recipe.shots is None or recipe.data.get("shots_seed") is not None:
        return {}
    return {"shots_seed": seed}
