"""`python -m applications.pinn.reference [name ...]` computes stored reference solutions again."""

import sys
import time

from applications.pinn.reference.stored import STORED, path_of

for name in sys.argv[1:] or STORED:
    path, began = path_of(name), time.perf_counter()
    reference = STORED[name]()
    reference.save(path)
    sys.stdout.write(
        f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, error bar {reference.error_bar:.1e}, "
        f"{time.perf_counter() - began:.1f} s\n"
    )
