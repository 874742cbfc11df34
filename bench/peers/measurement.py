"""Functions that all peer scripts share: one JSON line on stdout, everything else on stderr, and a time limit."""

import json
import os
import signal
import sys
from importlib import metadata

# Load average, read before this process adds to it and reported with the figure. On a busy machine, the threads of
# OpenMP and XLA wait for each other. Another process on one core then costs much more than its share; Stable-Baselines3
# became up to 15 times slower.
LOAD_BEFORE = round(os.getloadavg()[0], 2)


def claim_stdout():
    """Reserves stdout for the result. All later output of libraries, from Python or C++, goes to stderr."""
    result = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return result


def limit_seconds(seconds):
    """Ends this process after `seconds` of wall-clock time, so that a hanging peer costs only one row of the table."""
    signal.alarm(seconds)


def report(result, *, peer, package, figure, unit, config, seconds):
    """Prints the result as one line. `seconds` is the measured time, without imports and warm-up."""
    line = {
        "peer": peer,
        "version": metadata.version(package),
        "figure": figure,
        "unit": unit,
        "config": config | {"load_before": LOAD_BEFORE},
        "seconds": round(seconds, 3),
    }
    print(json.dumps(line), file=result, flush=True)


def note(text):
    """Prints a progress message to stderr."""
    print(text, file=sys.stderr, flush=True)
