# The one list of selectors, in the order that help and pages name them: each is imported when it is first used.
from .label_mapping import LabelMapping as LabelMapping
from .feature_mapping import FeatureMapping as FeatureMapping
from .nearest_images import NearestImages as NearestImages
from .importance_resampling import ImportanceResampling as ImportanceResampling
from .typical_images import TypicalImages as TypicalImages
from .baselines import RandomSelector as RandomSelector
from .baselines import ReverseSelector as ReverseSelector
from .baselines import ListSelector as ListSelector
from .moderate import Moderate as Moderate
from .difficulty import EL2N as EL2N
from .difficulty import GraNd as GraNd
from .forgetting import Forgetting as Forgetting

def selector_names() -> tuple[str, ...]: ...
def feature_selector_names() -> tuple[str, ...]: ...
