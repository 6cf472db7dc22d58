"""Physics-informed neural networks on stiff equations: Adam, L-BFGS and one after the other."""

from applications.pinn.claims import CLAIMS
from applications.pinn.methods import METHODS
from applications.pinn.problems import PROBLEMS, STORED_FILE
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
    data=[STORED_FILE],
    max_steps=3000,
)
