"""Temporal-difference learning with rates that grow with surprise."""

from applications.td.claims import CLAIMS
from applications.td.methods import METHODS, Method
from applications.td.problems import PROBLEMS, Problem
from applications.td.solve import LockstepAgents, arrays, evaluate, start
from sciopt.bench.domain import Domain

DOMAIN: Domain[Problem, Method, LockstepAgents] = Domain(
    name="td",
    problems=PROBLEMS,
    methods=METHODS,
    start=start,
    evaluate=evaluate,
    arrays=arrays,
    claims=CLAIMS,
    max_steps=100,
)
