"""Serves Gymnasium environments to Sapex, with the protocol of docs/env-protocol.md, version 1.

Its standard input is the socket. It is started as `python -c SCRIPT CORES CLOSE_MS`; the script consists of spaces.py,
terms.py, making.py and this file. It steps all lanes of a group in one process, in order. Output that environments
print goes to standard error. If an environment raises an exception, only its lane fails. `sys.exit` and crashes end the
process, which Sapex then restarts.
"""

import json
import math
import mmap
import os
import signal
import socket
import struct
import sys
import time
import traceback

HELLO, SPEC, MEMORY, READY, BATCH, RESULT, LANE_FAILED, ERROR, RENDER, PICTURE, EPISODE, TERMS = range(1, 13)
IDLE, STEP, RESET, RESET_SEEDED, MAKE = range(5)
TERMINATED, TRUNCATED, FAILED = 1, 2, 4
TEXT_MAX = 16 * 1024
# Placeholder for the result of a step, with the right number of values.
GOOD_STEP = (None,) * 5
JSON_MAX = 1 << 20
PICTURE_BYTES_MAX = 64 << 20

HEADER = struct.Struct("<II")
PICTURE_HEADER = struct.Struct("<IId")

# The same values as in spin.rs, which gives the reasons.
SPIN_SECONDS = 200e-6
LOOK_SECONDS = 0.05


class Spin:
    """Busy-waits for a message that is expected soon, if no other thread needs the core: see spin.rs."""

    def __init__(self, sock, cores):
        self.sock, self.cores = sock, cores
        self.next_look, self.has_core, self.came_soon = 0.0, False, True
        try:
            self.load = os.open("/proc/loadavg", os.O_RDONLY)
        except OSError:
            self.load = -1

    def receive_into(self, buffer):
        began, count = time.perf_counter(), None
        if self.has_core and self.came_soon:
            count = self.receive_awake(buffer, began + SPIN_SECONDS)
        if count is None:
            count = self.sock.recv_into(buffer)
        now = time.perf_counter()
        self.came_soon = now - began < SPIN_SECONDS
        if now >= self.next_look:
            self.next_look, self.has_core = now + LOOK_SECONDS, self.runnable() <= self.cores
        return count

    def receive_awake(self, buffer, until):
        receive, clock, now = self.sock.recv_into, time.perf_counter, socket.MSG_DONTWAIT
        while clock() < until:
            try:
                return receive(buffer, 0, now)
            except BlockingIOError:
                pass
        return None

    def runnable(self):
        """Returns the number of runnable threads, from a line like `0.16 1.04 1.30 2/80 30991`."""
        try:
            return int(os.pread(self.load, 64, 0).split()[3].partition(b"/")[0])
        except (IndexError, OSError, ValueError):
            return math.inf


class Link:
    """Sends and receives messages over a socket."""

    def __init__(self, sock, cores):
        self.sock, self.spin = sock, Spin(sock, cores)

    def send(self, kind, payload=b""):
        self.sock.sendall(HEADER.pack(kind, len(payload)) + payload)

    def fill(self, buffer):
        """Fills `buffer`. Returns False if the other side has closed the connection."""
        view = memoryview(buffer)
        while view:
            count = self.sock.recv_into(view)
            if count == 0:
                return False
            view = view[count:]
        return True

    def receive(self, expected):
        """Returns the payload of the next message, which must be of kind `expected`; None if the peer has closed."""
        header = bytearray(HEADER.size)
        if not self.fill(header):
            return None
        kind, length = HEADER.unpack(header)
        if kind != expected or length > JSON_MAX:
            raise Refusal(f"message {kind} of {length} bytes, expected message {expected}")
        payload = bytearray(length)
        return payload if self.fill(payload) else None


