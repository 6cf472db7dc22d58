"""The claims, one file each: what adaptive rates do where the answer is known."""

from collections.abc import Mapping

from applications.landscapes.claims import (
    l1_plateau,
    l2_two_cycle,
    l3_anisotropy,
    l4_recovery,
    l5_sign_descent,
    l6_noise,
    l7_dormant,
    l8_finite_memory,
    l9_rate_slope,
    l9_sharpness,
    l10_curvature,
    l10_edges,
)
from applications.landscapes.claims.reading import headed
from sciopt.bench.domain import Claim

CLAIMS: Mapping[str, Claim] = {
    name: headed(claim)
    for module in (
        l1_plateau,
        l2_two_cycle,
        l3_anisotropy,
        l4_recovery,
        l5_sign_descent,
        l6_noise,
        l7_dormant,
        l8_finite_memory,
        l9_sharpness,
        l9_rate_slope,
        l10_edges,
        l10_curvature,
    )
    for name, claim in module.CLAIMS.items()
}
