"""`python -m applications.td`: list, run, claim, report; train and play in any environment."""

from applications.td import DOMAIN
from applications.td.play_command import play
from applications.td.train_command import train
from sciopt.bench.cli import main

if __name__ == "__main__":
    main(DOMAIN, {"train": train, "play": play})
