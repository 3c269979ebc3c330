"""Logistic regression as a transfer: a converged linear probe in a fraction of a second."""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tlprune.errors import InputError, require_extra
from tlprune.experiments.frozen_transfers import FrozenTransfer, Labelled

__all__ = ["PENALTIES", "LinearProbe"]

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Inverse strengths of the L2 penalty that are tried, strongest first; scikit-learn's ``C``."""

_ITERATIONS = 2000


@dataclass(frozen=True)
class LinearProbe(FrozenTransfer):
    """A mode of transfer: multinomial logistic regression on standardised features, fitted by L-BFGS.

    Features have mean 0 and deviation 1 over the training images. Validation images choose the L2 penalty among
    :data:`PENALTIES`, as is usual for linear probes (Kornblith et al., 2019); of equal ones the strongest is taken.

    Args:
        solver: ``lbfgs``.
        tolerance: Largest entry of the gradient at the end, above 0. With scikit-learn's 1e-4 the accuracy may be two
            tenths of a point from the optimum's.
        shots: Labelled training images per class, at least 1; None uses all.

    Raises:
        InputError: If an argument is out of range.
    """

    key: ClassVar[str] = "linear_probe"

    solver: Literal["lbfgs"] = "lbfgs"
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver != "lbfgs":
            raise InputError(f"`solver` must be 'lbfgs', got {self.solver!r}")
        if not 0 < self.tolerance < 1:
            raise InputError(f"`tolerance` must be above 0 and below 1, got {self.tolerance}")

    def classify(self, train: Labelled, val: Labelled, test: Labelled) -> tuple[float, float]:
        """Returns the accuracy of the best probe on validation and test images, in [0, 1].

        Raises:
            InputError: scikit-learn is not installed.
        """
        require_extra("the solver 'lbfgs'", "scikit-learn", "sklearn", "sweep")
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        features = train.features.double().numpy()
        mean, deviation = features.mean(0), features.std(0)
        scale = 1 / np.where(deviation > 0, deviation, 1)
        seen, on_val, on_test = ((one.features.double().numpy() - mean) * scale for one in (train, val, test))
        best, found = -1.0, 0.0
        # each fit begins where that of the stronger penalty ended; on one thread, as products this small are not shared
        probe = LogisticRegression(max_iter=_ITERATIONS, tol=self.tolerance, warm_start=True)
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # without a penalty to speak of, there is no optimum
            for penalty in PENALTIES:
                probe.set_params(C=penalty).fit(seen, train.labels.numpy())
                accuracy = float(probe.score(on_val, val.labels.numpy()))
                if accuracy > best:
                    best, found = accuracy, float(probe.score(on_test, test.labels.numpy()))
        return best, found
