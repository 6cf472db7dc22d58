"""The bench: runs methods on problems, keeps every result, judges claims and draws them."""

from sciopt.bench.domain import (
    Answer,
    Claim,
    Domain,
    Ended,
    Record,
    Result,
    Run,
    Solver,
    Status,
    Verdict,
)

__all__ = [
    "Answer",
    "Claim",
    "Domain",
    "Ended",
    "Record",
    "Result",
    "Run",
    "Solver",
    "Status",
    "Verdict",
]
