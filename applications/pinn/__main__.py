"""Command line of this domain: `python -m applications.pinn`."""

from applications.pinn import DOMAIN
from sciopt.bench.cli import main

if __name__ == "__main__":
    main(DOMAIN)
