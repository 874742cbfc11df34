"""Serves Gymnasium environments to Sapex: docs/env-protocol.md, version 1, on the socket that is its standard input.

Started as `python -c SCRIPT`. It steps all lanes of a group in one process, in order. What the environments print goes to
standard error. An environment that raises fails its lane alone; `sys.exit` and crashes end the process, which is started
anew.
"""

import ast
import importlib
import json
import mmap
import os
import socket
import struct
import sys
import traceback

PROTOCOL = 1
HELLO, SPEC, MEMORY, READY, BATCH, RESULT, LANE_FAILED, ERROR = range(1, 9)
IDLE, STEP, RESET, RESET_SEEDED, MAKE = range(5)
TERMINATED, TRUNCATED, FAILED = 1, 2, 4
TEXT_MAX = 16 * 1024
JSON_MAX = 1 << 20
CHANNELS_MAX = 16

HEADER = struct.Struct("<II")


class Refusal(Exception):
    """What the person who named the environment can put right, on one line."""


class Link:
    """Messages on a socket."""

    def __init__(self, sock):
        self.sock = sock

    def send(self, kind, payload=b""):
        self.sock.sendall(HEADER.pack(kind, len(payload)) + payload)

    def fill(self, buffer):
        """Fills `buffer`; False where the other side has closed."""
        view = memoryview(buffer)
        while view:
            count = self.sock.recv_into(view)
            if count == 0:
                return False
            view = view[count:]
        return True

    def receive(self, expected):
        """The payload of the next message, which must be `expected`; None where the other side has closed."""
        header = bytearray(HEADER.size)
        if not self.fill(header):
            return None
        kind, length = HEADER.unpack(header)
        if kind != expected or length > JSON_MAX:
            raise Refusal(f"message {kind} of {length} bytes, expected message {expected}")
        payload = bytearray(length)
        return payload if self.fill(payload) else None


def one_line(error):
    text = " ".join(str(error).split())
    return text or type(error).__name__


def aligned(size):
    return (size + 7) // 8 * 8


def load_gymnasium():
    try:
        import gymnasium
    except ImportError as error:
        # Its own dependencies may be what is missing: then the error names them.
        missing = "has no gymnasium" if error.name == "gymnasium" else f"cannot import gymnasium ({one_line(error)})"
        raise Refusal(f"{sys.executable} {missing}: `{sys.executable} -m pip install 'gymnasium>=1.0'`") from None
    if int(gymnasium.__version__.split(".")[0]) < 1:
        raise Refusal(
            f"gymnasium {gymnasium.__version__} is too old, expected 1.0 or newer: "
            f"`{sys.executable} -m pip install 'gymnasium>=1.0'`"
        )
    return gymnasium


def keyword(text):
    """The value that a parameter's text means: Python's literals, true, false and null; else the text itself."""
    named = {"true": True, "false": False, "null": None}
    if text in named:
        return named[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def maker(gymnasium, name, params):
    """Makes environments. `module:id` imports the module first, from the current directory for one."""
    module, _, env_id = name.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:
            note(traceback.format_exc())
            raise Refusal(f"cannot import {module}: {type(error).__name__}: {one_line(error)}") from None
    try:
        gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        raise Refusal(f"gymnasium knows no {env_id}: {one_line(error)}") from None
    kwargs = {key: keyword(text) for key, text in params.items()}
    return lambda: gymnasium.make(env_id, disable_env_checker=True, **kwargs)


def make_first(gymnasium, make):
    try:
        return make()
    except gymnasium.error.DependencyNotInstalled as error:
        raise Refusal(one_line(error)) from None
    except Exception as error:
        note(traceback.format_exc())
        raise Refusal(f"{type(error).__name__}: {one_line(error)}") from None


def note(text):
    sys.stderr.write(text)
    sys.stderr.flush()


class Spaces:
    """How observations and actions lie in a block. O numbers per observation, W per action."""

    def __init__(self, numpy, spaces, env):
        self.numpy, self.spaces = numpy, spaces
        self.observation, self.action = env.observation_space, env.action_space
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
        """Channels, height, width and whether channels come last, of a space of images; None otherwise."""
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
        """The members of a Dict or Tuple with their keys, in the space's order; None of another space."""
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
        if not self.numpy.isfinite(low + high).all():
            self.refuse("action", space, "finite bounds")
        return low, high

    def writer(self, space, out):
        """A function that writes an observation of `space` to `out`, an array of its size."""
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
        """A function from an action's numbers, an array that nobody else holds, to an action of `space`."""
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
        # The bounds that travel are rounded to float32; these are the space's own.
        clip = self.numpy.clip
        return lambda row: clip(row.reshape(space.shape).astype(space.dtype), space.low, space.high)

    def batch_reader(self):
        """A function from the actions of a batch, an array (L, W) that nobody else holds, to a list of actions."""
        if self.is_discrete:
            start = int(self.action.start)
            return lambda rows: [int(choice) + start for choice in rows[:, 0].tolist()]
        if isinstance(self.action, self.spaces.Box) and self.action.dtype == self.numpy.float32:
            if len(self.action.shape) == 1:
                return list
        read = self.reader(self.action)
        return lambda rows: [read(row) for row in rows]

    def is_plain(self):
        """Whether an observation is a row of a block as it is."""
        is_vector = isinstance(self.observation, self.spaces.Box) and len(self.observation.shape) == 1
        return is_vector and self.observation.dtype.kind == "f"

    def document(self, time_limit):
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
        }


