"""`make chaos`: injects faults into a docker compose cluster, one after the other, and reports the results.

After each fault, every role must make progress again within a time limit, and the counts of rows must agree
(accounts.py). Exit status 0 means that both held after every fault that this machine can inject. Status 1 means that
one did not hold, and status 3 that no cluster could be started.
"""

import argparse
import os
import sys
import time

from accounts import Accounts, judge, settle
from cluster import ROLES, Cluster
from faults import ALL, SHORT, Fault, Skipped

UPDATES = "sapex_learner_done_updates_total"
# Counters that rise while a role makes progress.
PROGRESS = {
    "learner": [UPDATES],
    "replay-0": ["sapex_replay_inserted_items_total", "sapex_replay_sampled_items_total"],
    "replay-1": ["sapex_replay_inserted_items_total", "sapex_replay_sampled_items_total"],
    "actor": ["sapex_actor_env_steps_total"],
    "evaluator": ["sapex_evaluator_policy_versions"],
}
ACTORS = 4
# Long enough for a silent connection to be closed, opened again and used.
BOUND_SECONDS = 60.0


def progressed(cluster: Cluster, since: float, bound: float) -> float:
    """Waits until all progress counters of every role have risen, and returns the seconds from `since` until then."""
    firsts: dict[tuple, float] = {}
    moved: dict[tuple, float] = {}
    expected = {role: ACTORS if role == "actor" else 1 for role in ROLES}
    while True:
        with cluster.lock:
            lives = [(key, life.service, life.seen_at, dict(life.values), life) for key, life in cluster.lives.items()]
        for key, service, seen_at, _, life in lives:
            if seen_at <= since:
                continue
            for metric in PROGRESS[service]:
                value = life.sum(metric)
                if value > firsts.setdefault((service, key, metric), value):
                    moved.setdefault((service, key, metric), seen_at)
        done = {role: {key for service, key, _ in moved if service == role and all((role, key, m) in moved for m in PROGRESS[role])} for role in ROLES}
        if all(len(done[role]) >= expected[role] for role in ROLES):
            return max(moved.values()) - since
        if time.monotonic() - since > bound:
            still = [role for role in ROLES if len(done[role]) < expected[role]]
            raise TimeoutError(f"after {bound:.0f} s these do not go on: {', '.join(still)}")
        time.sleep(0.05)


class Table:
    """Prints the table of results line by line."""

    WIDTHS = (8, 24, 12, 18)

    def line(self, *cells: str) -> None:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(cells, self.WIDTHS, strict=False)) + "  " + cells[-1], flush=True)


def endure(cluster: Cluster, fault: Fault, before: Accounts, table: Table) -> tuple[bool, Accounts]:
    """Injects one fault and prints its line. Returns whether all checks passed, and the row counts afterwards."""
    begun = time.monotonic()
    updates = cluster.total("learner", UPDATES)
    meanwhile = 0.0
    try:
        with fault.do(cluster):
            meanwhile = cluster.total("learner", UPDATES) - updates
            undone = time.monotonic()
        recovery = progressed(cluster, max(undone, begun), BOUND_SECONDS)
    except Skipped as reason:
        table.line(fault.kind, fault.target, "SKIPPED", "", str(reason))
        return True, before
    except (TimeoutError, RuntimeError) as error:
        table.line(fault.kind, fault.target, "FAILED", "", str(error))
        return False, settle(cluster)
    after = settle(cluster, None if fault.dead else before)
    fits, rows = judge(before, after, fault.dead, cluster.take_peak())
    goes_on = meanwhile > 0 or not fault.goes_on
    verdict = "" if fits and goes_on else "FAILED: rows" if goes_on else "FAILED: stood still"
    during = f"{meanwhile:.0f} updates" if undone - begun > 1 and not fault.dead else ""
    table.line(fault.kind, fault.target, f"{recovery:.1f} s", during, f"{rows} {verdict}")
    return fits and goes_on, after


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--short", action="store_true", help="three faults instead of all")
    arguments.add_argument("--only", metavar="KIND", nargs="+", help="faults of these kinds: kill, pause, cut, unplug, slow, fill, roll")
    chosen = arguments.parse_args()
    try:
        cluster = Cluster(f"sapex-chaos-{os.getpid()}")
    except RuntimeError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 3
    with cluster:
        progressed(cluster, time.monotonic(), 2 * BOUND_SECONDS)
        table, well = Table(), True
        table.line("fault", "of", "goes on in", "meanwhile", "rows since the fault before")
        accounts = settle(cluster)
        for fault in SHORT if chosen.short else [f for f in ALL if not chosen.only or f.kind in chosen.only]:
            progressed(cluster, time.monotonic(), BOUND_SECONDS)
            fine, accounts = endure(cluster, fault, accounts, table)
            well &= fine
    print("all went on, and no acknowledged row was lost or doubled" if well else "FAILED", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
