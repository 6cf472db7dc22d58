"""`python -m applications.portfolio`: list, run, claim, solve and backtest."""

from applications.portfolio import DOMAIN
from applications.portfolio.backtest_command import backtest
from applications.portfolio.solve_command import solve
from sciopt.bench.cli import main

if __name__ == "__main__":
    main(DOMAIN, {"solve": solve, "backtest": backtest})
