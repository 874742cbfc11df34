"""Expressions that several dashboards use."""

EVALUATED = "sapex_evaluator_return{*} and sapex_evaluator_policy_versions{*} > 0"
EXPLORING = "sapex_actor_episode_return{*} and sapex_actor_ended_episodes_total{*} > 0"
UPDATES = "sum by (run) (rate(sapex_learner_done_updates_total{*}[~]))"
STEPS = "sum by (run) (rate(sapex_actor_env_steps_total{*}[~]))"
BATCH_WAIT = "rate(sapex_learner_batch_wait_seconds_total{*}[~])"
RATIO = "sum by ({0}) (rate(sapex_replay_sampled_items_total{{*}}[~])) / sum by ({0}) (rate(sapex_replay_inserted_items_total{{*}}[~]))"
