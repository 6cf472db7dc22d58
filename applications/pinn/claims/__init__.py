"""The claims: when L-BFGS is stuck, what matters most, which method is fastest."""

from collections.abc import Mapping

from applications.pinn.claims import ablation, factors, race, stuck
from sciopt.bench import Claim

CLAIMS: Mapping[str, Claim] = {
    **stuck.CLAIMS,
    **factors.CLAIMS,
    **ablation.CLAIMS,
    **race.CLAIMS,
}
