"""What is claimed."""

CLAIMS = {}
