"""Mean-variance portfolios as a scikit-learn estimator, exact, beside those of skfolio.

`MeanVariance` takes the parameters of skfolio's `MeanRisk` by the same names and in the same
meaning, works wherever that works, and keeps the certificate of what it found in `solution_`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.linalg.lapack import dpotrf  # pyright: ignore[reportAttributeAccessIssue]
from skfolio.optimization import BaseOptimization, ObjectiveFunction
from skfolio.prior import BasePrior, EmpiricalPrior, ReturnDistribution
from skfolio.typing import (
    ArrayLike,
    Fallback,
    FloatArray,
    Groups,
    Inequality,
    LinearConstraints,
    MultiInput,
)
from skfolio.utils.tools import _get_liquidation_turnover_and_cost, check_estimator, input_to_array
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import validate_data

from applications.portfolio.covariance import check_covariance
from applications.portfolio.objectives import Aim, answer, efficient_frontier, weights_of
from applications.portfolio.weight_limits import (
    Exposures,
    Limits,
    Row,
    budget_range,
    check_bounds,
    equation_rows,
    exposure_rows,
    inequality_rows,
    leverage_limits,
    within_reach,
)
from sciopt.quadratic import Dense, FactorModel, InfeasibleProgram, NormLimit, Solution

ROUND_OFF = 1e-10
"""Of a variance, relative to the mean of all, below zero."""


class MeanVariance(BaseOptimization):
    """Portfolios of least variance, greatest utility, return or Sharpe ratio, solved exactly.

    Parameters that skfolio's `MeanRisk` has too mean what they mean there, and are explained there
    at length; variances, returns, costs and rates are per period of the returns.

    Parameters
    ----------
    objective_function : ObjectiveFunction, default=MINIMIZE_RISK
        `MINIMIZE_RISK` minimises w'Qw, `MAXIMIZE_UTILITY` maximises mu'w - risk_aversion w'Qw,
        `MAXIMIZE_RETURN` mu'w, `MAXIMIZE_RATIO` (mu'w - risk_free_rate) / sqrt(w'Qw).

    risk_aversion : float, default=1.0
        Price of variance under `MAXIMIZE_UTILITY`.

    efficient_frontier_size : int, optional
        So many portfolios instead of one, from least risk to greatest return; `MINIMIZE_RISK` only.

    prior_estimator : BasePrior, optional
        Estimates mu and Q; `EmpiricalPrior()` by default. Of a factor model its factors are used.

    track_benchmark : bool, default=False
        Take returns in excess of the benchmark given as y to `fit`, as `BenchmarkTracker` does:
        least risk is then least tracking error, and the ratio the information ratio.

    min_weights, max_weights : float | dict[str, float] | array-like | None, default=0.0 and 1.0
        Bounds on each asset.

    budget : float | None, default=1.0
        What the weights sum to; None for no such demand.

    min_budget, max_budget : float, optional
        A range for the sum instead, with `budget=None`.

    max_short, max_long : float, optional
        Greatest sum of short and of long positions; `budget` must be a number.

    max_leverage : float, optional
        Greatest sum of absolute weights.

    max_turnover : float, optional
        Greatest change of each asset's weight from `previous_weights`.

    max_total_turnover : float, optional
        Greatest sum of all assets' changes, sales of assets outside of the universe included.

    transaction_costs : float | dict[str, float] | array-like, default=0.0
        Price of changing a weight by one, taken off the expected return.

    management_fees : float | dict[str, float] | array-like, default=0.0
        Taken off the expected return for each unit held.

    previous_weights : float | dict[str, float] | array-like, optional
        From which turnover and costs are counted; zero by default.

    groups : dict[str, list[str]] | array-like of shape (n_groups, n_assets), optional
        Names of groups for `linear_constraints`.

    linear_constraints : list[str] | str, optional
        Such as "tech <= 0.3" or "AAPL >= 0.5 * MSFT" on assets, groups and factors.

    left_inequality, right_inequality : array-like, optional
        Matrix and vector of `left_inequality @ w <= right_inequality`.

    factor_loadings : DataFrame or array-like of shape (n_assets, n_factors), optional
        Exposures of assets; a frame has assets as its index and factors as its columns. By default
        those of the prior's factor model.

    min_exposures, max_exposures : float | dict[str, float] | array-like, optional
        Bounds on the portfolio's exposure to each factor.

    l2_coef : float, default=0.0
        Price of sum_i w_i^2; not together with a limit on variance.

    risk_free_rate : float, default=0.0
        Which a ratio is in excess of.

    min_return : float, optional
        Least expected return, net of costs and fees.

    max_variance, max_standard_deviation : float, optional
        Greatest risk.

    repair : bool, default=False
        Take the nearest positive semidefinite covariance where the prior's is none.

    portfolio_params, fallback, raise_on_failure
        As of all of skfolio's optimizations.

    Attributes
    ----------
    weights_ : ndarray of shape (n_assets,) or (efficient_frontier_size, n_assets)
        The portfolio, or the frontier.

    solution_ : Solution, or a list of them
        The certificate: duality gap, multipliers by the constraints' names, constraint violation.
        The gap is in units of what is optimised; the objective is that of a minimum, so that a
        greatest utility has its sign turned.

    problem_values_ : dict[str, float], or a list of them
        objective, expected_return (net), risk (the variance) and regularization.

    prior_estimator_ : BasePrior
        The fitted prior.
    """

    def __init__(
        self,
        objective_function: ObjectiveFunction = ObjectiveFunction.MINIMIZE_RISK,
        risk_aversion: float = 1.0,
        efficient_frontier_size: int | None = None,
        prior_estimator: BasePrior | None = None,
        track_benchmark: bool = False,
        min_weights: MultiInput | None = 0.0,
        max_weights: MultiInput | None = 1.0,
        budget: float | None = 1.0,
        min_budget: float | None = None,
        max_budget: float | None = None,
        max_short: float | None = None,
        max_long: float | None = None,
        max_leverage: float | None = None,
        max_turnover: float | None = None,
        max_total_turnover: float | None = None,
        transaction_costs: MultiInput = 0.0,
        management_fees: MultiInput = 0.0,
        previous_weights: MultiInput | None = None,
        groups: Groups | None = None,
        linear_constraints: LinearConstraints | str | None = None,
        left_inequality: Inequality | None = None,
        right_inequality: Inequality | None = None,
        factor_loadings: pd.DataFrame | ArrayLike | None = None,
        min_exposures: MultiInput | None = None,
        max_exposures: MultiInput | None = None,
        l2_coef: float = 0.0,
        risk_free_rate: float = 0.0,
        min_return: float | None = None,
        max_variance: float | None = None,
        max_standard_deviation: float | None = None,
        repair: bool = False,
        portfolio_params: dict[str, Any] | None = None,
        fallback: Fallback = None,
        raise_on_failure: bool = True,
    ) -> None:
        super().__init__(
            portfolio_params=portfolio_params,
            fallback=fallback,
            previous_weights=previous_weights,
            raise_on_failure=raise_on_failure,
        )
        self.objective_function = objective_function
        self.risk_aversion = risk_aversion
        self.efficient_frontier_size = efficient_frontier_size
        self.prior_estimator = prior_estimator
        self.track_benchmark = track_benchmark
        self.min_weights = min_weights
        self.max_weights = max_weights
        self.budget = budget
        self.min_budget = min_budget
        self.max_budget = max_budget
        self.max_short = max_short
        self.max_long = max_long
        self.max_leverage = max_leverage
        self.max_turnover = max_turnover
        self.max_total_turnover = max_total_turnover
        self.transaction_costs = transaction_costs
        self.management_fees = management_fees
        self.groups = groups
        self.linear_constraints = linear_constraints
        self.left_inequality = left_inequality
        self.right_inequality = right_inequality
        self.factor_loadings = factor_loadings
        self.min_exposures = min_exposures
        self.max_exposures = max_exposures
        self.l2_coef = l2_coef
        self.risk_free_rate = risk_free_rate
        self.min_return = min_return
        self.max_variance = max_variance
        self.max_standard_deviation = max_standard_deviation
        self.repair = repair

    @property
    def needs_previous_weights(self) -> bool:
        """Whether folds and rebalancings have to follow one another."""
        return self.max_total_turnover is not None or super().needs_previous_weights

    def get_metadata_routing(self) -> MetadataRouter:
        """What `fit` is given besides goes to the prior, where it asks for it."""
        return MetadataRouter(owner=type(self).__name__).add(
            prior_estimator=self.prior_estimator,
            method_mapping=MethodMapping().add(caller="fit", callee="fit"),
        )

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **fit_params: Any) -> MeanVariance:
        """Estimate by the prior and find the portfolio.

        Args:
            X: returns (n_observations, n_assets).
            y: the benchmark's returns if `track_benchmark`, else handed on to the prior.
            fit_params: handed on to the prior, with scikit-learn's metadata routing enabled.

        Raises:
            InfeasibleProgram: limits that exclude each other; says which.
            UnboundedProgram: weights without bounds that have no optimum; says along which assets.
            ValueError: parameters or returns that make no sense; says which.
        """
        # What a fallback finds has no certificate, so that none may be left from an earlier fit.
        for name in {"solution_", "problem_values_"} & set(vars(self)):
            delattr(self, name)
        routed = process_routing(self, "fit", **fit_params)
        validate_data(self, X, skip_check_array=True)  # pyright: ignore[reportArgumentType]
        self._check_parameters()
        self.prior_estimator_ = check_estimator(self.prior_estimator, EmpiricalPrior(), BasePrior)
        if self.track_benchmark:
            X, y = _in_excess(X, y, self.budget), None
        try:
            self.prior_estimator_.fit(X, y, **routed.prior_estimator.fit)
        except ValueError as error:
            if missing := _first_missing(X):
                raise ValueError(
                    f"{missing}; this prior estimator takes no missing ones"
                ) from error
            raise
        aim = self._aim(
            self._prepare_investable_distribution(
                self.prior_estimator_.return_distribution_, slim=True
            )
        )
        if self.efficient_frontier_size is None:
            self.solution_ = answer(aim)
            weights = weights_of(self.solution_).copy()
            self.problem_values_ = _values(aim, self.solution_)
        else:
            self.solution_ = efficient_frontier(aim, self.efficient_frontier_size)
            weights = np.array([weights_of(solution) for solution in self.solution_])
            self.problem_values_ = [_values(aim, solution) for solution in self.solution_]
        self.weights_ = self._expand_weights_to_full_universe(weights)
        return self

    def _check_parameters(self) -> None:
        if not isinstance(self.objective_function, ObjectiveFunction):
            raise TypeError(
                f"objective_function must be an ObjectiveFunction, got {self.objective_function!r}"
            )
        if not 0 < self.risk_aversion < np.inf:
            raise ValueError(f"risk_aversion must be > 0, got {self.risk_aversion}")
        if (size := self.efficient_frontier_size) is not None:
            if self.objective_function != ObjectiveFunction.MINIMIZE_RISK:
                raise ValueError("efficient_frontier_size needs the objective MINIMIZE_RISK")
            if size < 2:
                raise ValueError(f"efficient_frontier_size must be at least 2, got {size}")

    def _aim(self, distribution: ReturnDistribution) -> Aim:
        """The parameters and what is known of the assets that can be held."""
        assets = len(distribution.mu)
        held = self._clean_previous_weights(assets).astype(float)
        sold, paid = _get_liquidation_turnover_and_cost(
            previous_weights=self.previous_weights,
            transaction_costs=self.transaction_costs,
            assets_names=getattr(self, "feature_names_in_", None),
            investable_mask=self.investable_mask_,
        )
        limits = self._limits(distribution, held, sold)
        variances = [] if self.max_variance is None else [float(self.max_variance)]
        if self.max_standard_deviation is not None:
            variances.append(float(self.max_standard_deviation) ** 2)
        return Aim(
            objective=self.objective_function,
            covariance=_covariance(distribution, limits.names, self.repair),
            expected=np.asarray(distribution.mu, dtype=float)
            - self._each(self.management_fees, "management_fees", assets),
            limits=limits,
            cost=self._each(self.transaction_costs, "transaction_costs", assets),
            held=held,
            paid=paid,
            risk_aversion=float(self.risk_aversion),
            l2=float(self.l2_coef),
            offset=float(self.risk_free_rate),
            min_return=None if self.min_return is None else float(self.min_return),
            max_variance=min(variances, default=None),
        )

    def _limits(self, distribution: ReturnDistribution, held: FloatArray, sold: float) -> Limits:
        """All constraints but those on return and variance.

        `sold` is the turnover of assets that are held and cannot be any more.
        """
        assets = len(distribution.mu)
        names = self._names()
        lower, upper = np.full(assets, -np.inf), np.full(assets, np.inf)
        if self.min_weights is not None:
            lower = self._each(self.min_weights, "min_weights", assets)
        if self.max_weights is not None:
            upper = self._each(self.max_weights, "max_weights", assets, otherwise=1.0)
        check_bounds(lower, upper, names)
        if self.max_turnover is not None:
            lower, upper = within_reach(lower, upper, held, float(self.max_turnover), names)
        budget = budget_range(self.budget, self.min_budget, self.max_budget)
        norm_limits = leverage_limits(
            budget,
            assets,
            max_short=self.max_short,
            max_long=self.max_long,
            max_leverage=self.max_leverage,
        )
        if self.max_total_turnover is not None:
            room = float(self.max_total_turnover) - sold
            if room < 0:
                raise InfeasibleProgram(
                    f"max_total_turnover {self.max_total_turnover:g} is less than the {sold:g} of "
                    "previous weights in assets that have to be sold"
                )
            turnover = NormLimit(torch.tensor(held), room, "max_total_turnover")
            norm_limits = (*norm_limits, turnover)
        return Limits(
            budget, lower, upper, tuple(self._rows(distribution)), tuple(norm_limits), names
        )

    def _rows(self, distribution: ReturnDistribution) -> Iterator[Row]:
        """The linear constraints."""
        assets = len(distribution.mu)
        exposures = self._exposures(distribution)
        if self.linear_constraints is not None:
            groups = np.array([self._names()])
            if self.groups is not None:
                groups = input_to_array(
                    items=self.groups,
                    n_assets=assets,
                    fill_value="",
                    dim=2,
                    assets_names=getattr(self, "feature_names_in_", None),
                    name="groups",
                    investable_mask=self.investable_mask_,
                )
            yield from equation_rows(self.linear_constraints, groups, exposures)
        if self.left_inequality is not None and self.right_inequality is not None:
            left = self._of_investable(np.asarray(self.left_inequality, dtype=float))
            yield from inequality_rows(left, self.right_inequality, assets)
        yield from exposure_rows(exposures, self.min_exposures, self.max_exposures)

    def _exposures(self, distribution: ReturnDistribution) -> Exposures | None:
        """Those given, else those of the prior's factor model, if it is one."""
        loadings, model = self.factor_loadings, distribution.factor_model
        if loadings is None:
            if model is None:
                return None
            return Exposures(model.loading_matrix, model.factor_names, model.factor_families)
        assets = len(distribution.mu)
        if not isinstance(loadings, pd.DataFrame):
            loadings = self._of_investable(np.asarray(loadings, dtype=float).T).T
            if loadings.ndim != 2 or len(loadings) != assets:
                raise ValueError(
                    f"factor_loadings must be ({assets}, factors), got {loadings.shape}"
                )
            factors = [f"factor {k}" for k in range(loadings.shape[1])]
            return Exposures(loadings, np.array(factors))
        names = self._names()
        if absent := [name for name in names if name not in loadings.index]:
            raise ValueError(f"factor_loadings has no row for {', '.join(absent)}")
        return Exposures(
            loadings.loc[list(names)].to_numpy(dtype=float),
            np.array([str(name) for name in loadings.columns]),
        )

    def _each(
        self, value: MultiInput, name: str, assets: int, *, otherwise: float = 0.0
    ) -> FloatArray:
        """One number for each asset; `otherwise` for those that a dictionary leaves out."""
        found = self._clean_input(value, assets, otherwise, name)
        return np.full(assets, found, dtype=float)

    def _names(self) -> tuple[str, ...]:
        """Of the assets that can be held."""
        named = getattr(self, "feature_names_in_", None)
        if named is None:
            named = np.array([f"asset {k}" for k in range(self.n_features_in_)])
        return tuple(self._of_investable(named).tolist())

    def _of_investable(self, values: np.ndarray) -> np.ndarray:
        """Of an array over all assets in its last axis, those that can be held."""
        mask = self.investable_mask_
        return values if mask is None or values.shape[-1] != len(mask) else values[..., mask]


def _in_excess(X: ArrayLike, y: ArrayLike | None, budget: float | None) -> ArrayLike:
    """Returns in excess of the benchmark's, a frame if they came as one."""
    if y is None:
        raise ValueError("track_benchmark needs the benchmark's returns: fit(X, y)")
    if budget != 1:
        raise ValueError(
            f"track_benchmark compares whole portfolios: budget must be 1, got {budget}"
        )
    benchmark = np.asarray(y, dtype=float)
    if benchmark.ndim == 2 and benchmark.shape[1] == 1:
        benchmark = benchmark[:, 0]
    if benchmark.shape != np.shape(X)[:1]:
        raise ValueError(
            f"the benchmark must be {np.shape(X)[0]} returns, one for each of X, got shape "
            f"{np.shape(y)}"
        )
    excess = np.asarray(X, dtype=float) - benchmark[:, None]
    return pd.DataFrame(excess, X.index, X.columns) if isinstance(X, pd.DataFrame) else excess


def _first_missing(X: ArrayLike) -> str | None:
    """`no return of AAPL on 2020-01-02 (and 3 more missing)`, None if all are there."""
    table = pd.DataFrame(X)
    absent = table.isna().to_numpy()
    if not absent.any():
        return None
    row, column = np.argwhere(absent)[0]
    date, asset = table.index[row], table.columns[column]
    named = f"on {date:%Y-%m-%d}" if isinstance(date, pd.Timestamp) else f"in row {date}"
    who = asset if isinstance(X, pd.DataFrame) else f"asset {asset}"
    return f"no return of {who} {named} (and {absent.sum() - 1} more missing)"


def _covariance(
    distribution: ReturnDistribution, names: tuple[str, ...], repair: bool
) -> Dense | FactorModel:
    """The prior's covariance, as a factor model where it is one with specific variances.

    Raises:
        InvalidCovarianceError: not positive semidefinite, or an asset without variance.
    """
    if (model := distribution.factor_model) is not None:
        root = model.covariance_sqrt
        if root.diagonal is not None and (root.diagonal > 0).all():
            loadings = torch.tensor(np.hstack(root.components), dtype=torch.float64)
            return FactorModel(loadings, torch.tensor(root.diagonal**2, dtype=torch.float64))
    given = np.asarray(distribution.covariance, dtype=float)
    covariance = (given + given.T) / 2
    asymmetry = abs(given - covariance).max()
    if asymmetry > ROUND_OFF * covariance.diagonal().max() or not _is_semidefinite(covariance):
        frame = pd.DataFrame(given, list(names), list(names))
        covariance = check_covariance(frame, repair=repair)[0].to_numpy()
    return Dense(torch.tensor(covariance))


def _is_semidefinite(covariance: FloatArray) -> bool:
    """Whether it is one to round-off, by Cholesky: a tenth of the time of eigenvalues."""
    variances = covariance.diagonal()
    if not (variances > 0).all():
        return False
    _, failed = dpotrf(covariance + np.diag(ROUND_OFF * variances), lower=1, overwrite_a=1)
    return failed == 0


def _values(aim: Aim, solution: Solution) -> dict[str, float]:
    """What skfolio's users expect in `problem_values_`."""
    weights = weights_of(solution)
    expected, risk = aim.expected_return(weights), aim.variance(weights)
    regularization = aim.l2 * float(weights @ weights)
    objective = {
        ObjectiveFunction.MINIMIZE_RISK: risk + regularization,
        ObjectiveFunction.MAXIMIZE_UTILITY: expected - aim.risk_aversion * risk - regularization,
        ObjectiveFunction.MAXIMIZE_RETURN: expected - regularization,
        ObjectiveFunction.MAXIMIZE_RATIO: (expected - aim.offset) / (risk + regularization) ** 0.5,
    }[aim.objective]
    return {
        "objective": objective,
        "expected_return": expected,
        "risk": risk,
        "regularization": regularization,
    }
