"""The applications: every package in this folder that publishes a `DOMAIN` is found."""
