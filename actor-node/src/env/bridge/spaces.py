"""Converts values of Gymnasium's spaces to numbers in blocks and back (docs/env-protocol.md).

terms.py follows in the same script.
"""

import functools
import struct

PROTOCOL = 1
CHANNELS_MAX = 16
# For observations with more numbers, no bounds are sent, because the size of the document is limited.
OBS_BOUNDS_MAX = 4096


class Refusal(Exception):
    """An error that the user can correct, in one line."""


def one_line(error):
    text = " ".join(str(error).split())
    return text or type(error).__name__


def aligned(size):
    return (size + 7) // 8 * 8


class Spaces:
    """Layout of observations and actions in a block. O numbers per observation, W per action."""

    def __init__(self, numpy, spaces, env):
        self.numpy, self.spaces = numpy, spaces
        self.observation, self.action = env.observation_space, env.action_space
        for what, space in (("observation", self.observation), ("action", self.action)):
            if type(space).__module__.partition(".")[0] == "gym":
                self.refuse(what, space, "one of gymnasium.spaces, this is one of the older library gym")
        self.image = self.image_of(self.observation)
        self.obs_dim = self.size(self.observation, "observation")
        self.is_discrete = isinstance(self.action, spaces.Discrete)
        if self.is_discrete:
            self.act_dim, self.low, self.high = int(self.action.n), [], []
        else:
            self.low, self.high = self.bounds(self.action)
            self.act_dim = len(self.low)
        self.width = 1 if self.is_discrete else self.act_dim

    def refuse(self, what, space, expected):
        raise Refusal(f"{what} space {one_line(space)}: expected {expected}")

    def image_of(self, space):
        """Returns (channels, height, width, whether channels are last) of a space of images; None for other spaces."""
        is_box = isinstance(space, self.spaces.Box)
        if not (is_box and space.dtype == self.numpy.uint8 and len(space.shape) in (2, 3)):
            return None
        if len(space.shape) == 2:
            return (1, *space.shape, False)
        first, _, last = space.shape
        is_last = last <= first
        channels, height, width = (last, *space.shape[:2]) if is_last else space.shape
        if channels > CHANNELS_MAX:
            self.refuse("observation", space, f"at most {CHANNELS_MAX} channels, first or last")
        return (channels, height, width, is_last)

    def parts(self, space):
        """Returns the members of a Dict or Tuple with their keys, in the space's order; None for other spaces."""
        if isinstance(space, self.spaces.Dict):
            return list(space.spaces.items())
        if isinstance(space, self.spaces.Tuple):
            return list(enumerate(space.spaces))
        return None

    def size(self, space, what):
        parts = self.parts(space)
        if parts is not None:
            return sum(self.size(part, what) for _, part in parts)
        if isinstance(space, self.spaces.Discrete):
            return int(space.n)
        if not isinstance(space, self.spaces.Box) or 0 in space.shape:
            self.refuse(what, space, "Box or Discrete, or Dict or Tuple of these")
        if space.dtype == self.numpy.uint8 and len(space.shape) > 3:
            self.refuse(what, space, "images with 2 or 3 dimensions")
        return int(self.numpy.prod(space.shape))

    def bounds(self, space):
        parts = self.parts(space)
        if parts is not None:
            pairs = [self.bounds(part) for _, part in parts]
            return sum((low for low, _ in pairs), []), sum((high for _, high in pairs), [])
        if not isinstance(space, self.spaces.Box) or 0 in space.shape or space.dtype.kind != "f":
            self.refuse("action", space, "Discrete, Box of floats, or Dict or Tuple of such Boxes")
        low = space.low.astype("float32").ravel().tolist()
        high = space.high.astype("float32").ravel().tolist()
        for index, bounds in enumerate(zip(low, high)):
            if not self.numpy.isfinite(bounds).all():
                self.refuse("action", space, f"finite bounds, dimension {index} has {list(bounds)}")
        return low, high

    def writer(self, space, out):
        """Returns a function that writes an observation of `space` to `out`, an array of its size."""
        parts = self.parts(space)
        if parts is not None:
            return self.parts_writer(space, parts, out)
        if isinstance(space, self.spaces.Discrete):
            return self.choice_writer(space, out)
        shape, asarray = space.shape, self.numpy.asarray
        image = self.image_of(space) if space is self.observation else None
        if image is not None and image[3]:
            channels, height, width, _ = image
            out = out.reshape(channels, height, width).transpose(1, 2, 0)
        else:
            out = out.reshape(shape)

        def write(obs):
            obs = asarray(obs)
            if obs.shape != shape:
                raise ValueError(f"observation of shape {obs.shape}, expected {shape}")
            out[...] = obs

        return write

    def parts_writer(self, space, parts, out):
        writers, start = [], 0
        for key, part in parts:
            end = start + self.size(part, "observation")
            writers.append((key, self.writer(part, out[start:end])))
            start = end

        def write(obs):
            if len(obs) != len(writers):
                raise ValueError(f"observation of {len(obs)} parts, expected {len(writers)}")
            for key, write_part in writers:
                write_part(obs[key])

        return write

    def choice_writer(self, space, out):
        start, choices = int(space.start), int(space.n)

        def write(obs):
            choice = int(obs) - start
            if not 0 <= choice < choices:
                raise ValueError(f"observation {obs}, expected one of {space}")
            out[...] = 0
            out[choice] = 1

        return write

    def reader(self, space):
        """Returns a function that converts an action's numbers to an action of `space`.

        The function may keep the array of numbers, because no other code holds it.
        """
        parts = self.parts(space)
        if parts is not None:
            readers, start = [], 0
            for key, part in parts:
                end = start + self.size(part, "action")
                readers.append((key, slice(start, end), self.reader(part)))
                start = end
            if isinstance(space, self.spaces.Dict):
                return lambda row: {key: read(row[span]) for key, span, read in readers}
            return lambda row: tuple(read(row[span]) for _, span, read in readers)
        if space.dtype == self.numpy.float32:
            return lambda row: row.reshape(space.shape)
        # The bounds in the document are rounded to float32; these are the space's own.
        clip = self.numpy.clip
        return lambda row: clip(row.reshape(space.shape).astype(space.dtype), space.low, space.high)

    def batch_reader(self):
        """Returns a function that converts the actions of a batch, an array (L, W) and its rows, to a list of actions.

        The function may keep the array, because no other code holds it.
        """
        if self.is_discrete:
            # NumPy integers of the space's own type, like those of its sample().
            dtype = self.action.dtype
            start = dtype.type(self.action.start)
            return lambda array, rows: list(array[:, 0].astype(dtype) + start)
        if isinstance(self.action, self.spaces.Box) and self.action.dtype == self.numpy.float32:
            if len(self.action.shape) == 1:
                return lambda array, rows: rows
        read = self.reader(self.action)
        return lambda array, rows: [read(row) for row in rows]

    def obs_bounds(self, space):
        """Returns the lower and the upper bounds of an observation; None means no bound."""
        parts = self.parts(space)
        if parts is not None:
            pairs = [self.obs_bounds(part) for _, part in parts]
            return sum((low for low, _ in pairs), []), sum((high for _, high in pairs), [])
        if isinstance(space, self.spaces.Discrete):
            return [0.0] * int(space.n), [1.0] * int(space.n)
        finite = self.numpy.isfinite
        sides = [side.ravel().tolist() for side in (space.low, space.high)]
        return tuple([value if finite(value) else None for value in side] for side in sides)

    def is_plain(self):
        """Returns whether observations are vectors that can be copied to a block without conversion."""
        is_vector = isinstance(self.observation, self.spaces.Box) and len(self.observation.shape) == 1
        return is_vector and self.observation.dtype.kind == "f"

    def document(self, time_limit, with_pictures, env_spec):
        is_large = self.obs_dim > OBS_BOUNDS_MAX
        obs_low, obs_high = ([], []) if self.image or is_large else self.obs_bounds(self.observation)
        return {
            "protocol": PROTOCOL,
            "obs_dim": self.obs_dim,
            "obs_image": None if self.image is None else list(self.image[:3]),
            "actions": "discrete" if self.is_discrete else "continuous",
            "act_dim": self.act_dim,
            "action_low": self.low,
            "action_high": self.high,
            "episode_steps_max": time_limit,
            "memory": True,
            "render": with_pictures,
            "terms": True,
            "action_start": int(self.action.start) if self.is_discrete else 0,
            "obs_low": obs_low,
            "obs_high": obs_high,
            "env_spec": env_spec,
        }


