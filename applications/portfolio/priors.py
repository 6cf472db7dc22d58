"""What the command line offers as estimates of means and covariances, by name, and given ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from skfolio.moments import (
    OAS,
    BaseCovariance,
    BaseMu,
    DenoiseCovariance,
    EmpiricalCovariance,
    EmpiricalMu,
    EWCovariance,
    GerberCovariance,
    LedoitWolf,
)
from skfolio.prior import EmpiricalPrior
from skfolio.typing import ArrayLike
from sklearn.utils.validation import validate_data

COVARIANCES = {
    "sample": EmpiricalCovariance,
    "ledoit-wolf": LedoitWolf,
    "oas": OAS,
    "ewma": EWCovariance,
    "gerber": GerberCovariance,
    "denoised": DenoiseCovariance,
}


class GivenMean(BaseMu):
    """Expected returns per period that are known from elsewhere."""

    def __init__(self, mean: Float[np.ndarray, " assets"]) -> None:
        self.mean = mean

    def fit(self, X: ArrayLike, y: None = None) -> GivenMean:  # noqa: ARG002
        """Look at the number of assets only."""
        validate_data(self, X)  # pyright: ignore[reportArgumentType]
        self.mu_ = self.mean
        return self


class GivenCovariance(BaseCovariance):
    """A covariance per period that is known from elsewhere, used as it is."""

    def __init__(self, covariance: Float[np.ndarray, "assets assets"]) -> None:
        super().__init__(nearest=False)
        self.covariance = covariance

    def fit(
        self,
        X: ArrayLike,
        y: None = None,  # noqa: ARG002
        **fit_params: Any,  # noqa: ARG002
    ) -> GivenCovariance:
        """Look at the number of assets only."""
        validate_data(self, X)  # pyright: ignore[reportArgumentType]
        self._set_covariance(self.covariance)
        return self


def prior(
    by: str,
    *,
    mean: Float[np.ndarray, " assets"] | None = None,
    covariance: Float[np.ndarray, "assets assets"] | None = None,
) -> EmpiricalPrior:
    """The sample's mean and the covariance estimated by a name, unless they are given."""
    # Eigenvalues are not clipped unasked: the solver takes what is semidefinite to round-off.
    estimator = COVARIANCES[by](nearest=False)
    return EmpiricalPrior(
        mu_estimator=EmpiricalMu() if mean is None else GivenMean(mean),
        covariance_estimator=estimator if covariance is None else GivenCovariance(covariance),
    )
