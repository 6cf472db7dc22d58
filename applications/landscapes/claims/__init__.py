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
from sciopt.bench.domain import Claim

CLAIMS: Mapping[str, Claim] = {
    **l1_plateau.CLAIMS,
    **l2_two_cycle.CLAIMS,
    **l3_anisotropy.CLAIMS,
    **l4_recovery.CLAIMS,
    **l5_sign_descent.CLAIMS,
    **l6_noise.CLAIMS,
    **l7_dormant.CLAIMS,
    **l8_finite_memory.CLAIMS,
    **l9_sharpness.CLAIMS,
    **l9_rate_slope.CLAIMS,
    **l10_edges.CLAIMS,
    **l10_curvature.CLAIMS,
}
