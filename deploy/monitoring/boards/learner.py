"""The dashboard of the learner."""

from boards.panels import POSITIVE, SHARE, dashboard, panel, process_panels
from boards.queries import BATCH_WAIT, UPDATES

BOARD = dashboard(
    "learner",
    "Sapex / Learner",
    "The learner: losses, its device, what it sends, what it keeps.",
    'sapex_learner_done_updates_total{run=~"$run"}',
    [
        (
            "Is it learning?",
            [
                panel(
                    "Critic loss",
                    "short",
                    ("sapex_learner_critic_loss{*}", "{{run}}"),
                    bad=(
                        "It may rise while returns rise. Grows without bound: diverging. Lower learner.lr_critic or "
                        "cluster.gamma."
                    ),
                ),
                panel(
                    "Actor loss",
                    "short",
                    ("sapex_learner_actor_loss{*}", "{{run}}"),
                    bad=(
                        "About minus the value of the policy. Rises steadily: the policy gets worse by the critics' "
                        "own account."
                    ),
                ),
                panel(
                    "Updates refused",
                    "short",
                    ("sapex_learner_refused_updates_total{*}", "{{run}}"),
                    bad=(
                        "Above 0: updates diverge. The log names the row to blame. Bound rewards and observations, or "
                        "lower learner.lr_critic."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Temperature",
                    "short",
                    ("sapex_learner_alpha{*}", "{{run}}"),
                    bad=(
                        "Near 0 while returns are poor: exploration has stopped, raise learner.target_entropy_per_dim. "
                        "At learner.alpha_max: no policy reaches the target entropy, lower it."
                    ),
                ),
                panel(
                    "Policy entropy, in nats",
                    "short",
                    ("sapex_learner_entropy_nats{*}", "{{run}}"),
                    bad=(
                        "Far from learner.target_entropy_per_dim times the action dimensions: the temperature has not "
                        "settled."
                    ),
                ),
                panel(
                    "Effective sample size of the weights",
                    "percentunit",
                    ("sapex_learner_weight_ess_ratio{*}", "{{run}}"),
                    bad=(
                        "As a share of the batch. Near 0: a few items dominate. Lower replay.priority_exponent or "
                        "learner.importance_sampling_exponent."
                    ),
                    **SHARE,
                ),
            ],
        ),
        (
            "Is the device idle?",
            [
                panel(
                    "Updates per second",
                    "short",
                    (UPDATES, "{{run}}"),
                    bad=(
                        "Falls while it waits little: the device or its cores are shared with somebody. Falls while it "
                        "waits much: starved, see the next panel."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Share of time waiting for batches",
                    "percentunit",
                    ("sapex_learner_idle_ratio{*}", "{{run}} at the last report"),
                    (f"clamp_max({BATCH_WAIT}, 1)", "{{run}} now"),
                    bad=(
                        "Near 1: starved. If the replay dashboard shows held samples, add actors or raise "
                        "replay.samples_per_insert; if not, the replay servers or the network are slow: more shards, "
                        "or a larger learner.prefetch_batches."
                    ),
                    **SHARE,
                ),
                panel(
                    "Sample requests held back per second",
                    "short",
                    ("rate(sapex_learner_held_samples_total{*}[~])", "{{run}}"),
                    bad=(
                        "Requests that a limiter held until their time was over. Rises: the replay waits for inserts; "
                        "add actors."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "Do weights and priorities get out?",
            [
                panel(
                    "Weight messages per second",
                    "short",
                    ("rate(sapex_learner_weight_publications_total{*}[~])", "{{run}} sent"),
                    (
                        "rate(sapex_transport_dropped_outdated_news_total{*}[~])",
                        "{{run}} replaced before they were taken",
                    ),
                    bad=(
                        "Sent is at 0: actors act on old weights. Replaced is near sent: the network does not carry "
                        "them all. Raise learner.publish_updates."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Bytes of weights per second",
                    "Bps",
                    ("rate(sapex_learner_published_bytes_total{*}[~])", "{{run}}"),
                    bad=(
                        "Before fan-out: each actor gets as much. Times the number of actors near the speed of the "
                        "link: raise learner.publish_updates."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Priorities dropped per second",
                    "short",
                    ("rate(sapex_learner_dropped_priorities_total{*}[~])", "{{run}}"),
                    bad="Above 0: the network to the replay servers cannot keep up, and sampling uses old priorities.",
                    **POSITIVE,
                ),
            ],
        ),
        (
            "Could it go on after a crash?",
            [
                panel(
                    "Time since the last checkpoint",
                    "s",
                    (
                        "time() - (sapex_learner_checkpoint_written_seconds{*} > 0 or process_start_time_seconds{*} and on (job, instance) sapex_learner_checkpoint_written_seconds{*})",
                        "{{run}}",
                    ),
                    bad=(
                        "Since the start, where there is no checkpoint yet. A crash loses that much training. Rises "
                        "without a drop: look at failed checkpoints, else lower learner.checkpoint_updates."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Checkpoints that failed",
                    "short",
                    ("sapex_learner_failed_checkpoints_total{*}", "{{run}}"),
                    bad="Above 0: the log names the path and the reason, most often a full volume. Training goes on.",
                    **POSITIVE,
                ),
                panel(
                    "Age of sampled rows, in versions",
                    "short",
                    ("sapex_learner_item_age_versions{*}", "{{run}}"),
                    bad="Far above what the table's size explains: actors do not get weights.",
                    **POSITIVE,
                ),
            ],
        ),
        ("What does its process use?", process_panels()),
    ],
)
