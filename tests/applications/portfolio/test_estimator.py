"""The estimator against skfolio's own and CVXPY, and as a part of scikit-learn's machinery."""

import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import cvxpy
import numpy as np
import pandas as pd
import pytest
from readme import code_block
from skfolio import FailedPortfolio, Portfolio, RatioMeasure
from skfolio.datasets import load_factors_dataset, load_sp500_dataset
from skfolio.exceptions import NonPositiveVarianceError
from skfolio.metrics import make_scorer
from skfolio.model_selection import WalkForward, cross_val_predict
from skfolio.moments import (
    EmpiricalCovariance,
    EWCovariance,
    EWMu,
    LedoitWolf,
    ShrunkMu,
)
from skfolio.optimization import BenchmarkTracker, EqualWeighted, MeanRisk, ObjectiveFunction
from skfolio.pre_selection import SelectKExtremes
from skfolio.preprocessing import prices_to_returns
from skfolio.prior import (
    BasePrior,
    BlackLitterman,
    EmpiricalPrior,
    LoadingMatrixRegression,
    ReturnDistribution,
    TimeSeriesFactorModel,
)
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from applications.portfolio.covariance import InvalidCovarianceError
from applications.portfolio.estimator import MeanVariance
from sciopt.quadratic import InfeasibleProgram, UnboundedProgram

Settings = dict[str, Any]

ASSET_RETURNS, FACTOR_RETURNS = prices_to_returns(
    load_sp500_dataset().loc["2017":"2020"], load_factors_dataset().loc["2017":"2020"]
)
ASSETS = ASSET_RETURNS.columns.tolist()
BENCHMARK = ASSET_RETURNS.mean(axis=1) + 3e-4 * np.random.default_rng(0).standard_normal(
    len(ASSET_RETURNS)
)
MEAN, COVARIANCE = ASSET_RETURNS.mean().to_numpy(), ASSET_RETURNS.cov().to_numpy()
EQUAL = dict.fromkeys(ASSETS, 0.05)
GROUPS = {asset: [("tech", "health", "rest")[k % 3]] for k, asset in enumerate(ASSETS)}

# At less its weights are off by 1e-4; at more it gives up on some of these.
TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11, "max_iter": 500}
UTILITY: Settings = {
    "objective_function": ObjectiveFunction.MAXIMIZE_UTILITY,
    "risk_aversion": 5.0,
}
RETURN: Settings = {"objective_function": ObjectiveFunction.MAXIMIZE_RETURN}
RATIO: Settings = {"objective_function": ObjectiveFunction.MAXIMIZE_RATIO}
COSTS: Settings = {"previous_weights": EQUAL, "transaction_costs": 2e-4}
SHORT: Settings = {"min_weights": -1.0, "max_short": 0.3}

