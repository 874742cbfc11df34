"""The common part of `sb3_updates.py` and `sbx_updates.py`: sizes, a prefilled buffer and the measurement.

Both libraries have Stable-Baselines3's interface: a model has a replay buffer and `train(gradient_steps, batch_size)`,
which samples, updates, and returns when the losses are known. Therefore the same code runs both.
"""

import argparse
import time

import gymnasium
import numpy as np

from measurement import claim_stdout, limit_seconds, note, report


def parse_arguments(description, gradient_steps):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--obs", type=int, default=17, help="length of an observation")
    parser.add_argument("--act", type=int, default=6, help="length of an action")
    parser.add_argument("--net", default="256,256", help="widths of the hidden layers, of actor and critics alike")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--gradient-steps",
        type=int,
        default=gradient_steps,
        help="updates in one call of `train`, which are one compiled loop in SBX",
    )
    parser.add_argument("--fill", type=int, default=100_000, help="transitions in the buffer")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the measurement, at least")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds after the first call that do not count")
    parser.add_argument("--limit", type=int, default=180, help="seconds after which the script gives up")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.net = [int(width) for width in arguments.net.split(",")]
    return arguments


class Shapes(gymnasium.Env):
    """An environment that only defines spaces. It is never stepped."""

    def __init__(self, obs, act):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (act,), np.float32)


def fill(buffer, arguments):
    """Fills the buffer with random transitions. One in a hundred ends its episode."""
    generator = np.random.default_rng(arguments.seed)
    obs = generator.standard_normal((arguments.fill + 1, 1, arguments.obs), dtype=np.float32)
    actions = generator.uniform(-1.0, 1.0, (arguments.fill, 1, arguments.act)).astype(np.float32)
    rewards = generator.standard_normal((arguments.fill, 1), dtype=np.float32)
    dones = generator.random((arguments.fill, 1)) < 0.01
    for at in range(arguments.fill):
        buffer.add(obs[at], obs[at + 1], actions[at], rewards[at], dones[at], [{}])


def make_model(sac, arguments, **options):
    """Returns the library's default SAC: automatic temperature, twin critics, both networks updated every time."""
    from stable_baselines3.common.logger import Logger

    model = sac(
        "MlpPolicy",
        Shapes(arguments.obs, arguments.act),
        batch_size=arguments.batch,
        buffer_size=arguments.fill,
        policy_kwargs={"net_arch": arguments.net},
        seed=arguments.seed,
        **options,
    )
    # `learn` would set up a logger. This one writes nothing.
    model.set_logger(Logger(folder=None, output_formats=[]))
    fill(model.replay_buffer, arguments)
    return model


def measure(sac, arguments, *, peer, package, config, **options):
    """Prints the updates per second of `model.train`, without the first calls, in which JAX compiles."""
    result = claim_stdout()
    limit_seconds(arguments.limit)
    model = make_model(sac, arguments, **options)

    def train_for(seconds):
        updates, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            model.train(gradient_steps=arguments.gradient_steps, batch_size=arguments.batch)
            updates += arguments.gradient_steps
        return updates, passed

    train_for(1e-9)
    note("first call of `train` done")
    train_for(arguments.warmup)
    updates, seconds = train_for(arguments.seconds)
    sizes = {name: getattr(arguments, name) for name in ("batch", "obs", "act", "net", "threads", "gradient_steps")}
    report(
        result,
        peer=peer,
        package=package,
        figure=round(updates / seconds, 1),
        unit="updates/s",
        config=sizes | config,
        seconds=seconds,
    )
