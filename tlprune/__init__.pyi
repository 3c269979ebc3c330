"""The public names: the one list, read when a name is first used, and by type checkers."""

from .callbacks.compile_backbone import CompileBackbone
from .callbacks.confusion_monitor import ConfusionMonitor
from .callbacks.cost_monitor import CostMonitor
from .callbacks.count_forgetting import CountForgetting
from .callbacks.export_backbone import ExportBackbone
from .callbacks.hparams_monitor import HParamsMonitor
from .callbacks.knn_probe import KNNProbe
from .callbacks.progressive_resize import ProgressiveResize
from .callbacks.representation_monitor import RepresentationMonitor
from .callbacks.selection_monitor import SelectionMonitor
from .checkpoint_io import AtomicCheckpointIO, WholeCheckpointIO
from .data.datasets import ImageSet
from .datamodules.downstream import DownstreamDataModule
from .datamodules.pruned_source import PrunedSourceDataModule
from .errors import InputError
from .modules.adversarial import LitAdversarialClassifier
from .modules.classifier import LitClassifier
from .modules.ssl import LitSSL
from .modules.transfer import TransferModule
from .preprocessing import Preprocessing
from .selection.baselines import ListSelector, RandomSelector, ReverseSelector
from .selection.difficulty import EL2N, GraNd
from .selection.feature_mapping import FeatureMapping
from .selection.forgetting import Forgetting
from .selection.label_mapping import LabelMapping
from .selection.moderate import Moderate
from .selection.selection import Selection
from .selection.selector import Selector

__all__ = [
    "EL2N",
    "AtomicCheckpointIO",
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
__version__: str
