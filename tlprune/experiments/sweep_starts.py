"""Starts of a sweep's pretrainings: random weights, or given ones, which are transferred alone too."""

from typing import Any

from tlprune.errors import InputError
from tlprune.experiments.recipes import Recipe, is_config
from tlprune.experiments.results import AS_CONFIGURED, SCRATCH
from tlprune.experiments.sweep_plan import MethodSpec, Sweep
from tlprune.experiments.sweep_stages import source_of
from tlprune.models.start import Start, start_backbone
from tlprune.models.weights import save_classifier
from tlprune.preprocessing import Preprocessing
from tlprune.storage.atomic import atomic_path
from tlprune.storage.journal import Stage

__all__ = ["WEIGHTS_ALONE", "check_starts", "keep_alone"]

WEIGHTS_ALONE = MethodSpec(None, "weights alone", sampling="none")
"""Method without any pretraining on the source: the weights of a start are transferred as they are."""


def check_starts(sweep: Sweep) -> None:
    """Reads the weights of every start, so that missing weights, or those of another network, are refused at once.

    Raises:
        InputError: A start is a config or no weights, belongs to another network, or nothing names the network.
    """
    for start in sweep.starts:
        if start == AS_CONFIGURED:
            continue
        if start == SCRATCH:
            if sweep.pretrain.backbone is None:
                raise InputError(f"{sweep.pretrain.path}: `starts: {SCRATCH}` needs the model's `backbone`")
            continue
        if is_config(start):
            raise InputError(f"`starts` takes {SCRATCH!r} or weights, got the config {start}")
        try:
            _opened(sweep.pretrain, start)
        except InputError as error:
            raise InputError(f"`starts` for {sweep.pretrain.path}: {error}") from error


def keep_alone(sweep: Sweep, start: str, stage: Stage) -> None:
    """Writes the weights of a start as those of a finished pretraining that took no step."""
    weights = stage.folder / "weights.safetensors"
    opened = _opened(sweep.pretrain, start)
    with atomic_path(weights) as temporary:
        save_classifier(temporary, opened.name, opened.backbone, None, preprocessing=opened.preprocessing)
    source = source_of(sweep)
    result: dict[str, Any] = {"seconds": 0.0, "steps": 0, "images_kept": 0, "source_accuracy": None}
    result |= {"images_total": source.images_before_pruning, "classes": len(source.transformed_source.classes)}
    stage.finish(result, [weights])


def _opened(recipe: Recipe, start: str) -> Start:
    """Reads the weights of a start into the network that a config trains."""
    given = recipe.options("model").get("preprocessing")
    preprocessing = None if given is None else Preprocessing.from_json(given)
    module = str(recipe.config["model"]["class_path"]).rpartition(".")[2]
    return start_backbone(module, recipe.backbone, recipe.with_start(start).weights, None, preprocessing)
