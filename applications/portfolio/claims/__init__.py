"""The claims: Adam's frontier, what sqrt(v) means, which method is first, 32 years day by day."""

from collections.abc import Mapping

from applications.portfolio.claims import (
    dense_support,
    frontier,
    proxy,
    proxy_in_full,
    race,
    walk_forward,
)
from sciopt.bench import Claim

CLAIMS: Mapping[str, Claim] = {
    **frontier.CLAIMS,
    **proxy.CLAIMS,
    **proxy_in_full.CLAIMS,
    **race.CLAIMS,
    **dense_support.CLAIMS,
    **walk_forward.CLAIMS,
}
