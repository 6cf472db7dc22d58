"""Command line of this domain: `python -m applications.pinn`."""

from applications.pinn import DOMAIN
from applications.pinn.solve_command import solve
from sciopt.bench.cli import main

if __name__ == "__main__":
    main(DOMAIN, {"solve": solve})