class Server:
    """The lanes of one connection."""

    def __init__(self, link, first, make, spaces, lanes):
        self.link, self.make, self.spaces = link, make, spaces
        self.envs = [first] + [None] * (lanes - 1)
        self.is_fresh = [True] + [False] * (lanes - 1)
        self.steps = [None if env is None else env.step for env in self.envs]
        self.block = Block(spaces.numpy, spaces, lanes)
        self.read_actions = spaces.batch_reader()
        # Actions of the next batch: an array of shape (L, W), and its rows.
        self.actions = self.action_rows = None
        self.all_step = bytes([STEP] * lanes) if spaces.is_plain() else None
        self.rows, self.row_rewards = [None] * lanes, [0.0] * lanes
        self.terms = [Terms(spaces.numpy) for _ in range(lanes)]
        # `plain` is the type, dtype and size in bytes of observations that are copied without conversion.
        self.writers = self.plain = None
        # Receive buffer, payload length per message kind, and send buffer. The buffers hold the blocks, unless these
        # are in shared memory.
        self.received = self.lengths = self.sent = self.batch_header = self.batch_bytes = None

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
        self.lengths = {BATCH: 0, RENDER: 4, EPISODE: 4}
        self.received, self.sent = bytearray(HEADER.size + 4), HEADER.pack(RESULT, 0)
        self.attach(memory[:request_bytes], memory[reply_at:])

    def use_messages(self):
        self.lengths = {BATCH: self.block.request_bytes, RENDER: 4, EPISODE: 4}
        self.received = bytearray(HEADER.size + self.block.request_bytes)
        self.sent = bytearray(HEADER.size + self.block.reply_bytes)
        HEADER.pack_into(self.sent, 0, RESULT, self.block.reply_bytes)
        self.attach(memoryview(self.received)[HEADER.size :], memoryview(self.sent)[HEADER.size :])

    def attach(self, request, reply):
        self.block.attach(request, reply)
        number = self.block.obs.dtype
        self.plain = (self.spaces.numpy.ndarray, number, self.spaces.obs_dim * number.itemsize)
        self.batch_header = HEADER.pack(BATCH, self.lengths[BATCH])
        self.batch_bytes = HEADER.size + self.lengths[BATCH]
        space = self.spaces.observation
        self.writers = [self.spaces.writer(space, row) for row in self.block.obs]
        self.prepare()

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
        self.terms[lane].clear()
        seed = None if command == RESET else int(self.block.seeds[lane])
        self.writers[lane](reset(self.envs[lane], seed))

    def fail(self, lane, result=GOOD_STEP):
        """Reports a lane's failure: the result of a step if that is invalid, else the exception being handled."""
        if not isinstance(result, (tuple, list)) or len(result) != len(GOOD_STEP):
            text = f"ValueError: {wrong_step(result)}"
        else:
            text = traceback.format_exc()
        text = text.encode(errors="replace")[-TEXT_MAX:]
        self.link.send(LANE_FAILED, struct.pack("<I", lane) + text)

    def picture(self, lane):
        """Sends a picture of a lane's environment."""
        try:
            env = self.envs[lane]
            picture = self.spaces.numpy.ascontiguousarray(env.render())
            shape, depth = picture.shape, picture.dtype
            if depth != "uint8" or len(shape) != 3 or shape[2] != 3 or not 0 < picture.size <= PICTURE_BYTES_MAX:
                expected = f"uint8 and (height, width, 3), at most {PICTURE_BYTES_MAX} bytes"
                raise ValueError(f"picture of {depth} and shape {shape}, expected {expected}")
            rate = env.metadata.get("render_fps") or 0
            seconds = 1 / rate if rate > 0 else 0.0
        except Exception:
            self.fail(lane)
        else:
            self.link.send(PICTURE, PICTURE_HEADER.pack(shape[1], shape[0], seconds) + picture.tobytes())

    def prepare(self):
        """Allocates the array of the next batch's actions, while the client does not wait.

        The array is new for each batch, because environments may keep their actions.
        """
        self.actions = self.spaces.numpy.empty_like(self.block.actions)
        self.action_rows = list(self.actions)

    def turn(self):
        """Executes one batch."""
        block = self.block
        commands = block.commands.tobytes()
        self.actions[...] = block.actions
        actions = self.read_actions(self.actions, self.action_rows)
        if commands == self.all_step:
            return self.step_all(actions)
        if max(commands) > MAKE:
            raise Refusal(f"commands {list(commands)}, expected 0 to {MAKE}")
        for lane, command in enumerate(commands):
            block.outcomes[lane] = self.obey(lane, command, actions[lane])

    def obey(self, lane, command, action):
        """Executes one lane's command and returns its outcome."""
        if command == IDLE:
            return 0
        result = GOOD_STEP
        try:
            if command == STEP:
                result = self.steps[lane](action)
                obs, reward, terminated, truncated, info = result
                self.writers[lane](obs)
                self.block.rewards[lane] = reward_number(self.spaces.numpy, reward)
                if info:
                    self.terms[lane].add(info)
                return bool(terminated) * TERMINATED + bool(truncated) * TRUNCATED
            self.block.rewards[lane] = 0.0
            self.begin(lane, command)
            return 0
        except Exception:
            self.fail(lane, result)
            return FAILED

    def step_all(self, actions):
        """Steps every lane, if observations are plain vectors. All observations are written to the block together.

        Each observation is copied before the next lane steps, because environments of a process may share one array.
        """
        steps, block, rows, rewards, terms = self.steps, self.block, self.rows, self.row_rewards, self.terms
        ndarray, number, row_bytes = self.plain
        outcomes = block.outcomes
        outcomes.fill(0)
        for lane, action in enumerate(actions):
            result = GOOD_STEP
            try:
                result = steps[lane](action)
                obs, reward, terminated, truncated, info = result
                row = obs.tobytes() if type(obs) is ndarray and obs.dtype is number else b""
                if len(row) != row_bytes:
                    # Converts the observation, or raises an error if it is invalid.
                    self.writers[lane](obs)
                    row = block.obs[lane].tobytes()
                rows[lane] = row
                rewards[lane] = reward if type(reward) is float else reward_number(self.spaces.numpy, reward)
                if info:
                    terms[lane].add(info)
                if terminated or truncated:
                    outcomes[lane] = bool(terminated) * TERMINATED + bool(truncated) * TRUNCATED
            except Exception:
                outcomes[lane], rows[lane], rewards[lane] = FAILED, bytes(row_bytes), 0.0
                self.fail(lane, result)
        # This takes a quarter of the time that numpy takes.
        block.obs_bytes[:] = b"".join(rows)
        block.put_rewards(*rewards)

    def receive(self):
        """Receives the next message into `received` and returns its kind; None if the other side has closed."""
        link = self.link
        # The client sends nothing more before the answer. One call therefore receives at most one message, usually all
        # of it.
        count = link.spin.receive_into(self.received)
        if count == self.batch_bytes and self.received.startswith(self.batch_header):
            return BATCH
        received = memoryview(self.received)
        if count == 0 or not link.fill(received[count : HEADER.size]):
            return None
        kind, length = HEADER.unpack_from(received)
        if self.lengths.get(kind) != length:
            raise Refusal(f"message {kind} of {length} bytes, expected those of {self.lengths}")
        if not link.fill(received[max(count, HEADER.size) : HEADER.size + length]):
            return None
        return kind

    def serve(self):
        """Answers requests for batches, pictures and terms until the other side closes the connection."""
        while (kind := self.receive()) is not None:
            if kind == BATCH:
                self.turn()
                self.link.sock.sendall(self.sent)
                self.prepare()
                continue
            lane = int.from_bytes(self.received[HEADER.size : HEADER.size + 4], "little")
            if lane >= len(self.envs):
                raise Refusal(f"lane {lane}, expected one of {len(self.envs)}")
            if kind == RENDER:
                self.picture(lane)
            else:
                self.link.send(TERMS, json.dumps(self.terms[lane].of_episode()).encode())


