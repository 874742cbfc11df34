"""The dashboard of the actors and the evaluator."""

from boards.panels import POSITIVE, dashboard, panel, process_panels
from boards.queries import EVALUATED, EXPLORING, STEPS

BOARD = dashboard(
    "actors",
    "Sapex / Actors",
    "Actors and the evaluator. Where it says ten, it shows the ten worst of all that are chosen.",
    '{__name__=~"sapex_actor_env_steps_total|sapex_evaluator_return", run=~"$run"}',
    [
        (
            "Is it learning?",
            [
                panel(
                    "Return",
                    "short",
                    (EVALUATED, "{{run}} evaluated"),
                    (f"max by (run) ({EXPLORING})", "{{run}} best actor"),
                    (f"avg by (run) ({EXPLORING})", "{{run}} mean"),
                    (f"min by (run) ({EXPLORING})", "{{run}} worst actor"),
                    width=12,
                    bad=(
                        "Falls for long: training diverges, see the learner's losses. One actor is far below the "
                        "others: its environment differs or is broken."
                    ),
                ),
                panel(
                    "Length of episodes, in steps",
                    "short",
                    ("avg by (run) (sapex_actor_episode_length_steps{*} > 0)", "{{run}}"),
                    width=6,
                    bad="Flat at the time limit, or at its shortest: the policy does not change what happens.",
                    **POSITIVE,
                ),
                panel(
                    "Policy version of the evaluation",
                    "short",
                    ("sapex_evaluator_policy_versions{*}", "{{run}}"),
                    width=6,
                    bad=(
                        "Flat while the learner publishes: the evaluator is stuck, or gets no weights. Steps are "
                        "normal: one per evaluation."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "Do they act?",
            [
                panel(
                    "Environment steps per second",
                    "short",
                    (STEPS, "{{run}} all actors"),
                    bad="Flat at 0: the limiter holds inserts, no replay server answers, or environments hang.",
                    **POSITIVE,
                ),
                panel(
                    "The ten slowest actors, in steps per second",
                    "short",
                    (
                        "bottomk(10, sum by (run, actor) (rate(sapex_actor_env_steps_total{*}[~])))",
                        "{{run}} actor {{actor}}",
                    ),
                    bad=(
                        "One is far below the others: its machine is slow or shared. All are low: the limiter holds "
                        "them, see the replay dashboard."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Time of a turn",
                    "s",
                    (
                        "histogram_quantile(0.5, sum by (run, le) (rate(sapex_actor_turn_seconds_bucket{*}[~])))",
                        "{{run}} median",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (run, le) (rate(sapex_actor_turn_seconds_bucket{*}[~])))",
                        "{{run}} slowest 1%",
                    ),
                    bad=(
                        "Policy, environments and rows of all lanes. Far above the environment's own time: too few "
                        "cores for the actors on that machine."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "How stale are the policies?",
            [
                panel(
                    "The ten oldest policies in use",
                    "s",
                    ("topk(10, max by (run, actor) (sapex_actor_policy_age_seconds{*}))", "{{run}} actor {{actor}}"),
                    bad=(
                        "One rises steadily: that actor gets no weights, see its log. All rise: the learner has "
                        "stopped."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "The ten largest leaps, in versions",
                    "short",
                    ("topk(10, max by (run, actor) (sapex_actor_policy_lag_versions{*}))", "{{run}} actor {{actor}}"),
                    bad=(
                        "Versions skipped at the last change of policy. Large for long: turns are slow, or the limiter "
                        "holds the actor. Give it cores, or raise learner.publish_updates."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Policies per second and actor",
                    "short",
                    ("avg by (run) (rate(sapex_actor_received_policies_total{*}[~]))", "{{run}} received"),
                    ("avg by (run) (rate(sapex_actor_refused_policies_total{*}[~]))", "{{run}} refused"),
                    bad=(
                        "Refused above 0: two configurations meet; the actor's log says what differs. Received at 0: "
                        "the learner publishes nothing, or it does not get here."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "Do their rows get away?",
            [
                panel(
                    "The ten fullest spools, in rows",
                    "short",
                    ("topk(10, max by (run, actor) (sapex_actor_spool_rows{*}))", "{{run}} actor {{actor}}"),
                    bad="Near actor.spool_rows: no replay server answers, and the environments will wait.",
                    **POSITIVE,
                ),
                panel(
                    "Rows acknowledged per second",
                    "short",
                    ("sum by (run) (rate(sapex_actor_acknowledged_rows_total{*}[~]))", "{{run}}"),
                    bad="Flat while steps rise: rows pile up in the spools. Look at the replay servers.",
                    **POSITIVE,
                ),
                panel(
                    "Batches sent again per second",
                    "short",
                    ("sum by (run) (rate(sapex_actor_resent_batches_total{*}[~]))", "{{run}}"),
                    bad=(
                        "A peak follows a restart of a replay server. Steady: the network loses messages, or the "
                        "limiter holds inserts for seconds."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        (
            "What failed?",
            [
                panel(
                    "Episodes thrown away per second",
                    "short",
                    (
                        "sum by (reason) (rate(sapex_actor_discarded_episodes_total{*}[~])) or on () vector(0)",
                        "episodes {{reason}}",
                    ),
                    bad="By reason. Above 0: the log names the environment and what happened.",
                    **POSITIVE,
                ),
                panel(
                    "Evaluations that failed",
                    "short",
                    ("sapex_evaluator_failed_evaluations_total{*}", "{{run}} evaluations without an episode"),
                    ("sapex_evaluator_discarded_episodes_total{*}", "{{run}} episodes"),
                    bad=(
                        "Above 0: the evaluator's log says why. After three evaluations in a row without an episode it "
                        "rests."
                    ),
                    **POSITIVE,
                ),
                panel(
                    "Episodes ended per second",
                    "short",
                    ("sum by (run) (rate(sapex_actor_ended_episodes_total{*}[~]))", "{{run}}"),
                    bad=(
                        "At 0 while steps rise: episodes are very long, or never end. Set a time limit "
                        "(cluster.wrappers)."
                    ),
                    **POSITIVE,
                ),
            ],
        ),
        ("What do their processes use?", process_panels()),
    ],
)
