"""Reverb over loopback gRPC: inserts/s of one client, or prioritized samples/s in batches.

The server runs in a separate process. A client in the same process would access the table directly, without a socket.
Each figure uses the fastest of the methods that Reverb offers (README.md lists them with their figures). `--method`
selects another one.
"""

import argparse
import os
import subprocess
import sys
import time

from measurement import claim_stdout, limit_seconds, note, report

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402  TensorFlow reads the variable above when it is imported
import reverb  # noqa: E402
import tensorflow as tf  # noqa: E402

TABLE = "replay"
# Number of rows that are generated in advance and used in turn. They are random, so that snappy cannot compress them,
# and few, so that generating them does not affect the measurement.
DISTINCT_ROWS = 4096
# Number of inserts between two readings of the clock and of the number of unconfirmed items.
INSERTS_PER_LOOK = 200
PRIORITY_EXPONENT = 0.6


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", choices=["inserts", "samples"], required=True)
    parser.add_argument("--row-floats", type=int, default=42, help="f32 values in a row (42 are 168 bytes)")
    parser.add_argument("--capacity", type=int, default=1_000_000, help="rows that the table holds")
    parser.add_argument("--batch", type=int, default=256, help="samples in a batch")
    parser.add_argument("--fill", type=int, default=200_000, help="rows in the table before sampling is measured")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the measurement")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds that run before it and do not count")
    parser.add_argument("--limit", type=int, default=120, help="seconds after which the script gives up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", help=f"inserts: {', '.join(INSERTS)}; samples: {', '.join(SAMPLES)}")
    parser.add_argument(
        "--chunk", type=int, help="rows compressed and sent together (writer, trajectory-writer, and before samples)"
    )
    parser.add_argument("--in-flight", type=int, help="items (inserts) or samples per worker that may be on their way")
    parser.add_argument("--workers", type=int, default=4, help="streams that a dataset samples over")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    inserting = arguments.figure == "inserts"
    arguments.method = arguments.method or ("writer" if inserting else "trajectory-dataset")
    if arguments.method not in (INSERTS if inserting else SAMPLES):
        parser.error(f"--method {arguments.method} does not measure {arguments.figure}")
    # Chunks of 10 rows are fastest for inserts and slowest for samples, because a sample contains the whole chunk of
    # its row.
    arguments.chunk = arguments.chunk or (10 if inserting else 1)
    arguments.in_flight = arguments.in_flight or IN_FLIGHT.get(arguments.method, arguments.batch)
    return arguments


def serve(arguments):
    """Runs the server until stdin is closed, which also happens when the client process ends."""
    result = claim_stdout()
    table = reverb.Table(
        TABLE,
        sampler=reverb.selectors.Prioritized(PRIORITY_EXPONENT),
        remover=reverb.selectors.Fifo(),
        max_size=arguments.capacity,
        rate_limiter=reverb.rate_limiters.MinSize(1),
        # An item is a sequence of one step, the only shape that every writer can produce.
        signature=tf.TensorSpec([1, arguments.row_floats], tf.float32),
    )
    server = reverb.Server([table])
    print(server.port, file=result, flush=True)
    sys.stdin.read()
    server.stop()


def start_server():
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--serve"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, f"localhost:{int(process.stdout.readline())}"


class Rows:
    """An endless iterator of (row, priority)."""

    def __init__(self, arguments):
        generator = np.random.default_rng(arguments.seed)
        self._rows = list(generator.standard_normal((DISTINCT_ROWS, arguments.row_floats), dtype=np.float32))
        self._priorities = (generator.random(DISTINCT_ROWS) + 0.01).tolist()
        self._next = 0

    def __next__(self):
        at = self._next
        self._next = (at + 1) % DISTINCT_ROWS
        return self._rows[at], self._priorities[at]


# Each of these functions returns (look, finish): `look` inserts INSERTS_PER_LOOK rows, `finish` waits for
# confirmations.


def insert_by_call(client, rows, _):
    """Inserts with `Client.insert`, the method of the tutorials, which needs a round trip per row."""

    def look():
        for _ in range(INSERTS_PER_LOOK):
            row, priority = next(rows)
            client.insert(row, {TABLE: priority})

    return look, lambda: None


def insert_by_trajectory_writer(client, rows, arguments):
    writer = client.trajectory_writer(arguments.chunk)
    writer.configure((), num_keep_alive_refs=arguments.chunk, max_chunk_length=arguments.chunk)

    def look():
        for _ in range(INSERTS_PER_LOOK):
            row, priority = next(rows)
            writer.append(row)
            writer.create_item(TABLE, priority, writer.history[-1:])
        writer.flush(arguments.in_flight)

    return look, writer.flush


