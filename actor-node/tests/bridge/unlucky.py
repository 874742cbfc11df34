"""Environments that are valid but unusual, or have small defects.

They share arrays, return odd rewards, use older APIs or close slowly.
"""

import functools
import os
import subprocess
import time

import gymnasium
import numpy as np
from gymnasium import spaces

FLOAT = np.float32


def box(low, high, shape, dtype=FLOAT):
    return spaces.Box(low, high, shape, dtype)


class Plain(gymnasium.Env):
    """Counts its steps. Each other class changes one property."""

    observation_space = box(-99, 99, (2,))
    action_space = box(-1, 1, (1,))
    episode_steps = 10

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self):
        return np.array([self.steps, 1], FLOAT)

    def step(self, action):
        self.steps += 1
        return self.observe(), 0.0, False, self.steps >= self.episode_steps, {}


SHARED = {"vector": np.zeros(2, FLOAT), "part": {"a": np.zeros(1, FLOAT), "b": np.zeros(1, FLOAT)}}
SHARED["view"] = SHARED["vector"][::-1]
NEXT = iter(range(1000))


class InPlace(Plain):
    """All instances of a process return the same array, changed in place. Each writes its own number to it."""

    def __init__(self, kind="vector"):
        self.kind, self.number = kind, next(NEXT) % 3
        if kind == "part":
            part = box(-99, 99, (1,))
            self.observation_space = spaces.Dict({"a": part, "b": part})

    def observe(self):
        shared = SHARED[self.kind]
        if self.kind == "part":
            shared["a"][:], shared["b"][:] = self.steps, self.number
        else:
            shared[:] = self.steps, self.number
        return shared


REWARDS = {
    "float": 1.0,
    "int": 1,
    "bool": True,
    "npbool": np.bool_(True),
    "npint": np.int64(1),
    "npfloat32": FLOAT(1),
    "nplong": np.longdouble(1),
    "array0": np.array(1.0),
    "array1": np.array([1.0]),
    "array11": np.ones((1, 1), FLOAT),
    "list1": [1],
    "text": "1.0",
    "none": None,
    "vector": np.ones(3),
    "empty": np.ones(0),
    "dict": {"total": 1.0},
    "complex": 1 + 0j,
    "huge": 10**400,
}


class Rewards(Plain):
    def __init__(self, kind="float", shape=(2,)):
        self.kind, self.observation_space = kind, box(-99, 99, tuple(shape))

    def observe(self):
        return np.ones(self.observation_space.shape, FLOAT)

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, REWARDS[self.kind], terminated, truncated, info


class Old(Plain):
    """Uses the API of gym before 0.26."""

    def __init__(self, kind):
        self.kind = kind

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        if self.kind == "no_seed" and "seed" in kwargs:
            raise TypeError("reset() got an unexpected keyword argument 'seed'")
        return obs if self.kind in ("reset", "both") else (obs, info)

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        if self.kind == "nothing":
            return None
        if self.kind in ("step", "both"):
            return obs, reward, terminated or truncated, info
        return obs, reward, terminated, truncated, info


class Several:
    """An environment of several agents, which is not a Gymnasium environment."""

    def __init__(self):
        self.agents = ["a", "b"]


class Pick(Plain):
    """Requires its discrete action to be a NumPy integer of the space's type. The reward is the choice."""

    def __init__(self, start=5, dtype="int64"):
        self.action_space = spaces.Discrete(3, start=start, dtype=np.dtype(dtype).type)

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        assert self.action_space.contains(action) and type(action) is self.action_space.dtype.type, repr(action)
        return obs, {choice: float(choice) for choice in range(-9, 99)}[action.item()], terminated, truncated, info


class Bounded(Plain):
    """Has a time limit that its own code adds."""

    episode_steps = 1000


def bounded(steps=5):
    return gymnasium.wrappers.TimeLimit(Bounded(), steps)


class Simulator(Plain):
    """Starts a process of its own, and logs its events."""

    def __init__(self, log, close_seconds=0.0, hang_at=0):
        self.log, self.close_seconds, self.hang_at = log, close_seconds, hang_at
        self.child = subprocess.Popen(["sleep", "600"])
        self.note(f"made {os.getpid()} {self.child.pid}")

    def note(self, text):
        with open(self.log, "a") as file:
            file.write(text + "\n")

    def step(self, action):
        result = super().step(action)
        if self.steps == self.hang_at:
            self.note("hangs")
            time.sleep(600)
        return result

    def close(self):
        self.note("closing")
        time.sleep(self.close_seconds)
        self.note("closed")


class Reach(Plain):
    """Reports in its info whether it has arrived, and the parts of its reward."""

    action_space = box(-1, 1, (1,))

    def step(self, action):
        obs, _, _, truncated, _ = super().step(action)
        arrived = self.steps == 4
        info = {
            "is_success": np.bool_(arrived),
            "reward_time": -0.5,
            "costs": {"effort": FLOAT(self.steps), "note": "x", "deeper": {"x": 1.0}},
            "where": np.array(2.0),
            "name": "text",
            "vector": np.ones(2),
            "gap": np.nan if self.steps < 4 else 3.0,
            "return_mean": 7.0,
        }
        return obs, -0.5, arrived, truncated, info


for name, make in {
    "InPlace-v0": InPlace,
    "Rewards-v0": Rewards,
    "Several-v0": Several,
    "Pick-v0": Pick,
    "Bounded-v0": bounded,
    "Simulator-v0": Simulator,
    "Reach-v0": Reach,
}.items():
    gymnasium.register(name, make)
for kind in ("step", "reset", "both", "no_seed", "nothing"):
    gymnasium.register(f"Old_{kind}-v0", functools.partial(Old, kind))
gymnasium.register("Limited-v0", Bounded, max_episode_steps=5)
