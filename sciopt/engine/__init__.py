"""How a composed step is executed: eager, as the equation reads; compiled; or by fused kernels.

All give the same numbers to round-off. `plan.py` is what a group is made ready as, `update.py`
the step of one parameter as the equation reads: the eager engine calls it, the compiled engine
traces it. `fused.py` takes the compositions that torch has a kernel for, and `packed.py` turns a
group of small parameters into one.
"""

from sciopt.engine.compiled import require_compiler
from sciopt.engine.fused import fused_kernel
from sciopt.engine.nonfinite import found_nonfinite, raise_if_nonfinite
from sciopt.engine.packed import Packed, set_apart
from sciopt.engine.plan import Group, Plan, Projection, Work
from sciopt.engine.run import run

__all__ = [
    "Group",
    "Packed",
    "Plan",
    "Projection",
    "Work",
    "found_nonfinite",
    "fused_kernel",
    "raise_if_nonfinite",
    "require_compiler",
    "run",
    "set_apart",
]
