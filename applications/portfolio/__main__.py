"""`python -m applications.portfolio`: list, run and claim."""

from applications.portfolio import DOMAIN
from sciopt.bench.cli import main

main(DOMAIN)
