"""`python -m applications.landscapes`: list, run, claim."""

from applications.landscapes import DOMAIN
from sciopt.bench.cli import main

main(DOMAIN)
