"""The dashboard of a whole run."""

from boards.panels import POSITIVE, SHARE, dashboard, named, panel
from boards.queries import BATCH_WAIT, EVALUATED, EXPLORING, RATIO, STEPS, UPDATES

BOARD = dashboard(
    "overview",
    "Sapex / Overview",
    "One page for a whole run. Each row asks one question; the other dashboards go into detail.",
    'sapex_build_info{run=~"$run"}',
    [
        (
            "Is it learning?",
            [
                panel(
                    "Return",
                    "short",
                    (f"avg by (run) ({EVALUATED})", "{{run}}"),
                    kind="stat",
                    width=4,
                    height=4,
                    bad=(
                        "Mean return of the latest deterministic evaluation. Empty: there is no evaluator, or it has "
                        "not ended its first evaluation."
                    ),
                ),
                panel(
                    "Environment steps",
                    "short",
                    ("sum by (run) (sapex_actor_env_steps_total{*})", "{{run}}"),
                    kind="stat",
                    width=4,
                    height=4,
                    bad="Steps of the actors that run now. If it stands still, look at who is the bottleneck below.",
                ),
                panel(
                    "Updates",
                    "short",
                    ("sum by (run) (sapex_learner_done_updates_total{*})", "{{run}}"),
                    kind="stat",
                    width=4,
                    height=4,
                    bad="Updates since the learner started. If it stands still, look at who is the bottleneck below.",
                ),
                panel(
                    "Learner waits",
                    "percentunit",
                    (f"max by (run) (clamp_max({BATCH_WAIT}, 1))", "{{run}}"),
                    kind="stat",
                    width=4,
                    height=4,
                    steps=[(0.5, "yellow"), (0.9, "red")],
                    bad=(
                        "Share of time that the learner waits for batches. Near 100%: it is starved. Add actors, or "
                        "raise replay.samples_per_insert."
                    ),
                ),
                panel(
                    "Oldest policy in use",
                    "s",
                    ("max by (run) (sapex_actor_policy_age_seconds{*})", "{{run}}"),
                    kind="stat",
                    width=4,
                    height=4,
                    steps=[(60, "yellow"), (120, "red")],
                    bad=(
                        "Above two minutes: the learner has stopped, or its weights do not reach an actor. The actors' "
                        "dashboard shows which one."
                    ),
                ),
                panel(
                    "Firing alerts",
                    "short",
                    ('count(ALERTS{alertstate="firing", alertname=~"Sapex.+"}) or vector(0)', "alerts"),
                    kind="stat",
                    width=4,
                    height=4,
                    steps=[(1, "red")],
                    bad="Alerts of all runs. docs/monitoring.md says what to do about each of them.",
                ),
                panel(
                    "Return",
                    "short",
                    (f"avg by (run) ({EVALUATED})", "{{run}} evaluated"),
                    (f"avg by (run) ({EXPLORING})", "{{run}} exploring"),
                    width=12,
                    bad=(
                        "The evaluator's deterministic episodes, and the actors' own, which explore. Both fall for "
                        "long: training diverges, see the learner's losses. Both are flat from the start: the rewards "
                        "are too rare, or the temperature is wrong."
                    ),
                ),
                panel(
                    "Steps and updates per second",
                    "short",
                    (STEPS, "{{run}} environment steps"),
                    (UPDATES, "{{run}} updates"),
                    width=12,
                    bad=(
                        "Both fall together: the limiter ties one to the other, and the next row shows which side is "
                        "slow. One is at 0: that side has stopped."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "Who is the bottleneck?",
            [
                panel(
                    "Share of time spent waiting",
                    "percentunit",
                    (f"max by (run) (clamp_max({BATCH_WAIT}, 1))", "{{run}} learner waits for batches"),
                    (
                        "avg by (run) (rate(sapex_replay_sample_wait_seconds_total{*}[~]))",
                        "{{run}} limiter holds samples",
                    ),
                    (
                        "avg by (run) (rate(sapex_replay_insert_wait_seconds_total{*}[~]))",
                        "{{run}} limiter holds inserts",
                    ),
                    width=16,
                    bad=(
                        "Samples are held: actors are the bottleneck, add some. Inserts are held: the learner is, "
                        "which is as it should be for its device; fewer actors would do. Only the learner waits: the "
                        "replay servers or the network are too slow."
                    ),
                    **SHARE,
                ),
                panel(
                    "Samples per inserted row",
                    "short",
                    (RATIO.format("run"), "{{run}}"),
                    bad=(
                        "What the limiter achieves. Far from replay.samples_per_insert for long: one side has stopped, "
                        "or there is no limit (0)."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "How stale are the policies?",
            [
                panel(
                    "Age of the policies in use",
                    "s",
                    ("max by (run) (sapex_actor_policy_age_seconds{*})", "{{run}} oldest"),
                    ("quantile by (run) (0.5, sapex_actor_policy_age_seconds{*})", "{{run}} median"),
                    width=12,
                    bad=(
                        "Only the oldest rises: one actor gets no weights. Both rise: the learner has stopped, or "
                        "updates too rarely."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Age of sampled rows, in versions",
                    "short",
                    ("max by (run) (sapex_learner_item_age_versions{*})", "{{run}}"),
                    width=12,
                    bad=(
                        "It grows with the table and then stays. Far above what the table's size explains: actors do "
                        "not get weights."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "What died and came back?",
            [
                panel(
                    "Processes that answer",
                    "short",
                    (
                        "min by (job, instance) (up) and on (job, instance) last_over_time(sapex_build_info{*}[$__range])",
                        "{{job}} {{instance}}",
                    ),
                    kind="state-timeline",
                    width=12,
                    height=9,
                    steps=[(1, "green")],
                    below="red",
                    mappings=named({0: "does not answer", 1: "answers"}),
                    bad=(
                        "Green: Prometheus reaches its admin port. Red: it does not; read the process' log. A gap: "
                        "nobody expects it there any more, for example after scaling down."
                    ),
                ),
                panel(
                    "The ten youngest processes",
                    "s",
                    ("bottomk(10, time() - process_start_time_seconds{*})", "{{job}} {{instance}}"),
                    width=12,
                    height=9,
                    bad=(
                        "Each drop to 0 is a start. Several drops of one process: it fails again and again; the log of "
                        "the start before says why."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Connections made again per second",
                    "short",
                    ("sum by (run, job) (rate(sapex_transport_reconnects_connections_total{*}[~]))", "{{run}} {{job}}"),
                    bad=(
                        "A short peak follows every restart. Steady: the network, or a process on the other side, is "
                        "unstable."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Firing alerts",
                    "short",
                    ('count by (alertname) (ALERTS{alertstate="firing", run=~"$run"})', "{{alertname}}"),
                    kind="state-timeline",
                    below="red",
                    bad="Empty is good. docs/monitoring.md says what to do about each alert.",
                ),
                panel(
                    "Certificates expire in",
                    "s",
                    ("bottomk(10, sapex_tls_certificate_expiry_seconds{*} - time())", "{{instance}} {{file}}"),
                    bad=(
                        "The ten that expire first; empty where TLS is off. Below a week: replace the files in place. "
                        "Processes read them again within ten seconds."
                    ),
                ),
            ],
        ),
    ],
)