class Block:
    """The arrays of a batch of L lanes in the bytes of a request and a reply."""

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


class Server:
    """The lanes of one connection."""

    def __init__(self, link, first, make, spaces, lanes):
        self.link, self.make, self.spaces = link, make, spaces
        self.envs = [first] + [None] * (lanes - 1)
        self.is_fresh = [True] + [False] * (lanes - 1)
        self.steps = [None if env is None else env.step for env in self.envs]
        self.block = Block(spaces.numpy, spaces, lanes)
        self.read_actions = spaces.batch_reader()
        # More than one: numpy needs a microsecond to put even one row together.
        self.all_step = bytes([STEP] * lanes) if spaces.is_plain() and lanes > 1 else None
        self.rows, self.row_rewards = [None] * lanes, [0.0] * lanes
        self.inline = self.writers = None

    def use_memory(self, path, request_bytes, reply_at, reply_bytes):
        block = self.block
        if (request_bytes, reply_bytes) != (block.request_bytes, block.reply_bytes):
            raise Refusal(
                f"blocks of {request_bytes} and {reply_bytes} bytes, "
                f"expected {block.request_bytes} and {block.reply_bytes}"
            )
        with open(path, "r+b") as file:
            if os.fstat(file.fileno()).st_size < reply_at + reply_bytes or reply_at < request_bytes:
                raise Refusal(f"{path} is too small for the blocks")
            memory = memoryview(mmap.mmap(file.fileno(), reply_at + reply_bytes))
        self.attach(memory[:request_bytes], memory[reply_at:])

    def use_messages(self):
        self.inline = (bytearray(self.block.request_bytes), bytearray(self.block.reply_bytes))
        self.attach(*self.inline)

    def attach(self, request, reply):
        self.block.attach(request, reply)
        space = self.spaces.observation
        self.writers = [self.spaces.writer(space, row) for row in self.block.obs]

    def close(self):
        for lane in range(len(self.envs)):
            self.close_lane(lane)

    def close_lane(self, lane):
        env, self.envs[lane] = self.envs[lane], None
        try:
            if env is not None:
                env.close()
        except Exception:
            note(traceback.format_exc())

    def begin(self, lane, command):
        if command == MAKE and not self.is_fresh[lane]:
            self.close_lane(lane)
            env = self.make()
            same = (self.spaces.observation, self.spaces.action)
            if (env.observation_space, env.action_space) != same:
                raise ValueError("the environment was made anew with other spaces")
            self.envs[lane], self.steps[lane] = env, env.step
        self.is_fresh[lane] = False
        seed = None if command == RESET else int(self.block.seeds[lane])
        obs, _ = self.envs[lane].reset(seed=seed)
        self.writers[lane](obs)

    def fail(self, lane):
        text = traceback.format_exc().encode(errors="replace")[-TEXT_MAX:]
        self.link.send(LANE_FAILED, struct.pack("<I", lane) + text)

    def turn(self, outcomes):
        """Carries out one batch; `outcomes` is L bytes to work in."""
        block = self.block
        commands = block.commands.tobytes()
        if max(commands) > MAKE:
            raise Refusal(f"commands {list(commands)}, expected 0 to {MAKE}")
        # A copy: environments may keep their actions.
        actions = self.read_actions(block.actions.copy())
        if commands == self.all_step:
            self.step_all(actions, outcomes)
        else:
            for lane, command in enumerate(commands):
                outcomes[lane] = self.obey(lane, command, actions[lane])
        block.outcomes[:] = memoryview(outcomes)

    def obey(self, lane, command, action):
        """Carries out one lane's command, returns its outcome."""
        if command == IDLE:
            return 0
        try:
            if command == STEP:
                obs, reward, terminated, truncated, _ = self.steps[lane](action)
                self.writers[lane](obs)
                self.block.rewards[lane] = float(reward)
                return bool(terminated) * TERMINATED + bool(truncated) * TRUNCATED
            self.block.rewards[lane] = 0.0
            self.begin(lane, command)
            return 0
        except Exception:
            self.fail(lane)
            return FAILED

    def step_all(self, actions, outcomes):
        """Steps every lane where observations are plain vectors: these reach the block in one go."""
        numpy, block, rows, rewards = self.spaces.numpy, self.block, self.rows, self.row_rewards
        steps, ndarray, shape = self.steps, numpy.ndarray, self.spaces.observation.shape
        outcomes[:] = bytes(len(outcomes))
        for lane, action in enumerate(actions):
            try:
                obs, reward, terminated, truncated, _ = steps[lane](action)
                if type(obs) is not ndarray or obs.shape != shape:
                    # Refuses what is no observation.
                    self.writers[lane](obs)
                    obs = block.obs[lane].copy()
                rows[lane], rewards[lane] = obs, float(reward)
                if terminated or truncated:
                    outcomes[lane] = bool(terminated) * TERMINATED + bool(truncated) * TRUNCATED
            except Exception:
                outcomes[lane], rows[lane] = FAILED, block.obs[lane].copy()
                self.fail(lane)
        numpy.concatenate(rows, out=block.obs.reshape(-1), casting="unsafe")
        block.rewards[:] = rewards

    def serve(self):
        """Batches until the other side closes."""
        header, outcomes = bytearray(HEADER.size), bytearray(self.block.lanes)
        link, inline = self.link, self.inline
        length_expected = 0 if inline is None else self.block.request_bytes
        done = HEADER.pack(RESULT, 0 if inline is None else self.block.reply_bytes)
        while link.fill(header):
            kind, length = HEADER.unpack(header)
            if (kind, length) != (BATCH, length_expected):
                raise Refusal(
                    f"message {kind} of {length} bytes, expected {BATCH} of {length_expected}"
                )
            if inline is not None and not link.fill(inline[0]):
                return
            self.turn(outcomes)
            link.sock.sendall(done if inline is None else done + inline[1])


