"""Writes small datasets with the real `minari` library (bench/requirements-minari.txt), for tests of the offline reader.

    python minari_dataset.py OUT

makes OUT/closed/{box,discrete,arrow,arrow-discrete,parquet,dict}-v0. learner/testdata/minari is the first of them, and
learner/testdata/minari_arrow the third. Episodes follow a closed form, so that the test knows every number; with e the
episode, t the step, d the dimension:

    observation[e, t, d] = 100 e + t + d / 8
    action[e, t, d]      = low_d + (high_d - low_d) ((e + t + d) mod 5) / 4, or the number (e + t) mod 3
    reward[e, t]         = e - t / 4

Episode 0 has five steps and is terminated, episode 1 has three and is truncated, episode 2 has one and is terminated.
"""

import os
import sys

import gymnasium as gym
import numpy as np

OUT = os.path.abspath(sys.argv[1])
# The library keeps datasets below this folder; read when it is imported.
os.environ["MINARI_DATASETS_PATH"] = OUT

import minari  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402

LENGTHS = [(5, True), (3, False), (1, True)]
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)
OBS = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTION = gym.spaces.Box(LOW, HIGH, (2,), np.float32)


def observations(e, steps):
    t, d = np.meshgrid(np.arange(steps + 1), np.arange(3), indexing="ij")
    return 100.0 * e + t + d / 8


def box_actions(e, steps):
    t, d = np.meshgrid(np.arange(steps), np.arange(2), indexing="ij")
    return (LOW + (HIGH - LOW) * ((e + t + d) % 5) / 4).astype(np.float32)


def discrete_actions(e, steps):
    return (e + np.arange(steps)) % 3


def episode(e, steps, terminated, actions, wrap, infos):
    last = np.arange(steps) == steps - 1
    return EpisodeBuffer(
        id=e,
        seed=e,
        observations=wrap(observations(e, steps)),
        actions=actions(e, steps),
        rewards=list(e - np.arange(steps) / 4),
        terminations=list(last & terminated),
        truncations=list(last & (not terminated)),
        infos=infos(steps + 1),
    )


def reported(rows):
    """Of every kind that may stand beside what is read."""
    return {"speed": np.ones((rows, 2, 2)), "word": ["some"] * rows, "deep": {"ok": [True] * rows}}


def write(
    name,
    data_format="hdf5",
    action_space=ACTION,
    actions=box_actions,
    obs_space=OBS,
    wrap=lambda obs: obs,
    infos=lambda rows: None,
):
    buffer = [episode(e, steps, terminated, actions, wrap, infos) for e, (steps, terminated) in enumerate(LENGTHS)]
    minari.create_dataset_from_buffers(
        name,
        buffer,
        observation_space=obs_space,
        action_space=action_space,
        data_format=data_format,
        eval_env=None,
        description="closed form",
        algorithm_name="none",
        author="none",
        author_email="none@example.org",
        code_permalink="none",
    )


write("closed/box-v0")
write("closed/discrete-v0", action_space=gym.spaces.Discrete(3), actions=discrete_actions)
write("closed/arrow-v0", data_format="arrow", infos=reported)
# The last action of an episode is padding here: 0, which is no choice.
write(
    "closed/arrow-discrete-v0",
    data_format="arrow",
    action_space=gym.spaces.Discrete(3, start=5),
    actions=lambda e, steps: 5 + discrete_actions(e, steps),
)
write("closed/parquet-v0", data_format="parquet")
write(
    "closed/dict-v0",
    obs_space=gym.spaces.Dict({"position": OBS}),
    wrap=lambda obs: {"position": obs},
)
