"""What the demo compares: a sweep on data that comes with the package, whose configs it writes beside the results."""

from pathlib import Path
from typing import Any, Literal

import yaml

from tlprune.data.sources import BUILT_IN_SOURCE
from tlprune.experiments.frozen_transfers import FrozenTransfer
from tlprune.experiments.neighbours import Neighbours
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import Group
from tlprune.experiments.sweep_plan import Sweep, methods_of
from tlprune.selection.feature_mapping import FeatureMapping
from tlprune.selection.label_mapping import LabelMapping
from tlprune.storage.atomic import write_bytes

__all__ = ["CLUSTERS", "DEMO_METHODS", "DemoMethod", "demo_sweep"]

DemoMethod = Literal["lm", "fm"]

DEMO_METHODS: dict[DemoMethod, str] = {"lm": "label_mapping", "fm": "feature_mapping"}
"""Names of the methods in results."""

CLUSTERS = 100
"""What Feature Mapping prunes: as many clusters as the built-in source has classes."""

_RATIOS: dict[DemoMethod, tuple[float, ...]] = {"lm": (0.5, 0.7, 0.9), "fm": (0.5, 0.65, 0.8)}
# a run of seconds starts over after a kill: writing its state would take longer than what it saves
_TRAINER: dict[str, Any] = {"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0}
_TRAINER |= {"enable_checkpointing": False}


def demo_sweep(
    target: str, method: DemoMethod, quick: bool, seeds: int | None, folder: Path, cache: str | None = None
) -> Sweep:
    """The demo as a sweep. Writes its configs of ``tlprune fit`` into ``recipes`` of the folder.

    Args:
        target: Name of the downstream set.
        method: ``lm``, Label Mapping and supervised pretraining; or ``fm``, Feature Mapping and SimCLR.
        quick: One ratio and shorter training.
        seeds: How many times everything is repeated; None for the demo's own number.
        folder: Where results go.
        cache: The cache folder; None for the user's.

    Raises:
        InputError: ``seeds`` is below 1, or the folder cannot be written.
    """
    surrogate, pretrain = _supervised(quick, cache) if method == "lm" else _unlabelled(quick, cache)
    transfers: dict[str, Recipe | FrozenTransfer] = {} if method == "lm" else {"knn": Neighbours(20, 0.1)}
    for mode, config in (("probe", _transfer("probe", 50, 0.03)), ("finetune", _transfer("finetune", 20, 0.003))):
        transfers[mode] = Recipe.read(_written(folder, mode, config), "DownstreamDataModule")
    name, middle = DEMO_METHODS[method], _RATIOS[method][1]
    as_long = tuple(Group(target, compared, middle, "steps") for compared in (name, "random"))
    return Sweep(
        name=f"demo of {target}",
        source=BUILT_IN_SOURCE,
        targets=(target,),
        surrogate=_written(folder, "surrogate", surrogate),
        pretrain=Recipe.read(_written(folder, "pretrain", pretrain), "PrunedSourceDataModule"),
        transfers=transfers,
        methods=methods_of({name: {"selector": _selector(method), "label": method.upper()}}, controls=True),
        ratios=(middle,) if quick else _RATIOS[method],
        match_budget=("epochs",),
        seeds=(2 if quick else 4 if method == "lm" else 3) if seeds is None else seeds,
        search="grid",
        output=folder.absolute(),
        match_images=name if method == "fm" else None,  # clusters are of any size
        extra_groups=() if quick else as_long,
    )


def _selector(method: DemoMethod) -> dict[str, Any]:
    if method == "lm":
        return {"class_path": LabelMapping.__name__}
    return {"class_path": FeatureMapping.__name__, "init_args": {"num_clusters": CLUSTERS, "center": True}}


def _supervised(quick: bool, cache: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """How surrogates and source models learn labels."""
    optimizer = {"lr": 0.2, "momentum": 0.9, "weight_decay": 5.0e-4, "nesterov": True}
    data = {"augment": "shift", "batch_size": 128}

    def config(backbone: str, warmup: int, trainer: dict[str, Any]) -> dict[str, Any]:
        model = {"backbone": backbone, **_schedule("SGD", optimizer, warmup)}
        return _pretraining("LitClassifier", model, data, trainer, cache)

    epochs = 8 if quick else 12
    look = {"max_epochs": epochs, "check_val_every_n_epoch": epochs}
    return config("resnet8_w8", 1, {"max_epochs": 6, "limit_val_batches": 0}), config("resnet8_w16", 2, look)


def _unlabelled(quick: bool, cache: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """How surrogates and source models learn by SimCLR, from all images of the source."""
    optimizer = {"lr": 0.2, "momentum": 0.9, "weight_decay": 1.0e-4}
    data = {"augment": "simclr_small", "batch_size": 256, "val_share": 0.0}

    def config(backbone: str, epochs: int) -> dict[str, Any]:
        model = {"backbone": backbone, "method": "simclr", "temperature": 0.2, "hidden_dim": 128, "output_dim": 64}
        model |= _schedule("SGD", optimizer, 1)
        return _pretraining("LitSSL", model, data, {"max_epochs": epochs, "limit_val_batches": 0}, cache)

    return config("resnet8_w8", 3 if quick else 6), config("resnet8_w16", 5 if quick else 12)


def _pretraining(
    module: str, model: dict[str, Any], data: dict[str, Any], trainer: dict[str, Any], cache: str | None
) -> dict[str, Any]:
    source = {"source": BUILT_IN_SOURCE, "in_memory": True, **data}
    source |= {} if cache is None else {"cache": cache}
    return {
        "model": {"class_path": module, "init_args": model},
        "data": {"class_path": "PrunedSourceDataModule", "init_args": source},
        "trainer": {**_TRAINER, **trainer},
    }


def _transfer(mode: Literal["probe", "finetune"], epochs: int, lr: float) -> dict[str, Any]:
    data = {"augment": "none" if mode == "probe" else "shift", "batch_size": 50}
    return {
        "model": {"class_path": "TransferModule", "init_args": {"mode": mode, **_schedule("Adam", {"lr": lr})}},
        "data": {"class_path": "DownstreamDataModule", "init_args": data},
        "trainer": {**_TRAINER, "max_epochs": epochs, "check_val_every_n_epoch": 5},
    }


def _schedule(optimizer: str, options: dict[str, Any], warmup: int | None = None) -> dict[str, Any]:
    cosine: dict[str, Any] = {"class_path": "WarmupCosineLR"}
    cosine |= {} if warmup is None else {"init_args": {"warmup_epochs": warmup}}
    return {"optimizer": {"class_path": f"torch.optim.{optimizer}", "init_args": options}, "lr_scheduler": cosine}


def _written(folder: Path, name: str, config: dict[str, Any]) -> str:
    path = folder / "recipes" / f"{name}.yaml"
    write_bytes(path, yaml.safe_dump(config, sort_keys=False).encode())
    return str(path)
