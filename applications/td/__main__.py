"""`python -m applications.td`: list, run, claim, report."""

from applications.td import DOMAIN
from sciopt.bench.cli import main

main(DOMAIN)
