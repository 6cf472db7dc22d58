"""Physics-informed neural networks on stiff differential equations."""

from applications.pinn.claims import CLAIMS
from applications.pinn.methods import METHODS
from applications.pinn.problems import PROBLEMS
from applications.pinn.reference import STORED, path_of
from applications.pinn.solve import arrays, evaluate, start
from sciopt.bench import Domain

DOMAIN = Domain(
    name="pinn",
    problems=PROBLEMS,
    methods=METHODS,
    start=start,
    evaluate=evaluate,
    arrays=arrays,
    claims=CLAIMS,
    data=[path_of(name) for name in STORED],
    without_effect=("claims", "drawing", "module", "own_problem", "solution", "solve_command"),
    max_steps=500,
)
