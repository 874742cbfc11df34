"""Compares two row counts: rows that the actors know to be stored, and rows that the replay servers have stored.

A replay server counts a row when it is in the table (or refused because of its values). An actor counts a row when the
server's acknowledgement has arrived. If nothing is in flight, both sums are equal, no matter what was sent twice,
delayed or cut off before. Fewer stored rows would mean that acknowledged rows were lost; more would mean that rows were
stored twice.

The counters of a process that ends are known only up to their last read. If an actor ends, the rows that were
acknowledged after that read are missing in the first sum. If a replay server ends, the rows that it stored after that
read are missing in the second sum. The difference may then be as large as the number of rows in that short time. A
killed replay server loses its table, including acknowledged rows. The check therefore shows only that all other rows
are accounted for.
"""

import time
from dataclasses import dataclass

from cluster import ACKNOWLEDGED, Cluster, run

STORED = ["sapex_replay_inserted_items_total", "sapex_replay_refused_items_total"]
SHARDS = ["replay-0", "replay-1"]
# actor.window times actor.insert_rows, for each of the two shards.
IN_FLIGHT = 4 * 8 * 2
# Longest time between the last read of a process's counters and its end. A kill comes right after a read; a stop may
# come between two reads.
UNSEEN_SECONDS = 0.5
# Time without change after which the sums count as settled if they fit each other, and if they do not. An actor whose
# acknowledgement was lost sends the batch again after 8 s at the latest (RESEND_MAX of the uploader).
STILL_SECONDS = 1.0
STILL_SECONDS_MAX = 10.0


@dataclass
class Accounts:
    """Both sums at a moment when no rows are in flight."""

    acknowledged: float
    stored: float


def read(cluster: Cluster) -> Accounts:
    stored = sum(cluster.total(shard, metric) for shard in SHARDS for metric in STORED)
    return Accounts(cluster.total("actor", ACKNOWLEDGED), stored)


def settle(cluster: Cluster, before: Accounts | None = None, patience: float = 15.0) -> Accounts:
    """Pauses the learner until both sums stop changing, because the rate limiter then holds every insert. Returns the
    sums. If they differ by another number than `before`, waits longer: an acknowledgement may have been lost."""
    learner = cluster.of("learner")
    run("docker", "pause", learner.id)
    try:
        deadline = time.monotonic() + patience
        last, since = read(cluster), time.monotonic()
        while time.monotonic() < deadline:
            fits = before is None or last.stored - last.acknowledged == before.stored - before.acknowledged
            if time.monotonic() - since >= (STILL_SECONDS if fits else STILL_SECONDS_MAX):
                break
            time.sleep(0.1)
            answered = cluster.look_at(["actor", *SHARDS])
            now = read(cluster)
            if now != last or not answered:
                last, since = now, time.monotonic()
        return last
    finally:
        run("docker", "unpause", learner.id)


def judge(before: Accounts, after: Accounts, dead: set[str], peak: float) -> tuple[bool, str]:
    """Returns whether both sums grew by the same number of rows between two moments. `dead` are the services whose
    processes ended in between.

    `peak` is the largest number of rows that were acknowledged within one second.
    """
    acknowledged = after.acknowledged - before.acknowledged
    stored = after.stored - before.stored
    unseen = IN_FLIGHT + peak * UNSEEN_SECONDS
    # A killed actor leaves rows that were stored but not acknowledged, or whose acknowledgement was not read.
    more = unseen if "actor" in dead else 0.0
    # A killed replay server leaves rows that were stored after the last read. Rows that it did not acknowledge are sent
    # again.
    fewer = unseen if dead & set(SHARDS) else 0.0
    more += IN_FLIGHT if dead & set(SHARDS) else 0.0
    difference = stored - acknowledged
    fits = -fewer <= difference <= more
    bound = f" of {0 - fewer:+.0f}..{more:+.0f}" if more or fewer else ""
    return fits and acknowledged > 0, f"{acknowledged:.0f} acknowledged, {difference:+.0f} stored{bound}"