AS_IN_SKFOLIO: dict[str, Settings] = {
    "least variance": {},
    "utility": UTILITY,
    "greatest return": RETURN | {"max_weights": 0.2},
    "Sharpe ratio": RATIO | {"risk_free_rate": 1e-5},
    "target return": {"min_return": 9e-4},
    "target risk": RETURN | {"max_variance": 1.8e-4},
    "target volatility": RETURN | {"max_standard_deviation": 0.013},
    "utility, variance limited": UTILITY | {"max_variance": 1.5e-4},
    "Sharpe ratio, volatility limited": RATIO | {"max_standard_deviation": 0.0138},
    "Sharpe ratio, least return": RATIO | {"min_return": 2e-3},
    "variance limit that does not bind": UTILITY | {"max_variance": 1.0},
    "greatest return of short positions": RETURN | SHORT | {"max_weights": 0.4, "max_variance": 1},
    "dictionaries of bounds": {"min_weights": {"AAPL": 0.1}, "max_weights": {"WMT": 0.05}},
    "array of bounds": UTILITY | {"max_weights": np.linspace(0.05, 0.2, 20)},
    "short positions": SHORT,
    "short positions, utility": SHORT | UTILITY,
    "short positions, Sharpe ratio": SHORT | RATIO,
    "long positions limited": UTILITY | {"min_weights": -1.0, "max_long": 1.2},
    "no bounds": {"min_weights": None, "max_weights": None},
    "no bounds, target return net of costs": COSTS
    | {"min_weights": None, "max_weights": None, "min_return": 0.05},
    "market neutral": UTILITY | {"budget": 0.0, "min_weights": -0.2, "max_weights": 0.2},
    "range of budgets": UTILITY | {"budget": None, "min_budget": 0.5, "max_budget": 0.9},
    "no budget": UTILITY | {"budget": None, "max_weights": 0.1},
    "groups": {
        "groups": GROUPS,
        "linear_constraints": ["tech <= 0.3", "health == 2 * rest", "AAPL >= 0.05"],
    },
    "inequalities": {"left_inequality": np.eye(20)[:2], "right_inequality": np.array([0, 0.02])},
    "L2": {"l2_coef": 1e-3},
    "L2, utility": UTILITY | {"l2_coef": 1e-3},
    "L2, Sharpe ratio": RATIO | {"l2_coef": 1e-4},
    "L2, greatest return": RETURN | {"l2_coef": 1e-3},
    "fees": UTILITY | {"management_fees": {"AMD": 1e-3, "AAPL": 5e-4}},
    "turnover of each asset": UTILITY | {"previous_weights": EQUAL, "max_turnover": 0.03},
    "costs, utility": UTILITY | COSTS,
    "costs, Sharpe ratio": RATIO | COSTS,
    "costs, target return": COSTS | {"min_return": 9e-4},
    "costs, utility, target return": UTILITY | COSTS | {"risk_aversion": 30, "min_return": 1e-3},
    "costs, target risk": RETURN | COSTS | {"max_variance": 1.8e-4},
    "costs, weight of an asset not held any more": UTILITY
    | {"previous_weights": {"GONE": 1.0}, "transaction_costs": 1e-4, "min_return": 1e-3},
    "covariance and mean by others": UTILITY
    | {
        "prior_estimator": EmpiricalPrior(
            mu_estimator=ShrunkMu(), covariance_estimator=LedoitWolf()
        )
    },
    "views": UTILITY | {"prior_estimator": BlackLitterman(views=["AAPL - MSFT == 0.0005"])},
}


def fit(estimator: Any, X: Any = ASSET_RETURNS, y: Any = None, **metadata: Any) -> Any:
    """The estimator fitted; a test knows whether it found one portfolio or many, types do not."""
    return estimator.fit(X, y, **metadata)


