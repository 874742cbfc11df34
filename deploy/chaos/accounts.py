"""The accounts that must agree: rows that actors know to be stored, and rows that replay servers have stored.

A row is counted by a replay server when it is in the table (or refused for its values), and by an actor when that server's
acknowledgement has arrived. So in a cluster where nothing moves both sums are equal, whatever was sent twice, delayed or cut off in
between: fewer stored rows would mean that acknowledged ones were lost, more that some were stored twice.

Counters of a process that dies are known up to the last time they were read. Where an actor dies, rows that it had acknowledged
after that are missing on the left; where a replay server dies, rows that it had stored, on the right. The difference may then be as large
as what moved in that moment. A replay server that is killed loses its table, acknowledged rows included: what is checked is
that every other row is accounted for.
"""

import time
from dataclasses import dataclass

from cluster import ACKNOWLEDGED, Cluster, run

STORED = ["sapex_replay_inserted_items_total", "sapex_replay_refused_items_total"]
SHARDS = ["replay-0", "replay-1"]
# actor.window times actor.insert_rows, at each of the two shards.
IN_FLIGHT = 4 * 8 * 2
# From the last read of a process to its end: a kill comes right after a read, a stop may come between two.
UNSEEN_SECONDS = 0.5
# Sums that stand still for so long have settled.
STILL_SECONDS = 1.0


@dataclass
class Accounts:
    """Both sums at a moment at which nothing moved."""

    acknowledged: float
    stored: float


def read(cluster: Cluster) -> Accounts:
    stored = sum(cluster.total(shard, metric) for shard in SHARDS for metric in STORED)
    return Accounts(cluster.total("actor", ACKNOWLEDGED), stored)


def settle(cluster: Cluster, patience: float = 4.0) -> Accounts:
    """Stops the learner for a moment: the limiter then holds every insert, and the sums stand still."""
    learner = cluster.of("learner")
    run("docker", "pause", learner.id)
    try:
        deadline = time.monotonic() + patience
        last, since = read(cluster), time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < STILL_SECONDS:
            time.sleep(0.1)
            answered = cluster.look_at(["actor", *SHARDS])
            now = read(cluster)
            if now != last or not answered:
                last, since = now, time.monotonic()
        return last
    finally:
        run("docker", "unpause", learner.id)


def judge(before: Accounts, after: Accounts, dead: set[str], peak: float) -> tuple[bool, str]:
    """Whether both sums grew alike between two moments; `dead` are the services whose processes ended in between.

    `peak` is the most rows that were acknowledged in a second.
    """
    acknowledged = after.acknowledged - before.acknowledged
    stored = after.stored - before.stored
    unseen = IN_FLIGHT + peak * UNSEEN_SECONDS
    # An actor that was killed leaves rows that were stored and not acknowledged, or not seen to be.
    more = unseen if "actor" in dead else 0.0
    # A replay server that was killed leaves rows that it stored unseen; what it had not acknowledged is sent again.
    fewer = unseen if dead & set(SHARDS) else 0.0
    more += IN_FLIGHT if dead & set(SHARDS) else 0.0
    difference = stored - acknowledged
    fits = -fewer <= difference <= more
    bound = f" of {0 - fewer:+.0f}..{more:+.0f}" if more or fewer else ""
    return fits and acknowledged > 0, f"{acknowledged:.0f} acknowledged, {difference:+.0f} stored{bound}"
