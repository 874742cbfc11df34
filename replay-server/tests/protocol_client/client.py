"""A client of a replay server, written from docs/protocol.md alone: an actor and a learner in one script.

Usage: client.py ADDRESS SETTINGS, where SETTINGS is a TOML file of all settings, as `replay-server --print-config` shows
them. Prints one line per thing that it has seen, and fails where the server does not keep to the page.
"""

import struct
import sys
import tomllib
from decimal import Decimal

import blake3
import zmq

PROTOCOL = 4
FLOATS_32 = {
    "action_noise", "log_std_min", "log_std_max", "mean_bound", "obs_clip", "action_low", "action_high", "action_rescale",
}
REFUSALS = [
    "Protocol", "Cluster", "Layout", "NotGreeted", "UnknownShard", "Malformed", "Quarantined", "ShuttingDown", "Settings",
    "NotAllowed", "InUse", "Superseded",
]


def digest(data):
    return int.from_bytes(blake3.blake3(data).digest()[:8], "little")


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def toml_value(value, is_32_bits):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if is_32_bits:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        if abs(value) == float("inf"):
            return str(value)
        digits = format(Decimal(repr(value)), "f")
        return digits if "." in digits else digits + ".0"
    if isinstance(value, str):
        return f"'{value}'" if '"' in value or "\\" in value else f'"{value}"'
    return "[" + ", ".join(toml_value(item, is_32_bits) for item in value) + "]"


def floats(key, value):
    """TOML tells 2 from 2.0, but a file may say 2 where the setting is a float."""
    is_float = key in FLOATS_32 or key in {"gamma", "reward_scale", "reward_clip"}
    if is_float and isinstance(value, list):
        return [float(item) for item in value]
    return float(value) if is_float else value