def insert_by_structured_writer(client, rows, arguments):
    """Compiles the pattern into C++, so that a row costs one call. The priority is a constant of the pattern."""
    pattern = reverb.structured_writer.pattern_from_transform(None, lambda step: step[-1:])
    writer = client.structured_writer([reverb.structured_writer.create_config(pattern, TABLE)])

    def look():
        for _ in range(INSERTS_PER_LOOK):
            row, _ = next(rows)
            writer.append(row)
        writer.flush(arguments.in_flight)

    return look, writer.flush


def insert_by_writer(client, rows, arguments):
    writer = client.writer(
        max_sequence_length=arguments.chunk, chunk_length=arguments.chunk, max_in_flight_items=arguments.in_flight
    )

    def look():
        for _ in range(INSERTS_PER_LOOK):
            row, priority = next(rows)
            writer.append(row)
            writer.create_item(TABLE, 1, priority)

    return look, writer.flush


# Number of items in flight at which each method is fastest. A dataset is fastest with one batch per worker.
IN_FLIGHT = {"insert": 1, "trajectory-writer": 2000, "structured-writer": 200, "writer": 2000}

INSERTS = {
    "insert": insert_by_call,
    "trajectory-writer": insert_by_trajectory_writer,
    "structured-writer": insert_by_structured_writer,
    "writer": insert_by_writer,
}


# Each of these functions returns an endless iterator of batches.


def sample_by_client(client, _, arguments):
    def batches():
        while True:
            yield list(client.sample(TABLE, arguments.batch, emit_timesteps=False))

    return batches()


def sample_by_dataset(_, address, arguments):
    samples = reverb.TrajectoryDataset.from_table_signature(
        address,
        TABLE,
        max_in_flight_samples_per_worker=arguments.in_flight,
        num_workers_per_iterator=arguments.workers,
    )
    return iter(samples.batch(arguments.batch).prefetch(4))


SAMPLES = {
    "client": sample_by_client,
    "trajectory-dataset": sample_by_dataset,
}


def repeat_for(seconds, work):
    """Calls `work` until `seconds` have passed."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()


def limiter(client):
    return client.server_info()[TABLE].rate_limiter_info


def measure_inserts(client, _, arguments):
    """Returns the rows per second that the server stored. The time includes the wait for the last confirmation."""
    look, finish = INSERTS[arguments.method](client, Rows(arguments), arguments)
    repeat_for(arguments.warmup, look)
    finish()
    before = limiter(client).insert_stats.completed
    start = time.perf_counter()
    repeat_for(arguments.seconds, look)
    finish()
    seconds = time.perf_counter() - start
    return (limiter(client).insert_stats.completed - before) / seconds, seconds


def measure_samples(client, address, arguments):
    """Returns the samples per second that the client received in whole batches."""
    filling = argparse.Namespace(chunk=arguments.chunk, in_flight=IN_FLIGHT["writer"])
    fill, finish = insert_by_writer(client, Rows(arguments), filling)
    for _ in range(-(-arguments.fill // INSERTS_PER_LOOK)):
        fill()
    finish()
    note(f"table filled with {client.server_info()[TABLE].current_size} rows")
    batches = SAMPLES[arguments.method](client, address, arguments)
    repeat_for(arguments.warmup, lambda: next(batches))
    taken = 0
    start = time.perf_counter()
    while time.perf_counter() - start < arguments.seconds:
        next(batches)
        taken += arguments.batch
    seconds = time.perf_counter() - start
    return taken / seconds, seconds


def main():
    arguments = parse_arguments()
    limit_seconds(arguments.limit)
    if arguments.serve:
        serve(arguments)
        return
    result = claim_stdout()
    process, address = start_server()
    measure = measure_inserts if arguments.figure == "inserts" else measure_samples
    rate, seconds = measure(reverb.Client(address), address, arguments)
    config = {
        "row_bytes": 4 * arguments.row_floats,
        "capacity": arguments.capacity,
        "method": arguments.method,
        # The structured writer chooses its own chunk sizes, and `insert` sends one row at a time.
        "chunk": {"structured-writer": "auto", "insert": 1}.get(arguments.method, arguments.chunk),
        "in_flight": arguments.in_flight,
        "priority_exponent": PRIORITY_EXPONENT,
        "clients": 1,
        "transport": "gRPC, loopback",
    }
    if arguments.figure == "samples":
        config |= {"batch": arguments.batch, "fill": arguments.fill, "workers": arguments.workers}
    report(
        result,
        peer="Reverb",
        package="dm-reverb",
        figure=round(rate),
        unit=f"{arguments.figure}/s",
        config=config,
        seconds=seconds,
    )
    process.stdin.close()
    process.wait()


if __name__ == "__main__":
    main()
