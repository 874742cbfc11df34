"""What the bridge to Python is measured with: environments that do nothing, and as a script the time that they take alone."""

import argparse
import time

import gymnasium
import numpy as np


class Still(gymnasium.Env):
    """Does nothing, so that a batch's time is the bridge's."""

    observation_space = gymnasium.spaces.Box(-1, 1, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)
    obs = np.zeros(17, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.obs, {}

    def step(self, action):
        return self.obs, 0.0, False, False, {}


gymnasium.register("Still-v0", Still)


def main():
    from measurement import claim_stdout, limit_seconds, report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--limit", type=int, default=60, help="seconds after which the script gives up")
    arguments = parser.parse_args()
    result = claim_stdout()
    limit_seconds(arguments.limit)
    envs = [gymnasium.make("Still-v0", disable_env_checker=True) for _ in range(arguments.lanes)]
    action, times = np.zeros(6, np.float32), []
    for env in envs:
        env.reset()
    for _ in range(arguments.batches):
        began = time.perf_counter_ns()
        for env in envs:
            env.step(action)
        times.append(time.perf_counter_ns() - began)
    report(
        result,
        peer="Gymnasium",
        package="gymnasium",
        figure=sorted(times)[len(times) // 2] / 1e3,
        unit="us/batch",
        config={"lanes": arguments.lanes},
        seconds=sum(times) / 1e9,
    )


if __name__ == "__main__":
    main()
