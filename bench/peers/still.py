"""Environments that do nothing, for measuring the overhead of the bridge to Python. As a script, measures the time of
the environments alone, or the overhead of Gymnasium's vector environments."""

import argparse
import time

import gymnasium
import numpy as np


class Still(gymnasium.Env):
    """An environment that does nothing, so that the time of a batch is the time of the bridge."""

    observation_space = gymnasium.spaces.Box(-1, 1, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)
    obs = np.zeros(17, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.obs, {}

    def step(self, action):
        return self.obs, 0.0, False, False, {}


gymnasium.register("Still-v0", Still)


def median_micros(step, batches):
    times = []
    for _ in range(batches):
        began = time.perf_counter_ns()
        step()
        times.append(time.perf_counter_ns() - began)
    return sorted(times)[len(times) // 2] / 1e3


def alone(lanes, batches):
    """Returns the microseconds in which `lanes` environments take a step one after the other."""
    envs = [make() for _ in range(lanes)]
    action = np.zeros(6, np.float32)
    for env in envs:
        env.reset()

    def step():
        for env in envs:
            env.step(action)

    return median_micros(step, batches)


def together(vector, lanes, batches):
    """Returns the microseconds of a step of one of Gymnasium's vector environments."""
    envs = vector([make] * lanes)
    actions = np.zeros((lanes, 6), np.float32)
    envs.reset()
    micros = median_micros(lambda: envs.step(actions), batches)
    envs.close()
    return micros


def make():
    return gymnasium.make("Still-v0", disable_env_checker=True)


VECTORS = {"sync": gymnasium.vector.SyncVectorEnv, "async": gymnasium.vector.AsyncVectorEnv}


def main():
    from measurement import claim_stdout, limit_seconds, report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--vector", choices=VECTORS, help="what this costs beyond the environments' own time")
    parser.add_argument("--limit", type=int, default=60, help="seconds after which the script gives up")
    arguments = parser.parse_args()
    result = claim_stdout()
    limit_seconds(arguments.limit)
    began = time.perf_counter()
    figure = alone(arguments.lanes, arguments.batches)
    if arguments.vector:
        figure = together(VECTORS[arguments.vector], arguments.lanes, arguments.batches) - figure
    report(
        result,
        peer=f"Gymnasium's {VECTORS[arguments.vector].__name__}" if arguments.vector else "Gymnasium",
        package="gymnasium",
        figure=figure,
        unit="us/batch",
        config={"lanes": arguments.lanes},
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    main()