class Block:
    """Arrays of a batch of L lanes, as views of the bytes of a request and a reply."""

    def __init__(self, numpy, spaces, lanes):
        self.numpy, self.spaces, self.lanes = numpy, spaces, lanes
        self.seeds_at = aligned(lanes)
        self.actions_at = self.seeds_at + aligned(4 * lanes)
        self.request_bytes = self.actions_at + aligned(4 * lanes * spaces.width)
        self.pixel = numpy.dtype("<f4" if spaces.image is None else "u1")
        self.rewards_at = aligned(lanes)
        self.obs_at = self.rewards_at + 8 * lanes
        self.reply_bytes = self.obs_at + aligned(lanes * spaces.obs_dim * self.pixel.itemsize)

    def attach(self, request, reply):
        def array(buffer, dtype, start, *shape):
            count = 1
            for side in shape:
                count *= side
            return self.numpy.frombuffer(buffer, dtype, count, start).reshape(shape)

        lanes = self.lanes
        self.commands = array(request, "u1", 0, lanes)
        self.seeds = array(request, "<u4", self.seeds_at, lanes)
        self.actions = array(request, "<f4", self.actions_at, lanes, self.spaces.width)
        self.outcomes = array(reply, "u1", 0, lanes)
        self.rewards = array(reply, "<f8", self.rewards_at, lanes)
        self.obs = array(reply, self.pixel, self.obs_at, lanes, self.spaces.obs_dim)
        self.obs_bytes = memoryview(reply)[self.obs_at : self.obs_at + self.obs.nbytes]
        self.put_rewards = functools.partial(struct.Struct(f"<{lanes}d").pack_into, reply, self.rewards_at)
