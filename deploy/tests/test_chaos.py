"""Tests of `make chaos`: its row counts, and a short run."""

import os
import subprocess
import sys

import pytest

from engine import ROOT, TAG, make_images

sys.path.insert(0, str(ROOT / "deploy/chaos"))
from accounts import IN_FLIGHT, Accounts, judge  # noqa: E402

BEFORE = Accounts(acknowledged=1000, stored=1000)


@pytest.mark.parametrize(
    ("stored", "dead", "fits"),
    [
        (500, set(), True),
        (499, set(), False),  # an acknowledged row was lost
        (501, set(), False),  # a row was stored twice
        (501, {"learner"}, False),
        # Rows in flight when an actor ends are stored but not acknowledged. No acknowledged row may be missing.
        (500 + IN_FLIGHT, {"actor"}, True),
        (499, {"actor"}, False),
        # The last rows of an ended shard were not counted. A larger difference is an error.
        (500 - IN_FLIGHT, {"replay-0"}, True),
        (500 - IN_FLIGHT - 51, {"replay-0"}, False),
        (500 + IN_FLIGHT + 1, {"replay-0"}, False),
    ],
)
def test_the_accounts_tell_lost_and_doubled_rows(stored, dead, fits):
    after = Accounts(acknowledged=1500, stored=1000 + stored)
    assert judge(BEFORE, after, dead, peak=100)[0] is fits


def test_a_cluster_that_stores_nothing_is_not_well():
    assert not judge(BEFORE, BEFORE, set(), 100)[0]


def test_a_killed_learner_a_killed_shard_and_a_paused_actor_are_survived():
    make_images()
    command = [sys.executable, "deploy/chaos", "--short"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"SAPEX_TAG": TAG})
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("kill      learner ", "kill      replay-1 ", "pause     actor "):
        assert line in done.stdout
    assert "SKIPPED" not in done.stdout
