"""Principles of adaptive rates, on landscapes small enough to know the answer."""

from applications.landscapes.claims import CLAIMS
from applications.landscapes.digits import Digits, Networks
from applications.landscapes.methods import METHODS, Method
from applications.landscapes.problems import PROBLEMS, Problem
from applications.landscapes.solve import Descents, arrays, evaluate, start
from sciopt.bench.domain import Domain

DOMAIN: Domain[Problem | Digits, Method, Descents | Networks] = Domain(
    name="landscapes",
    problems={**PROBLEMS, "digits": Digits()},
    methods=METHODS,
    start=start,
    evaluate=evaluate,
    arrays=arrays,
    claims=CLAIMS,
    max_steps=1000,
)
