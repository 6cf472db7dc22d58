"""The machine and the source that a run was made with."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numpy", "scipy", "cvxpy", "clarabel", "skfolio", "gymnasium")


@cache
def environment(device: str) -> dict[str, Any]:
    """Commit, package versions, processor and device; collected once per process."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
    }


@cache
def package_versions() -> dict[str, str]:
    """The installed version of every package that computes."""
    return {name: version(name) for name in PACKAGES}


@cache
def commit() -> str:
    """The checked-out commit, with `+` where the working tree differs.

    "unknown" without git, or where this package lies in somebody else's repository.
    """
    root = Path(__file__).parents[2]
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown"
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
