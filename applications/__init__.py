"""The applications: every package in this folder that publishes a `DOMAIN` is found."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from sciopt.bench import Domain
from sciopt.bench.identity import fingerprint

HERE = Path(__file__).parent


def all_domains(folder: Path = HERE) -> dict[str, Domain]:
    """The domains of the packages in `folder`, by name.

    Raises:
        TypeError: a package there publishes no `DOMAIN`.
    """
    if folder != HERE and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    prefix = f"{__name__}." if folder == HERE else ""
    domains = {}
    for package in sorted(folder.glob("*/__init__.py")):
        module = import_module(prefix + package.parent.name)
        domain = getattr(module, "DOMAIN", None)
        if not isinstance(domain, Domain):
            raise TypeError(f"{package} must publish DOMAIN, a sciopt.bench.Domain; got {domain!r}")
        fingerprint(domain)
        domains[domain.name] = domain
    return domains