def start(link, hello):
    hello = json.loads(hello)
    if hello["protocol"] != PROTOCOL:
        raise Refusal(f"protocol {hello['protocol']}, expected {PROTOCOL}")
    gymnasium = load_gymnasium()
    import numpy

    make = maker(gymnasium, hello)
    first = make_first(gymnasium, make)
    spaces = Spaces(numpy, gymnasium.spaces, first)
    is_limited = first.spec is not None and not hello.get("unlimited")
    time_limit = first.spec.max_episode_steps if is_limited else None
    server = Server(link, first, make, spaces, hello["lanes"])
    link.send(SPEC, json.dumps(spaces.document(time_limit, hello["render"], env_spec(first))).encode())
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


def guard(close_seconds):
    """Starts a guardian process, which kills the whole process group after Sapex has ended in any way; returns its id.

    The guardian waits for the end of a pipe that Sapex holds open, which is standard output here. Then the environments
    have `close_seconds` to close. A thread cannot do this, because a step that hangs may hold the interpreter's lock.
    """
    worker = os.getpid()
    number = os.fork()
    if number > 0:
        return number
    os.close(0)
    os.close(2)
    while os.read(1, 1):
        pass
    until = time.monotonic() + close_seconds
    while os.getppid() == worker and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)


def main():
    # The arguments are removed, because modules of environments may also read the command line.
    cores, close_seconds = int(sys.argv.pop(1)), int(sys.argv.pop(1)) / 1000
    parent, guardian = os.getppid(), guard(close_seconds)
    try:
        serve(cores)
    finally:
        os.kill(guardian, signal.SIGKILL)
        os.waitpid(guardian, 0)
        if os.getppid() != parent:
            # Sapex has ended, so no other process ends those that the environments have started.
            os.killpg(0, signal.SIGKILL)


def serve(cores):
    link = Link(socket.socket(fileno=os.dup(0)), cores)
    # Environments have an empty standard input, and their output goes to the log.
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
