"""Sets how many threads XLA's CPU client starts. Import it before JAX."""

import os
import sys


def set_xla_threads(threads):
    """XLA sizes its pool by this variable where it is set, otherwise by the number of cores; it has no other knob."""
    if "jax" in sys.modules:
        raise RuntimeError("JAX has been imported: the number of threads is settled")
    os.environ["NPROC"] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
