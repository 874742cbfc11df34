"""The dashboard of the replay servers, by shard."""

from boards.panels import POSITIVE, SHARE, dashboard, panel, process_panels
from boards.queries import RATIO

GUARD = {
    "refused": "the port was full",
    "refused_timeout": "no handshake in time",
    "refused_handshake": "wrong greeting",
    "refused_protocol": "wrong protocol",
    "refused_frame_bytes": "frame too large",
    "refused_message": "message too large",
    "refused_subscriptions": "too many subscriptions",
    "closed_silent": "silent for too long",
    "closed_stalled": "took nothing for too long",
    "closed_memory": "replies took too much memory",
    "closed_useless": "of no use at a full port",
}

BY_SHARD = "{{run}} shard {{shard}}"


def by_shard(metric):
    """Returns the expression for the rate of a counter, per shard."""
    return f"sum by (run, shard) (rate({metric}{{*}}[~]))"


def largest_over_mean(metric):
    """Returns the expression for the ratio of the largest shard to the mean of all shards."""
    shards = f"sum by (run, shard) ({metric}{{*}})"
    return f"max by (run) ({shards}) / avg by (run) ({shards})"


BOARD = dashboard(
    "replay",
    "Sapex / Replay",
    "The replay servers, shard by shard.",
    'sapex_replay_table_items{run=~"$run"}',
    [
        (
            "Whom does the limiter hold?",
            [
                panel(
                    "Share of time that inserts are held",
                    "percentunit",
                    (by_shard("sapex_replay_insert_wait_seconds_total"), BY_SHARD),
                    bad=(
                        "Near 1: the learner is the bottleneck, which is expected when actors are fast. Fewer actors "
                        "would do, or a faster learner."
                    ),
                    **SHARE,
                ),
                panel(
                    "Share of time that samples are held",
                    "percentunit",
                    (by_shard("sapex_replay_sample_wait_seconds_total"), BY_SHARD),
                    bad=(
                        "Near 1: actors are the bottleneck. Add actors, or raise replay.samples_per_insert. One shard "
                        "alone: its inserts do not arrive."
                    ),
                    **SHARE,
                ),
                panel(
                    "Samples per inserted row",
                    "short",
                    (RATIO.format("run, shard"), BY_SHARD),
                    bad=(
                        "What the limiter achieves. Far from replay.samples_per_insert for long: one side has stopped, "
                        "or there is no limit (0)."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "Do rows flow?",
            [
                panel(
                    "Rows inserted per second",
                    "short",
                    (by_shard("sapex_replay_inserted_items_total"), BY_SHARD),
                    bad="At 0: no actor is connected, or the limiter waits for samples.",
                    **POSITIVE,
                ),
                panel(
                    "Rows sampled per second",
                    "short",
                    (by_shard("sapex_replay_sampled_items_total"), BY_SHARD),
                    bad="At 0: the learner is gone, or the limiter waits for inserts.",
                    **POSITIVE,
                ),
                panel(
                    "Priorities per second",
                    "short",
                    ("sum by (run) (rate(sapex_replay_updated_priorities_total{*}[~]))", "{{run}} updated"),
                    ("sum by (run) (rate(sapex_replay_stale_priorities_total{*}[~]))", "{{run}} too late"),
                    bad=(
                        "Updated at 0 while rows are sampled: priorities do not come back. Too late is close to "
                        "updated: replay.capacity is small for the sampling rate."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "Is a shard skewed?",
            [
                panel(
                    "Rows in the tables",
                    "short",
                    ("sum by (run, shard) (sapex_replay_table_items{*})", BY_SHARD),
                    width=6,
                    bad=(
                        "Shards differ much: inserts are skewed; some actors do not reach one of them. A drop to 0: a "
                        "server came back without its rows."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Sum of priorities",
                    "short",
                    ("sum by (run, shard) (sapex_replay_priority_mass{*})", BY_SHARD),
                    width=6,
                    bad=(
                        "Shards of equal size differ much: one holds the surprising items, and is sampled more. It "
                        "evens out as rows are overwritten."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Largest shard over the mean",
                    "short",
                    (largest_over_mean("sapex_replay_table_items"), "{{run}} rows"),
                    (largest_over_mean("sapex_replay_priority_mass"), "{{run}} priorities"),
                    (largest_over_mean("sapex_replay_sampled_items_total"), "{{run}} samples since the start"),
                    width=6,
                    bad=(
                        "1 is even. Above 1.5 for long: the largest shard limits the others. See which one, in the "
                        "panels beside."
                    ),
                ),
                panel(
                    "Effective sample size of the priorities",
                    "percentunit",
                    (
                        "sum by (run, shard) (sapex_replay_priority_ess_items{*}) / sum by (run, shard) (sapex_replay_table_items{*} > 0)",
                        BY_SHARD,
                    ),
                    width=6,
                    bad="As a share of the table. Near 0: sampling dwells on few items. Lower replay.priority_exponent.",
                    **SHARE,
                ),
            ],
        ),
        (
            "What is refused?",
            [
                panel(
                    "Values refused",
                    "short",
                    ("sum by (run) (sapex_replay_refused_items_total{*})", "{{run}} rows"),
                    ("sum by (run) (sapex_replay_refused_priorities_total{*})", "{{run}} priorities"),
                    bad=(
                        "Rows above 0: an environment or a policy produces numbers that are none or too large; the log "
                        "names the actor. Priorities above 0: the learner diverges."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Batches refused per second",
                    "short",
                    ("sum by (run) (rate(sapex_replay_duplicate_batches_total{*}[~]))", "{{run}} had arrived before"),
                    ("sum by (run) (rate(sapex_replay_gap_batches_total{*}[~]))", "{{run}} came too early"),
                    (
                        "sum by (run) (rate(sapex_replay_inbox_full_commands_total{*}[~]))",
                        "{{run}} requests at a full queue",
                    ),
                    bad=(
                        "Peaks follow restarts. Batches steadily: the network loses messages, or the limiter holds "
                        "inserts for seconds. Requests: a shard's thread cannot keep up, add shards."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Clients that broke the protocol",
                    "short",
                    ("sum by (run) (sapex_replay_malformed_messages_total{*})", "{{run}} messages"),
                    ("sum by (run) (sapex_replay_quarantined_connections{*})", "{{run}} connections in quarantine"),
                    bad="Above 0: a client of another version, or somebody else on the port; the log names the peer.",
                    **POSITIVE,
                ),
                panel(
                    "Connections closed by the guards",
                    "short",
                    *(
                        (f"sum(sapex_transport_guard_{name}_connections_total{{*}})", why)
                        for name, why in GUARD.items()
                    ),
                    width=16,
                    bad=(
                        "Since the start of the chosen replay servers, by reason. Above 0: a scanner or a health check "
                        "on the wrong port, a broken client, or a network that vanished; the log names the peer."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Replies dropped per second",
                    "short",
                    (
                        "sum by (run) (rate(sapex_transport_dropped_no_peer_replies_total{*}[~]))",
                        "{{run}} the peer is gone",
                    ),
                    (
                        "sum by (run) (rate(sapex_transport_dropped_slow_peer_replies_total{*}[~]))",
                        "{{run}} the peer does not read",
                    ),
                    ("sum by (run) (rate(sapex_transport_refused_oversize_messages_total{*}[~]))", "{{run}} too large"),
                    bad=(
                        "Gone, steadily: clients come and go. Does not read: a client asks for more than it takes. Too "
                        "large: rows, batches or a policy; the log says by how much."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        ("What do their processes use?", process_panels()),
    ],
)
