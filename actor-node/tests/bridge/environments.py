"""Environments for tests of the bridge: faults on schedule, and spaces of every kind."""

import os
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class Faulty(gymnasium.Env):
    """Counts its steps. Each keyword argument names a fault and the step of an episode at which it happens."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, only_above=-2.0, episode_steps=50, **schedule):
        self.only_above, self.episode_steps, self.schedule = only_above, episode_steps, schedule

    def observe(self, value=1.0):
        return np.array([self.steps, value], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        value, reward = 1.0, float(action[0])
        for fault, step in self.schedule.items():
            if step != self.steps or action[0] < self.only_above:
                continue
            if fault == "raise_at":
                raise ValueError(f"scheduled at step {step}")
            if fault == "exit_at":
                print("leaving", flush=True)
                os._exit(3)
            if fault == "hang_at":
                time.sleep(600)
            if fault == "nan_obs_at":
                value = np.nan
            if fault == "nan_reward_at":
                reward = np.nan
            if fault == "no_reward_at":
                reward = None
            if fault == "matrix_at":
                return np.zeros((2, 2), np.float32), 0.0, False, False, {}
            if fault == "shape_at":
                return np.zeros(1, np.float32), 0.0, False, False, {}
        return self.observe(value), reward, False, self.steps >= self.episode_steps, {}


def numbered(space):
    """Returns a member of `space` with distinct numbers, which show their positions in the block."""
    if isinstance(space, spaces.Dict):
        return {key: numbered(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(numbered(part) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return int(space.start) + 1
    return np.arange(np.prod(space.shape)).astype(space.dtype).reshape(space.shape)


def box(low, high, shape, dtype=np.float32):
    return spaces.Box(low, high, shape, dtype)


OBSERVATIONS = {
    "box": box(-9, 9, (3,)),
    "strided": box(-9, 9, (3,)),
    "wide": box(-9, 9, (3,)),
    "grid": box(-9, 9, (2, 2), np.float64),
    "choice": spaces.Discrete(3, start=5),
    "dict": spaces.Dict({"b": box(-9, 9, (2,)), "a": spaces.Discrete(2)}),
    "tuple": spaces.Tuple([box(-9, 9, (2,)), spaces.Dict({"x": box(0, 255, (1, 2, 1), np.uint8)})]),
    "rgb": box(0, 255, (2, 4, 2), np.uint8),
    "stack": box(0, 255, (2, 3, 4), np.uint8),
    "screen": box(0, 255, (96, 97, 4), np.uint8),
    "grey": box(0, 255, (2, 3), np.uint8),
    "bits": spaces.MultiBinary(4),
    "text": spaces.Text(5),
    "nested": spaces.Dict({"a": spaces.MultiDiscrete([2, 2])}),
}
ACTIONS = {
    "box": box(-1, 1, (1,)),
    "double": spaces.Box(np.array([[-0.1], [-3.0]]), np.array([[0.1], [3.0]]), dtype=np.float64),
    "choice": spaces.Discrete(3, start=5),
    "dict": spaces.Dict({"turn": box(-1, 1, (1,)), "push": box(0, 2, (2,))}),
    "widest": box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,)),
    "flat": spaces.Box(np.array([-1, 0.7], np.float32), np.array([1, 0.7], np.float32)),
    "unbounded": spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, 1], np.float32)),
    "whole": box(0, 3, (1,), np.int32),
    "multi": spaces.MultiDiscrete([2, 2]),
}


def flat(action):
    """Returns the numbers of an action."""
    if isinstance(action, dict):
        action = np.concatenate([action[key] for key in sorted(action)])
    return np.asarray(action, np.float64).ravel()


class Spaces(gymnasium.Env):
    """Returns numbered observations. The reward encodes the numbers of the action as digits."""

    def __init__(self, observation="box", action="box"):
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.observation = observation

    def observe(self):
        """Returns the observation; for some kinds as an array whose strides or dtype differ from its space."""
        obs = numbered(self.observation_space)
        if self.observation == "strided":
            return np.repeat(obs, 2)[::2]
        return obs.astype(np.float64) if self.observation == "wide" else obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, self.action_space)
        reward = sum(value * 10.0**place for place, value in enumerate(flat(action)))
        return self.observe(), reward, False, False, {}


class Keeper(gymnasium.Env):
    """Keeps its actions; each observation is the first action of the episode."""

    observation_space = box(-1, 1, (1,))
    action_space = box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.actions = []
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.actions.append(action)
        return self.actions[0], float(action[0]), False, False, {}


class Painted(gymnasium.Env):
    """Draws pictures of 3 rows and 2 columns. Green is the row, and red is the step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = box(-9, 9, (1,))
    action_space = box(-1, 1, (1,))

    def __init__(self, render_mode=None, kind="good"):
        self.render_mode, self.kind = render_mode, kind

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self):
        if self.kind == "raise":
            raise RuntimeError("out of paint")
        if self.kind == "grey":
            return np.zeros((3, 2), np.uint8)
        if self.kind == "floats":
            return np.zeros((3, 2, 3))
        # Built by columns and transposed, as in many environments, so the array is not contiguous.
        columns = np.zeros((2, 3, 3), np.uint8)
        columns[:, :, 0] = self.steps
        columns[:, :, 1] = np.arange(3)
        return columns.transpose(1, 0, 2)


gymnasium.register("Painted-v0", Painted)
gymnasium.register("Faulty-v0", Faulty)
gymnasium.register("Keeper-v0", Keeper)
gymnasium.register("Spaces-v0", Spaces)