class Row:
    """Fields of a transition with their offsets."""

    def __init__(self, obs_dim, act_dim):
        shape = lambda *sides: "[" + ", ".join(map(str, sides)) + "]"
        fields = [
            ("policy_version", "I64", shape(), 8, 1),
            ("obs", "F32", shape(obs_dim), 4, obs_dim),
            ("action", "F32", shape(act_dim), 4, act_dim),
            ("reward", "F32", shape(), 4, 1),
            ("discount", "F32", shape(), 4, 1),
            ("next_obs", "F32", shape(obs_dim), 4, obs_dim),
        ]
        at, lines, self.offsets = 0, [], {}
        for name, dtype, dims, size, count in fields:
            at = -(-at // size) * size
            lines.append(f"{name}:{dtype}:{dims}@{at}\n")
            self.offsets[name] = at
            at += size * count
        self.bytes = -(-at // 8) * 8
        self.hash = digest(("".join(lines) + f"{self.bytes}\n").encode())


class Client:
    def __init__(self, address, settings):
        cluster = sorted(settings["cluster"].items())
        self.cluster = [
            (f"cluster.{key}", toml_value(floats(key, value), key in FLOATS_32)) for key, value in cluster
        ]
        self.cluster_hash = digest("".join(f"{key} = {value}\n" for key, value in self.cluster).encode())
        self.row = Row(settings["cluster"]["obs_dim"], settings["cluster"]["act_dim"])
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self.socket.connect(address)

    def send(self, header, *data):
        self.socket.send_multipart([header, *data])

    def reply(self):
        """(name, fields, data frames)"""
        header, *data = self.socket.recv_multipart()
        number, body = struct.unpack_from("<I", header)[0], header[4:]
        if number == 0:
            count = struct.unpack_from("<Q", body)[0]
            shards = [struct.unpack_from("<QdQ", body, 8 + 24 * shard) for shard in range(count)]
            window = struct.unpack_from("<I", body, 8 + 24 * count)[0]
            return "Welcome", (shards, window), data
        if number == 1:
            return "Refused", REFUSALS[struct.unpack_from("<I", body)[0]], data
        if number == 2:
            return "Inserted", struct.unpack("<HQII", body), data
        if number == 3:
            return "Sampled", struct.unpack("<QHIQdQ", body), data
        return "NotSampled", struct.unpack("<QHQQdQ", body), data

    def expect(self, name):
        got, fields, data = self.reply()
        if got != name:
            sys.exit(f"expected {name}, got {got}: {fields}")
        return fields, data

    def hello(self, role):
        pairs = b"".join(text(key) + text(value) for key, value in self.cluster)
        head = struct.pack("<IH", 0, PROTOCOL) + role + struct.pack("<Q", self.cluster_hash)
        tail = struct.pack("<QQ", self.row.hash, self.row.bytes)
        self.send(head + struct.pack("<Q", len(self.cluster)) + pairs + tail)

    def insert(self, shard, sequence, rows):
        self.send(struct.pack("<IHQI?", 1, shard, sequence, len(rows), False), b"".join(rows))

    def sample(self, request, shard, count, share):
        self.send(struct.pack("<IQHIdI", 2, request, shard, count, share, 500))

    def update(self, shard, keys, td_abs):
        header = struct.pack("<IHI", 3, shard, len(keys))
        self.send(header, struct.pack(f"<{len(keys)}Q", *keys), struct.pack(f"<{len(keys)}f", *td_abs))


def actor(id_, incarnation, insert_rows):
    oldest = struct.pack("<Q", 0)
    return struct.pack("<IIQ", 0, id_, incarnation) + oldest + struct.pack("<I", insert_rows)


def learner(incarnation, batch_size, shards, shards_total):
    return struct.pack("<IQIII", 1, incarnation, batch_size, shards, shards_total)


def main(address, path):
    with open(path, "rb") as file:
        settings = tomllib.load(file)
    insert_rows, batch = settings["actor"]["insert_rows"], settings["learner"]["batch_size"]
    shards = settings["replay"]["shards"]

    acts = Client(address, settings)
    acts.hello(actor(7, 1234, insert_rows))
    (states, window), _ = acts.expect("Welcome")
    print(f"welcome: {len(states)} shards, window at least 1: {window >= 1}")

    def row(number):
        block = bytearray(acts.row.bytes)
        struct.pack_into("<f", block, acts.row.offsets["reward"], number)
        return bytes(block)

    acts.insert(0, 1, [row(number) for number in range(insert_rows)])
    (shard, sequence, refused, credit), _ = acts.expect("Inserted")
    print(f"inserted: shard {shard}, sequence {sequence}, refused {refused}, credit at least 1: {credit >= 1}")
    acts.insert(0, 1, [row(number) for number in range(insert_rows)])
    (_, sequence, _, _), _ = acts.expect("Inserted")
    print(f"repeated: sequence {sequence}")
    acts.sample(1, 0, 1, 1.0)
    print(f"an actor that samples: {acts.expect('Refused')[0]}")

    rival = Client(address, settings)
    rival.hello(actor(7, 99, insert_rows))
    print(f"a second actor 7: {rival.expect('Refused')[0]}")
    greedy = Client(address, settings)
    greedy.hello(actor(8, 5, insert_rows + 1))
    print(f"more rows per insert: {greedy.expect('Refused')[0]}")
    stranger = Client(address, {**settings, "cluster": {**settings["cluster"], "n_step": 5}})
    stranger.hello(actor(9, 5, insert_rows))
    print(f"another n_step: {stranger.expect('Refused')[0]}")

    learns = Client(address, settings)
    learns.sample(1, 0, 1, 1.0)
    print(f"without a greeting: {learns.expect('Refused')[0]}")
    learns.hello(learner(4321, batch, shards, shards * len(settings["endpoints"]["replay"])))
    (states, _), _ = learns.expect("Welcome")
    print(f"shards: {len(states)}")
    learns.sample(77, 0, 4, 4.0)
    (request, shard, count, items, _, inserts), (keys, probabilities, rows, actors) = learns.expect("Sampled")
    keys = struct.unpack(f"<{count}Q", keys)
    rewards = struct.unpack_from("<f", rows, learns.row.offsets["reward"])
    total = sum(struct.unpack(f"<{count}d", probabilities))
    print(f"sampled: request {request}, {count} of {items} items, of {inserts} inserts, rows {len(rows) == count * learns.row.bytes}")
    print(f"a reward that was inserted: {0 <= rewards[0] < insert_rows}; probability each 1/items: {abs(total * items - count) < 1e-9}")
    print(f"inserted by actor 7: {struct.unpack(f'<{count}I', actors) == (7,) * count}")
    learns.update(0, keys, [1.0] * count)
    learns.sample(78, 9, 1, 1.0)
    print(f"shard 9: {learns.expect('Refused')[0]}")


main(*sys.argv[1:])
