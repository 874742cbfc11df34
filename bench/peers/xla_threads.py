"""Sets the number of threads of XLA's CPU client. Import it before JAX."""

import os
import sys


def set_xla_threads(threads):
    """Sets the size of XLA's thread pool with the variable NPROC. By default it is the number of cores; XLA has no
    other setting for it."""
    if "jax" in sys.modules:
        raise RuntimeError("JAX has been imported: the number of threads is settled")
    os.environ["NPROC"] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
