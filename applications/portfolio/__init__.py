"""Portfolio choice: weights on the simplex, sample covariances, and what Adam makes of them."""

from applications.portfolio.claims import CLAIMS
from applications.portfolio.methods import METHODS
from applications.portfolio.problems import PROBLEMS
from applications.portfolio.solve import arrays, evaluate, start
from sciopt.bench import Domain

DOMAIN = Domain(
    name="portfolio",
    problems=PROBLEMS,
    methods=METHODS,
    start=start,
    evaluate=evaluate,
    arrays=arrays,
    claims=CLAIMS,
    without_effect=(
        "backtest",
        "backtest_command",
        "claims",
        "command_options",
        "covariance",
        "drawing",
        "estimator",
        "objectives",
        "price_files",
        "prices",
        "priors",
        "solve_command",
        "weight_limits",
        "wishes",
    ),
    max_steps=2000,
)
