"""Quadratic programs with bounds, costs and a budget, solved exactly, each with its certificate.

    min 0.5 w'Qw - c'w + sum_i cost_i |w_i - held_i|   over bounds, a budget and linear rows

`quadratic_program` states one, `solve` answers it. Read `pieces.py` for the one idea that bounds,
costs and norm limits share, then `active_set.py` for the method.
"""

from sciopt.quadratic.batch import BatchSolution, solve_batch
from sciopt.quadratic.forms import Dense, FactorModel, Form, Returns, Shrunk
from sciopt.quadratic.path import Corner, corners, frontier, max_ratio, target_risk
from sciopt.quadratic.program import (
    InfeasibleProgram,
    NormLimit,
    QuadraticProgram,
    Rows,
    Solution,
    UnboundedProgram,
    quadratic_program,
)
from sciopt.quadratic.solve import solve

__all__ = [
    "BatchSolution",
    "Corner",
    "Dense",
    "FactorModel",
    "Form",
    "InfeasibleProgram",
    "NormLimit",
    "QuadraticProgram",
    "Returns",
    "Rows",
    "Shrunk",
    "Solution",
    "UnboundedProgram",
    "corners",
    "frontier",
    "max_ratio",
    "quadratic_program",
    "solve",
    "solve_batch",
    "target_risk",
]