@pytest.fixture
def quiet() -> Iterator[None]:
    """At tight tolerances Clarabel says so when it stops a little short of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        yield


def objective(fitted: Any, settings: Settings) -> float:
    """What is maximised, from the definition, of the weights found."""
    distribution = fitted.prior_estimator_.return_distribution_
    weights = np.asarray(fitted.weights_)
    held = np.array([settings.get("previous_weights", {}).get(asset, 0.0) for asset in ASSETS])
    fees = [settings.get("management_fees", {}).get(asset, 0.0) for asset in ASSETS]
    expected = (distribution.mu - fees) @ weights
    expected -= settings.get("transaction_costs", 0.0) * abs(weights - held).sum()
    variance = weights @ distribution.covariance @ weights
    penalty = settings.get("l2_coef", 0.0) * weights @ weights
    match settings.get("objective_function"):
        case ObjectiveFunction.MAXIMIZE_UTILITY:
            return expected - settings["risk_aversion"] * variance - penalty
        case ObjectiveFunction.MAXIMIZE_RETURN:
            return expected - penalty
        case ObjectiveFunction.MAXIMIZE_RATIO:
            excess = expected - settings.get("risk_free_rate", 0.0)
            return excess / (variance + penalty) ** 0.5
    return -variance - penalty


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("settings", AS_IN_SKFOLIO.values(), ids=AS_IN_SKFOLIO)
def test_the_weights_are_those_of_skfolio(settings: Settings) -> None:
    ours = fit(MeanVariance(**settings))
    theirs = fit(MeanRisk(solver_params=TIGHT, **settings))
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=3e-5)
    best, other = objective(ours, settings), objective(theirs, settings)
    # Clarabel breaks constraints by about 1e-9, which may gain as much.
    assert best >= other - 1e-7 * abs(other)
    assert ours.solution_.residual < 1e-12
    assert ours.solution_.gap <= 2e-9 * abs(best)


def test_a_ratio_keeps_to_max_variance_and_is_the_greatest_that_does() -> None:
    limited = fit(MeanVariance(**RATIO, max_variance=1.9e-4))
    alike = fit(MeanVariance(**RETURN, max_variance=1.9e-4))
    assert limited.weights_ @ COVARIANCE @ limited.weights_ <= 1.9e-4 * (1 + 1e-12)
    np.testing.assert_allclose(limited.weights_, alike.weights_, atol=1e-12)


LOADINGS = pd.DataFrame(
    np.random.default_rng(1).standard_normal((20, 3)), ASSETS, ["value", "size", "quality"]
)
NOT_IN_SKFOLIO: dict[str, tuple[Settings, Callable[[cvxpy.Variable], list[Any]]]] = {
    "leverage": (
        {"min_weights": -1.0, "max_leverage": 1.3},
        lambda w: [cvxpy.norm(w, 1) <= 1.3, cvxpy.sum(w) == 1],
    ),
    "leverage over a range of budgets": (
        {
            "min_weights": None,
            "max_weights": 0.4,
            "max_leverage": 1.5,
            "budget": None,
            "min_budget": -0.2,
            "max_budget": 0.6,
        },
        lambda w: [cvxpy.norm(w, 1) <= 1.5, cvxpy.sum(w) >= -0.2, cvxpy.sum(w) <= 0.6, w <= 0.4],
    ),
    "turnover in all": (
        {"previous_weights": EQUAL, "max_total_turnover": 0.4},
        lambda w: [cvxpy.norm(w - 0.05, 1) <= 0.4, cvxpy.sum(w) == 1, w >= 0],
    ),
    "turnover in all with an asset not held any more": (
        {"previous_weights": dict.fromkeys(ASSETS, 0.045) | {"GONE": 0.1}, "max_total_turnover": 1},
        lambda w: [cvxpy.norm(w - 0.045, 1) <= 0.9, cvxpy.sum(w) == 1, w >= 0],
    ),
    "exposures": (
        {
            "factor_loadings": LOADINGS.iloc[::-1],
            "min_exposures": {"value": 0.1},
            "max_exposures": {"value": 0.1, "size": 0.2},
        },
        lambda w: [
            LOADINGS["value"].to_numpy() @ w == 0.1,
            LOADINGS["size"].to_numpy() @ w <= 0.2,
            cvxpy.sum(w) == 1,
            w >= 0,
        ],
    ),
    "exposures without names": (
        {"factor_loadings": LOADINGS.to_numpy(), "min_exposures": -0.1, "max_exposures": [0, 1, 1]},
        lambda w: [
            LOADINGS.to_numpy().T @ w >= -0.1,
            LOADINGS.to_numpy().T @ w <= [0, 1, 1],
            cvxpy.sum(w) == 1,
            w >= 0,
        ],
    ),
    "exposures in a text": (
        {"factor_loadings": LOADINGS, "linear_constraints": "value - size <= -0.1"},
        lambda w: [
            (LOADINGS["value"] - LOADINGS["size"]).to_numpy() @ w <= -0.1,
            cvxpy.sum(w) == 1,
            w >= 0,
        ],
    ),
}


@pytest.mark.parametrize(("settings", "constrain"), NOT_IN_SKFOLIO.values(), ids=NOT_IN_SKFOLIO)
def test_what_skfolio_lacks_agrees_with_cvxpy(
    settings: Settings, constrain: Callable[[cvxpy.Variable], list[Any]]
) -> None:
    weights = cvxpy.Variable(20)
    # Divided by its size, because Clarabel's tolerances are absolute.
    utility = MEAN @ weights - 5 * cvxpy.quad_form(weights, cvxpy.psd_wrap(COVARIANCE))
    problem = cvxpy.Problem(cvxpy.Maximize(utility * 1e3), constrain(weights))
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    ours = fit(MeanVariance(**UTILITY, **settings))
    np.testing.assert_allclose(ours.weights_, np.asarray(weights.value), atol=3e-5)
    assert ours.problem_values_["objective"] >= utility.value - 1e-9
    assert ours.solution_.relative_gap < 1e-12


@pytest.mark.usefixtures("quiet")
def test_tracking_a_benchmark_is_that_of_skfolio() -> None:
    ours = fit(MeanVariance(track_benchmark=True, max_weights=0.08), ASSET_RETURNS, BENCHMARK)
    tracker = BenchmarkTracker(max_weights=0.08, solver_params=TIGHT)
    theirs = fit(tracker, ASSET_RETURNS, BENCHMARK)
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=3e-5)


def test_the_frontier_is_that_of_skfolio() -> None:
    costly = fit(MeanVariance(efficient_frontier_size=7, **COSTS))
    plain = fit(MeanVariance(efficient_frontier_size=7))
    for fitted, settings in ((costly, COSTS), (plain, {})):
        assert fitted.weights_.shape == (7, 20)
        values = pd.DataFrame(fitted.problem_values_)
        steps = values["expected_return"].diff().iloc[1:]
        np.testing.assert_allclose(steps, steps.iloc[0], rtol=1e-7)
        targets = values["expected_return"].iloc[1:-1].tolist()
        theirs = fit(MeanRisk(min_return=targets, **settings))
        risks = [each["risk"] for each in theirs.problem_values_]
        np.testing.assert_allclose(values["risk"].iloc[1:-1], risks, rtol=1e-4)
        assert (values["risk"].iloc[1:-1] <= np.array(risks) * (1 + 1e-6)).all()
    population = plain.predict(ASSET_RETURNS)
    assert [portfolio.name for portfolio in population][:2] == [
        "ptf0 - MeanVariance",
        "ptf1 - MeanVariance",
    ]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("text", [None, ["MTUM <= 0.1", "AAPL <= 0.01", "USMV == 0.1"]])
def test_a_factor_model_is_used_as_one_and_its_factors_limited(text: list[str] | None) -> None:
    prior = TimeSeriesFactorModel(
        loading_matrix_estimator=LoadingMatrixRegression(linear_regressor=Ridge(1e-3))
    )
    with config_context(enable_metadata_routing=True):
        prior = prior.set_fit_request(factors=True)
        ours, theirs = (
            fit(
                each.set_params(prior_estimator=prior, linear_constraints=text),
                factors=FACTOR_RETURNS,
            )
            for each in (MeanVariance(), MeanRisk(solver_params=TIGHT))
        )
        np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=3e-5)
        exposed = MeanVariance(prior_estimator=prior, max_exposures={"MTUM": 0.1})
        exposed.fit(ASSET_RETURNS, factors=FACTOR_RETURNS)
        model = exposed.prior_estimator_.return_distribution_.factor_model
        assert (
            dict(zip(model.factor_names, model.loading_matrix.T @ exposed.weights_, strict=True))[
                "MTUM"
            ]
            <= 0.1 + 1e-12
        )
        with pytest.raises(ValueError, match="names MTM; the factors are MTUM, QUAL"):
            exposed.set_params(max_exposures={"MTM": 0.1}).fit(
                ASSET_RETURNS, factors=FACTOR_RETURNS
            )


def test_assets_without_estimates_are_left_out_as_by_skfolio() -> None:
    holes = ASSET_RETURNS.copy()
    holes.iloc[:, 5] = np.nan
    holes.iloc[:100, 3] = np.nan
    settings: Settings = UTILITY | {
        "prior_estimator": EmpiricalPrior(
            mu_estimator=EWMu(), covariance_estimator=EWCovariance(), max_history=50
        ),
        "previous_weights": EQUAL,
        "transaction_costs": 1e-4,
        "groups": GROUPS,
        "linear_constraints": ["tech <= 0.2"],
        "max_weights": np.linspace(0.1, 0.3, 20),
        "left_inequality": np.ones((1, 20)),
        "right_inequality": [1.5],
        "min_return": 2.27e-3,
    }
    ours = fit(MeanVariance(**settings), holes)
    theirs = fit(MeanRisk(**settings), holes)
    assert ours.weights_.shape == (20,)
    assert ours.weights_[5] == 0
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=1e-4)
    assert ours.problem_values_["expected_return"] == pytest.approx(2.27e-3, rel=1e-9)


# As a part of scikit-learn's machinery.


def test_clones_have_the_parameters_and_not_the_fit() -> None:
    fitted = fit(MeanVariance(max_weights=0.3, **COSTS))
    copy: Any = clone(fitted)
    copy.set_params(l2_coef=0.1)
    assert copy.get_params()["max_weights"] == 0.3
    assert copy.l2_coef == 0.1
    assert not hasattr(copy, "weights_")
    assert set(BASE_PARAMETERS) <= set(copy.get_params())


BASE_PARAMETERS = ("portfolio_params", "fallback", "previous_weights", "raise_on_failure")
WALK = WalkForward(train_size=250, test_size=125)


def walk(estimator: Any) -> Any:
    """Its portfolios, one after another."""
    return cross_val_predict(estimator, ASSET_RETURNS, cv=WALK)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("settings", [{}, UTILITY | COSTS, {"max_turnover": 0.1} | COSTS])
def test_walking_forward_gives_the_portfolios_of_skfolio(settings: Settings) -> None:
    ours, theirs = (
        walk(each) for each in (MeanVariance(**settings), MeanRisk(solver_params=TIGHT, **settings))
    )
    np.testing.assert_allclose(ours.returns, theirs.returns, atol=2e-6)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.previous_weights, other.previous_weights, atol=2e-4)


def test_benchmarks_are_cut_into_folds_and_estimators_pickled() -> None:
    tracker = pickle.loads(pickle.dumps(MeanVariance(track_benchmark=True, max_weights=0.08)))
    folds: Any = cross_val_predict(tracker, ASSET_RETURNS, BENCHMARK, cv=WALK)
    for k, (train, _) in enumerate(WALK.split(ASSET_RETURNS)):
        alone = fit(clone(tracker), ASSET_RETURNS.iloc[train], BENCHMARK.iloc[train])
        np.testing.assert_array_equal(folds[k].weights, alone.weights_)


def test_single_precision_and_whole_numbers_are_taken_as_well() -> None:
    settings: Settings = {"max_turnover": 1, "max_total_turnover": 1, "transaction_costs": None}
    whole = MeanVariance(**UTILITY, **settings, previous_weights={"KO": 1}, budget=1)
    single = fit(whole, ASSET_RETURNS.astype(np.float32))
    np.testing.assert_allclose(single.weights_, fit(whole).weights_, atol=1e-3)
    assert single.solution_.relative_gap < 1e-12


def test_total_turnover_is_counted_from_one_fold_to_the_next() -> None:
    walked = cross_val_predict(
        MeanVariance(max_total_turnover=0.1, fallback=EqualWeighted()), ASSET_RETURNS, cv=WALK
    )
    turnovers = [float(portfolio.turnover) for portfolio in walked]
    np.testing.assert_allclose(turnovers, [1, *[0.1] * (len(turnovers) - 1)], atol=1e-9)


def test_a_grid_search_ranks_as_with_skfolio() -> None:
    grid = {
        "optimize__risk_aversion": [1.0, 10.0, 50.0],
        "optimize__prior_estimator__covariance_estimator": [LedoitWolf(), EmpiricalCovariance()],
    }
    ours, theirs = (
        GridSearchCV(
            Pipeline(
                [
                    ("select", SelectKExtremes(k=12)),
                    ("optimize", each.set_params(**UTILITY, prior_estimator=EmpiricalPrior())),
                ]
            ),
            grid,
            cv=WALK,
            scoring=make_scorer(RatioMeasure.SORTINO_RATIO),
        ).fit(ASSET_RETURNS)
        for each in (MeanVariance(), MeanRisk())
    )
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-3
    )
    assert ours.best_index_ == theirs.best_index_


def test_constraints_by_name_survive_a_selection_before() -> None:
    pipeline = Pipeline(
        [
            ("select", SelectKExtremes(k=8)),
            (
                "optimize",
                MeanVariance(
                    max_weights={"UNH": 0.1},
                    groups=GROUPS,
                    linear_constraints=["tech <= 0.2"],
                    factor_loadings=LOADINGS,
                    max_exposures={"size": 0.1},
                ),
            ),
        ]
    ).set_output(transform="pandas")
    portfolio = pipeline.fit(ASSET_RETURNS).predict(ASSET_RETURNS)
    assert isinstance(portfolio, Portfolio)
    fitted: Any = pipeline["optimize"]
    held = fitted.feature_names_in_
    assert len(held) == 8
    weights = pd.Series(fitted.weights_, held)
    assert weights @ LOADINGS.loc[held, "size"] <= 0.1 + 1e-12
    assert weights[[GROUPS[asset][0] == "tech" for asset in held]].sum() <= 0.2 + 1e-12


def test_failures_go_to_the_fallback_or_are_recorded() -> None:
    saved = fit(MeanVariance(fallback=EqualWeighted()))
    assert saved.solution_.gap < 1e-15
    fit(saved.set_params(max_weights=0.01))
    assert not hasattr(saved, "solution_")
    np.testing.assert_allclose(saved.weights_, 0.05)
    ((_, why), (_, outcome)) = saved.fallback_chain_
    assert why == "upper bound 0.01 x 20 variables = 0.2 < budget 1"
    assert outcome == "success"
    kept = MeanVariance(max_weights=0.01, previous_weights=EQUAL, fallback="previous_weights")
    np.testing.assert_allclose(fit(kept).weights_, 0.05)
    failed = MeanVariance(max_weights=0.01, raise_on_failure=False)
    with pytest.warns(UserWarning, match=r"0.01 x 20 variables"):
        failed.fit(ASSET_RETURNS)
    assert isinstance(failed.predict(ASSET_RETURNS), FailedPortfolio)


# What is said of what cannot be.


class FixedPrior(BasePrior):
    """A covariance given by hand."""

    def __init__(self, covariance: np.ndarray) -> None:
        self.covariance = covariance

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> "FixedPrior":
        self.return_distribution_ = ReturnDistribution(MEAN, self.covariance, np.asarray(X))
        return self


def test_a_covariance_that_is_none_is_repaired_only_when_asked() -> None:
    sick = COVARIANCE - 1.5 * np.linalg.eigvalsh(COVARIANCE)[0] * np.eye(20)
    with pytest.raises(InvalidCovarianceError, match=r"smallest eigenvalue -.*repair=True"):
        fit(MeanVariance(prior_estimator=FixedPrior(sick)))
    values, vectors = np.linalg.eigh(sick)
    nearest = FixedPrior((vectors * values.clip(0)) @ vectors.T)
    repaired = fit(MeanVariance(prior_estimator=FixedPrior(sick), repair=True))
    same = fit(MeanVariance(prior_estimator=nearest))
    assert repaired.problem_values_["risk"] == pytest.approx(same.problem_values_["risk"])


def test_an_asset_without_variance_is_named() -> None:
    with pytest.raises(NonPositiveVarianceError, match="KO"):
        fit(MeanVariance(), ASSET_RETURNS.assign(KO=0.0))
    still = COVARIANCE.copy()
    still[:, 2] = still[2, :] = 0
    with pytest.raises(InvalidCovarianceError, match="variance of BAC is 0"):
        fit(MeanVariance(prior_estimator=FixedPrior(still)))


def test_missing_returns_are_named() -> None:
    holes = ASSET_RETURNS.copy()
    holes.iloc[[7, 9], 3] = np.nan
    day = f"{holes.index[7]:%Y-%m-%d}"
    with pytest.raises(ValueError, match=rf"no return of BBY on {day} \(and 1 more missing\)"):
        fit(MeanVariance(), holes)
    with pytest.raises(ValueError, match="no return of asset 3 in row 7"):
        fit(MeanVariance(), holes.to_numpy())


INFEASIBLE: dict[str, tuple[Settings, str]] = {
    "bounds": ({"max_weights": 0.02}, "upper bound 0.02 x 20 variables = 0.4 < budget 1"),
    "crossed": ({"min_weights": 0.3, "max_weights": {"KO": 0.2}}, "KO: min_weights 0.3 exceeds"),
    "texts": (
        {"linear_constraints": ["AAPL >= 0.5", "AAPL + MSFT <= 0.4"]},
        "AAPL >= 0.5 and AAPL + MSFT <= 0.4 exclude each other",
    ),
    "return": ({"min_return": 0.5}, "the greatest expected return within the limits is 0.002"),
    "return net of costs": (
        {"min_return": 0.5, "transaction_costs": 1e-4},
        "the greatest expected return within the limits is 0.002",
    ),
    "return of little risk": (
        UTILITY | {"min_return": 2e-3, "max_variance": 1.5e-4},
        "within the limits and max_variance 0.00015 is 0.001",
    ),
    "risk": ({"max_variance": 1e-6}, "the least variance within the limits is 0.0001"),
    "ratio": (RATIO | {"risk_free_rate": 0.1}, "more than the risk-free rate 0.1 per period"),
    "turnover": (
        {"previous_weights": {"KO": 1.0}, "max_turnover": 0.3, "max_weights": 0.5},
        "KO: weights from 0 to 0.5 are out of reach from the previous weight 1",
    ),
    "total turnover": (
        {"previous_weights": {"KO": 1.0}, "max_total_turnover": 0.3, "max_weights": 0.5},
        "max_total_turnover: within the bounds the sum of absolute distances is at least 0.5",
    ),
    "sold": (
        {"previous_weights": {"GONE": 1.0}, "max_total_turnover": 0.3},
        "less than the 1 of previous weights in assets that have to be sold",
    ),
    "leverage": ({"max_leverage": 0.9}, "budget and max_leverage exclude each other"),
}


@pytest.mark.parametrize(("settings", "words"), INFEASIBLE.values(), ids=INFEASIBLE)
def test_limits_that_exclude_each_other_are_named(settings: Settings, words: str) -> None:
    with pytest.raises(InfeasibleProgram, match=words.replace("+", r"\+")):
        fit(MeanVariance(**settings))


def test_a_return_without_bounds_is_called_endless() -> None:
    with pytest.raises(UnboundedProgram, match="grows without end"):
        fit(MeanVariance(**RETURN, min_weights=None, max_weights=None))


SENSELESS: dict[str, tuple[Settings, str]] = {
    "objective": ({"objective_function": "minimize_risk"}, "must be an ObjectiveFunction"),
    "risk aversion": (UTILITY | {"risk_aversion": 0}, "risk_aversion must be > 0, got 0"),
    "size": ({"efficient_frontier_size": 1}, "at least 2, got 1"),
    "frontier": (UTILITY | {"efficient_frontier_size": 5}, "needs the objective MINIMIZE_RISK"),
    "budgets": ({"min_budget": 0.5}, "need budget=None"),
    "short": ({"max_short": 0.1, "budget": None}, "need a budget that is one number"),
    "penalty": ({"l2_coef": 0.1, "max_variance": 1.0}, "drop one"),
    "loadings": ({"max_exposures": 0.1}, "need factor_loadings, or a prior_estimator"),
    "rows": ({"factor_loadings": LOADINGS.iloc[1:], "max_exposures": 1}, "no row for AAPL"),
    "shape": ({"factor_loadings": np.eye(3), "max_exposures": 1}, "must be (20, factors)"),
    "exposures": ({"factor_loadings": LOADINGS, "max_exposures": [1, 2]}, "each of 3 factors"),
    "inequality": ({"left_inequality": [[1.0]], "right_inequality": [1]}, "(inequalities, 20)"),
    "benchmark": ({"track_benchmark": True}, "needs the benchmark's returns"),
}


@pytest.mark.parametrize(("settings", "words"), SENSELESS.values(), ids=SENSELESS)
def test_parameters_without_sense_are_refused_in_words(settings: Settings, words: str) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        fit(MeanVariance(**settings))
    assert words in str(raised.value)


def test_a_benchmark_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="one for each of X, got shape"):
        fit(MeanVariance(track_benchmark=True), ASSET_RETURNS, BENCHMARK.iloc[1:])
    with pytest.raises(ValueError, match="budget must be 1"):
        fit(MeanVariance(track_benchmark=True, budget=0.5), ASSET_RETURNS, BENCHMARK)


def test_an_unknown_group_is_left_out_with_a_warning_as_by_skfolio() -> None:
    with pytest.warns(UserWarning, match="'tech <= 0.3' is left out.*'tech' is missing"):
        fitted = fit(MeanVariance(linear_constraints=["tech <= 0.3"]))
    np.testing.assert_allclose(fitted.weights_, fit(MeanVariance()).weights_)


def test_constraints_may_be_percents_and_names_with_signs() -> None:
    named = ASSET_RETURNS.rename(columns={"AAPL": "BRK-B", "AMD": "A-B C"})
    texts = ["BRK-B >= 40%", "A-B C <= 0.02", "WMT <= 0.5 * BRK-B"]
    found = MeanVariance(**UTILITY, linear_constraints=texts).fit(named).weights_
    plain = MeanVariance(
        **UTILITY, linear_constraints=["AAPL >= 0.4", "AMD <= 0.02", "WMT <= 0.5 * AAPL"]
    ).fit(ASSET_RETURNS)
    np.testing.assert_allclose(np.asarray(found), np.asarray(plain.weights_), atol=1e-14)
    assert np.asarray(found)[0] == pytest.approx(0.4)


def test_the_certificate_names_the_constraints() -> None:
    fitted = fit(MeanVariance(linear_constraints=["AAPL >= 0.2"], min_return=1e-3))
    multipliers = fitted.solution_.multipliers
    assert list(multipliers) == ["budget", "AAPL >= 0.2", "min_return"]
    step = 1e-4
    raised = MeanVariance(linear_constraints=[f"AAPL >= {0.2 + step}"], min_return=1e-3)
    change = fit(raised).problem_values_["risk"] - fitted.problem_values_["risk"]
    assert abs(multipliers["AAPL >= 0.2"]) == pytest.approx(change / step, rel=1e-2)


def test_the_readme_walks_forward_beside_skfolio() -> None:
    names: dict[str, Any] = {}
    exec(code_block("# walk forward", "applications/portfolio/README.md"), names)
    walked = names["walked"]
    assert {len(each) for each in walked.values()} == {3}
    volatility = {name: each.annualized_standard_deviation for name, each in walked.items()}
    assert volatility["least variance"] < volatility["most diversified"]
    held = [(portfolio.weights > 1e-6).sum() for portfolio in walked["at most five"]]
    assert max(held) <= 5
