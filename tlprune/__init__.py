"""Find the part of a pretraining set that a target votes for, and pretrain on that alone."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlprune.callbacks.compile_backbone import CompileBackbone
    from tlprune.callbacks.confusion_monitor import ConfusionMonitor
    from tlprune.callbacks.cost_monitor import CostMonitor
    from tlprune.callbacks.count_forgetting import CountForgetting
    from tlprune.callbacks.export_backbone import ExportBackbone
    from tlprune.callbacks.hparams_monitor import HParamsMonitor
    from tlprune.callbacks.knn_probe import KNNProbe
    from tlprune.callbacks.progressive_resize import ProgressiveResize
    from tlprune.callbacks.representation_monitor import RepresentationMonitor
    from tlprune.callbacks.selection_monitor import SelectionMonitor
    from tlprune.checkpoint_io import WholeCheckpointIO
    from tlprune.data.images import ImageSet
    from tlprune.datamodules.downstream import DownstreamDataModule
    from tlprune.datamodules.pruned_source import PrunedSourceDataModule
    from tlprune.errors import InputError
    from tlprune.modules.adversarial import LitAdversarialClassifier
    from tlprune.modules.classifier import LitClassifier
    from tlprune.modules.ssl import LitSSL
    from tlprune.modules.transfer import TransferModule
    from tlprune.preprocessing import Preprocessing
    from tlprune.selection.baselines import ListSelector, RandomSelector, ReverseSelector
    from tlprune.selection.difficulty import EL2N, GraNd
    from tlprune.selection.feature_mapping import FeatureMapping
    from tlprune.selection.forgetting import Forgetting
    from tlprune.selection.label_mapping import LabelMapping
    from tlprune.selection.manifest import Selection
    from tlprune.selection.moderate import Moderate
    from tlprune.selection.selector import Selector

__version__ = "0.1.0"

_HOMES = {
    "CompileBackbone": "callbacks.compile_backbone",
    "ConfusionMonitor": "callbacks.confusion_monitor",
    "CostMonitor": "callbacks.cost_monitor",
    "CountForgetting": "callbacks.count_forgetting",
    "DownstreamDataModule": "datamodules.downstream",
    "EL2N": "selection.difficulty",
    "ExportBackbone": "callbacks.export_backbone",
    "FeatureMapping": "selection.feature_mapping",
    "Forgetting": "selection.forgetting",
    "GraNd": "selection.difficulty",
    "HParamsMonitor": "callbacks.hparams_monitor",
    "ImageSet": "data.images",
    "InputError": "errors",
    "KNNProbe": "callbacks.knn_probe",
    "LabelMapping": "selection.label_mapping",
    "ListSelector": "selection.baselines",
    "LitAdversarialClassifier": "modules.adversarial",
    "LitClassifier": "modules.classifier",
    "LitSSL": "modules.ssl",
    "Moderate": "selection.moderate",
    "Preprocessing": "preprocessing",
    "ProgressiveResize": "callbacks.progressive_resize",
    "PrunedSourceDataModule": "datamodules.pruned_source",
    "RandomSelector": "selection.baselines",
    "RepresentationMonitor": "callbacks.representation_monitor",
    "ReverseSelector": "selection.baselines",
    "Selection": "selection.manifest",
    "SelectionMonitor": "callbacks.selection_monitor",
    "Selector": "selection.selector",
    "TransferModule": "modules.transfer",
    "WholeCheckpointIO": "checkpoint_io",
}

__all__ = [
    "EL2N",
    "CompileBackbone",
    "ConfusionMonitor",
    "CostMonitor",
    "CountForgetting",
    "DownstreamDataModule",
    "ExportBackbone",
    "FeatureMapping",
    "Forgetting",
    "GraNd",
    "HParamsMonitor",
    "ImageSet",
    "InputError",
    "KNNProbe",
    "LabelMapping",
    "ListSelector",
    "LitAdversarialClassifier",
    "LitClassifier",
    "LitSSL",
    "Moderate",
    "Preprocessing",
    "ProgressiveResize",
    "PrunedSourceDataModule",
    "RandomSelector",
    "RepresentationMonitor",
    "ReverseSelector",
    "Selection",
    "SelectionMonitor",
    "Selector",
    "TransferModule",
    "WholeCheckpointIO",
]


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used: torch and Lightning take seconds to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tlprune' has no attribute {name!r}")
    return getattr(import_module(f"tlprune.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
