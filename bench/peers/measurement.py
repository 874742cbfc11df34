"""What every peer script shares: one JSON line on stdout, everything else on stderr, an end in bounded time."""

import json
import os
import signal
import sys
from importlib import metadata

# Taken before this process adds to it. A figure from a busy machine says so: OpenMP's and XLA's threads wait for each
# other, so that a core taken by somebody else costs them far more than its share (SB3 was seen to fall 15-fold).
LOAD_BEFORE = round(os.getloadavg()[0], 2)


def claim_stdout():
    """Keeps stdout for the result: whatever libraries print from here on, Python or C++, goes to stderr."""
    result = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return result


def limit_seconds(seconds):
    """Ends this process after `seconds` of wall clock, so that a peer that hangs costs a row and not the table."""
    signal.alarm(seconds)


def report(result, *, peer, package, figure, unit, config, seconds):
    """Prints the one line. `seconds` is what the figure was measured over, without imports and warm-up."""
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
    """Says to the person who watches what is going on."""
    print(text, file=sys.stderr, flush=True)