def start(link, hello):
    hello = json.loads(hello)
    if hello["protocol"] != PROTOCOL:
        raise Refusal(f"protocol {hello['protocol']}, expected {PROTOCOL}")
    gymnasium = load_gymnasium()
    import numpy

    make = maker(gymnasium, hello["env"], hello["params"])
    first = make_first(gymnasium, make)
    spaces = Spaces(numpy, gymnasium.spaces, first)
    time_limit = first.spec.max_episode_steps if first.spec is not None else None
    server = Server(link, first, make, spaces, hello["lanes"])
    link.send(SPEC, json.dumps(spaces.document(time_limit)).encode())
    chosen = link.receive(MEMORY)
    if chosen is None:
        return None
    chosen = json.loads(chosen)
    if chosen["path"] is None:
        server.use_messages()
    else:
        server.use_memory(chosen["path"], chosen["request_bytes"], chosen["reply_at"], chosen["reply_bytes"])
    link.send(READY)
    return server


def main():
    link = Link(socket.socket(fileno=os.dup(0)))
    # The environments' standard input is empty, and what they print is for the log.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    try:
        hello = link.receive(HELLO)
        server = None if hello is None else start(link, hello)
        if server is not None:
            server.serve()
            server.close()
    except Refusal as error:
        link.send(ERROR, one_line(error).encode(errors="replace")[-TEXT_MAX:])
    except ConnectionError:
        pass


main()
