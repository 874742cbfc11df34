"""SBX SAC on Pendulum-v1: wall-clock time until a mean deterministic return of at least -200 over 20 episodes.

The clock starts after the imports and stops when an evaluation reaches the target. The time includes building the
model, compiling, random warm-up, stepping, updates, and the evaluations. The time of the evaluations is also reported
separately.
"""

import argparse
import time

from measurement import claim_stdout, limit_seconds, note, report
from xla_threads import set_xla_threads


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--net", default="64,64", help="widths of the hidden layers, of actor and critics alike")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--learning-starts", type=int, default=100, help="random steps before the first update")
    parser.add_argument(
        "--train-freq", type=int, default=8, help="environment steps per call of `train`, and updates in it"
    )
    parser.add_argument("--evaluate-every", type=int, default=1000, help="environment steps between evaluations")
    parser.add_argument("--episodes", type=int, default=20, help="deterministic episodes in an evaluation")
    parser.add_argument("--target", type=float, default=-200.0, help="mean return at which the clock stops")
    parser.add_argument("--max-steps", type=int, default=20_000, help="environment steps after which it has failed")
    parser.add_argument("--limit", type=int, default=300, help="seconds after which the script gives up")
    arguments = parser.parse_args()
    arguments.net = [int(width) for width in arguments.net.split(",")]
    return arguments


def build(arguments):
    """Returns the model, and 20 environments that run the episodes of an evaluation in parallel, with one batch per
    step."""
    from sbx import SAC
    from stable_baselines3.common.env_util import make_vec_env

    model = SAC(
        "MlpPolicy",
        make_vec_env("Pendulum-v1", seed=arguments.seed),
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch,
        learning_starts=arguments.learning_starts,
        train_freq=arguments.train_freq,
        gradient_steps=arguments.train_freq,
        policy_kwargs={"net_arch": arguments.net},
        seed=arguments.seed,
    )
    return model, make_vec_env("Pendulum-v1", n_envs=arguments.episodes, seed=arguments.seed + 1000)


def mean_return(model, environments):
    """Returns the mean return of one episode per environment. Every episode of Pendulum-v1 has 200 steps, so all end
    together."""
    observations, returns, finished = environments.reset(), 0.0, False
    while not finished:
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, dones, _ = environments.step(actions)
        returns, finished = returns + rewards, dones.all()
    return float(returns.mean())


def train(arguments):
    """Trains and returns (total seconds, seconds of the evaluations, environment steps, return)."""
    start, evaluating = time.perf_counter(), 0.0
    model, environments = build(arguments)
    while True:
        model.learn(arguments.evaluate_every, reset_num_timesteps=model.num_timesteps == 0, log_interval=None)
        paused = time.perf_counter()
        achieved = mean_return(model, environments)
        now = time.perf_counter()
        evaluating += now - paused
        note(f"{model.num_timesteps} steps, {now - start:.1f} s: return {achieved:.1f}")
        if achieved >= arguments.target or model.num_timesteps >= arguments.max_steps:
            return now - start, evaluating, model.num_timesteps, achieved


def main():
    arguments = parse_arguments()
    result = claim_stdout()
    limit_seconds(arguments.limit)
    set_xla_threads(arguments.threads)
    import gymnasium  # noqa: F401  the clock starts after the imports, these among them
    import jax
    import sbx  # noqa: F401

    seconds, evaluating, steps, achieved = train(arguments)
    sizes = (
        "seed",
        "net",
        "batch",
        "learning_rate",
        "learning_starts",
        "train_freq",
        "evaluate_every",
        "episodes",
        "threads",
    )
    report(
        result,
        peer="SBX",
        package="sbx-rl",
        figure=round(seconds, 2),
        unit="s",
        config={name: getattr(arguments, name) for name in sizes}
        | {
            "solved": achieved >= arguments.target,
            "target": arguments.target,
            "return": round(achieved, 1),
            "env_steps": steps,
            "evaluation_seconds": round(evaluating, 2),
            "jax": jax.__version__,
        },
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
