"""Reference solutions that no neural network had a part in, each with an error bar.

`stored(name)` reads one from `data/`; `python -m applications.pinn.reference [name ...]` computes
them again. `burgers(viscosity)` and `van_der_pol(stiffness)` compute what is not stored. Nothing
here knows the rest of `applications.pinn`: a reference must not share an error with what it judges.
"""

from applications.pinn.reference.cole_hopf import burgers
from applications.pinn.reference.gridded import Reference, relative_difference
from applications.pinn.reference.stiff_ode import van_der_pol
from applications.pinn.reference.stored import STORED, path_of, stored

__all__ = [
    "STORED",
    "Reference",
    "burgers",
    "path_of",
    "relative_difference",
    "stored",
    "van_der_pol",
]
