"""The claims of this domain, one file for each subject."""

from collections.abc import Mapping

from applications.td.claims.networks import CLAIMS_NETWORKS
from applications.td.claims.surprise import SURPRISE
from sciopt.bench.domain import Claim

CLAIMS: Mapping[str, Claim] = {**SURPRISE, **CLAIMS_NETWORKS}
