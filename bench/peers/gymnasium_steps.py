"""Gymnasium: steps/s of one environment in a loop, with random actions drawn in advance and a reset after each
episode."""

import argparse
import time

import gymnasium
import numpy as np

from measurement import claim_stdout, limit_seconds, report


def steps(env, actions, seconds):
    """Steps the environment for at least `seconds` and returns the number of steps and the elapsed seconds. The clock
    is read once per pass through the actions."""
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        count += len(actions)
    return count, passed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=0.6)
    parser.add_argument("--limit", type=int, default=60, help="seconds after which the script gives up")
    arguments = parser.parse_args()
    result = claim_stdout()
    limit_seconds(arguments.limit)
    env = gymnasium.make(arguments.env, disable_env_checker=True)
    space = env.action_space
    actions = list(np.random.default_rng(0).uniform(space.low, space.high, (1000, *space.shape)).astype(space.dtype))
    env.reset(seed=0)
    steps(env, actions, arguments.warmup)
    count, seconds = steps(env, actions, arguments.seconds)
    report(
        result,
        peer="Gymnasium",
        package="gymnasium",
        figure=round(count / seconds, 1),
        unit="steps/s",
        config={"env": arguments.env},
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
