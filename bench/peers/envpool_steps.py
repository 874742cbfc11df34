"""EnvPool: steps/s of a vectorised environment with random actions drawn in advance. EnvPool restarts ended episodes.

If `--batch` is below `--envs`, it runs asynchronously: `recv` returns the environments that are ready first.
"""

import argparse
import time

import envpool
import numpy as np

from measurement import claim_stdout, limit_seconds, report

# Number of batches of actions that are drawn in advance.
DRAWN = 64


def steps(pool, actions, seconds):
    """Steps the environment for at least `seconds` and returns the number of steps and the elapsed seconds."""
    count, calls, start = 0, 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        ids = pool.recv()[-1]["env_id"]
        pool.send(actions[calls % DRAWN], ids)
        count, calls = count + len(ids), calls + 1
    return count, passed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=0.6)
    parser.add_argument("--limit", type=int, default=60, help="seconds after which the script gives up")
    arguments = parser.parse_args()
    result = claim_stdout()
    limit_seconds(arguments.limit)
    pool = envpool.make(
        arguments.env,
        env_type="gymnasium",
        num_envs=arguments.envs,
        batch_size=arguments.batch,
        num_threads=arguments.threads,
        seed=0,
    )
    space = pool.action_space
    shape = (DRAWN, arguments.batch, *space.shape)
    actions = np.random.default_rng(0).uniform(space.low, space.high, shape)
    pool.async_reset()
    steps(pool, actions, arguments.warmup)
    count, seconds = steps(pool, actions, arguments.seconds)
    report(
        result,
        peer="EnvPool",
        package="envpool",
        figure=round(count / seconds, 1),
        unit="steps/s",
        config={name: getattr(arguments, name) for name in ("env", "threads", "envs", "batch")},
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
