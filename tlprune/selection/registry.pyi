# The one list of selectors, in the order that help and pages name them: each is imported when it is first used.
from .baselines import ListSelector as ListSelector
from .baselines import RandomSelector as RandomSelector
from .baselines import ReverseSelector as ReverseSelector
from .difficulty import EL2N as EL2N
from .difficulty import GraNd as GraNd
from .feature_mapping import FeatureMapping as FeatureMapping
from .forgetting import Forgetting as Forgetting
from .importance_resampling import ImportanceResampling as ImportanceResampling
from .label_mapping import LabelMapping as LabelMapping
from .moderate import Moderate as Moderate
from .nearest_images import NearestImages as NearestImages
from .typical_images import TypicalImages as TypicalImages

def selector_names() -> tuple[str, ...]: ...
