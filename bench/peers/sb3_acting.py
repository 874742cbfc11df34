"""Stable-Baselines3: steps/s of acting in the usual way: `predict` with SAC's default policy, then `step`."""

import argparse
import time

import gymnasium
import torch
from stable_baselines3 import SAC

from measurement import claim_stdout, limit_seconds, report


def act(model, env, obs, seconds):
    """Acts for at least `seconds`. Returns the number of steps, the elapsed seconds and the last observation."""
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        action, _ = model.predict(obs, deterministic=False)
        obs, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            obs, _ = env.reset()
        count += 1
    return count, passed, obs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--limit", type=int, default=120, help="seconds after which the script gives up")
    arguments = parser.parse_args()
    result = claim_stdout()
    limit_seconds(arguments.limit)
    torch.set_num_threads(arguments.threads)
    env = gymnasium.make(arguments.env, disable_env_checker=True)
    # Nothing is trained, so a small buffer is enough.
    model = SAC("MlpPolicy", env, buffer_size=1, device="cpu", seed=0)
    obs, _ = env.reset(seed=0)
    _, _, obs = act(model, env, obs, arguments.warmup)
    count, seconds, _ = act(model, env, obs, arguments.seconds)
    report(
        result,
        peer="Stable-Baselines3",
        package="stable-baselines3",
        figure=round(count / seconds, 1),
        unit="steps/s",
        config={"env": arguments.env, "threads": arguments.threads, "torch": torch.__version__},
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
