"""A server that forgets, loses, refuses and talks nonsense: a ROUTER socket that the test answers itself."""

import struct
import threading
from typing import Callable, Iterator, List

import numpy as np
import pytest
import zmq
from sapex_replay import ReplayClient, Refused, WireError, refusals
from servers import rows
from test_settings import sections

WELCOME = struct.pack("<IQ", 0, 1) + struct.pack("<QdQ", 0, 0.0, 0) + struct.pack("<I", 4)
HELLO, INSERT = 0, 1
Answer = Callable[[bytes], List[bytes]]


def refused(number: int, fields: bytes = b"") -> bytes:
    return struct.pack("<II", 1, number) + fields


def inserted(header: bytes) -> bytes:
    _, shard, sequence, _, _ = struct.unpack("<IHQI?", header)
    return struct.pack("<IHQII", 2, shard, sequence, 0, 4)


class Rogue:
    """Answers each header with the headers that `answer` returns. `heard` holds all headers."""

    def __init__(self) -> None:
        self.answer: Answer = lambda header: [WELCOME] if header[0] == HELLO else [inserted(header)]
        self.heard: List[bytes] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self.address = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def count(self, number: int) -> int:
        return sum(header[0] == number for header in list(self.heard))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()
        self._context.term()

    def _run(self) -> None:
        while not self._over.is_set():
            if self._socket.poll(20):
                peer, header, *_ = self._socket.recv_multipart()
                self.heard.append(header)
                for reply in self.answer(header):
                    self._socket.send_multipart([peer, reply])


@pytest.fixture
def rogue() -> Iterator[Rogue]:
    made = Rogue()
    yield made
    made.close()


@pytest.fixture
def client(rogue: Rogue) -> Iterator[ReplayClient]:
    made = ReplayClient(rogue.address, config=sections(obs_dim=4, act_dim=2), timeout=20.0)
    yield made
    made.close(flush=False)


def test_a_server_that_has_forgotten_the_client_is_greeted_and_gets_all_batches_again(
    rogue: Rogue, client: ReplayClient
) -> None:
    forget = iter([[refused(3)], [refused(3)]])
    rogue.answer = lambda header: [WELCOME] if header[0] == HELLO else next(forget, [inserted(header)])
    client.insert(rows(np.arange(16)))
    # Two batches of 8 rows, and the same again in order after the next greeting.
    inserts = [header for header in rogue.heard if header[0] == INSERT]
    first, second = inserts[:2]
    assert [struct.unpack_from("<Q", header, 6)[0] for header in (first, second)] == [1, 2]
    kinds = [header[0] for header in rogue.heard]
    after = kinds.index(INSERT) + 2
    assert kinds[after : after + 3] == [HELLO, INSERT, INSERT]
    assert inserts[2:] == [first, second]


def test_a_batch_whose_acknowledgement_is_lost_is_sent_again(rogue: Rogue, client: ReplayClient) -> None:
    lost = iter([[]])  # type: Iterator[List[bytes]]
    rogue.answer = lambda header: [WELCOME] if header[0] == HELLO else next(lost, [inserted(header)])
    client.insert(rows(np.arange(8)))
    assert rogue.count(INSERT) == 2
    assert rogue.heard[-1] == [header for header in rogue.heard if header[0] == INSERT][0]


def test_leaving_the_block_waits_until_a_lost_batch_was_sent_again(rogue: Rogue) -> None:
    lost = iter([[]])  # type: Iterator[List[bytes]]
    rogue.answer = lambda header: [WELCOME] if header[0] == HELLO else next(lost, [inserted(header)])
    with ReplayClient(rogue.address, config=sections(obs_dim=4, act_dim=2)) as client:
        client.insert(rows(np.arange(8)), wait=False)
    assert rogue.count(INSERT) == 2


def test_a_greeting_is_repeated_every_second_and_carries_the_oldest_batch(rogue: Rogue, client: ReplayClient) -> None:
    client.insert(rows(np.arange(16)))
    greetings = rogue.count(HELLO)
    threading.Event().wait(2.6)
    assert 2 <= rogue.count(HELLO) - greetings <= 4
    hello = rogue.heard[-1]
    # Number and version, role, id, incarnation; then the list of one shard: batches 1 and 2 are acknowledged.
    assert struct.unpack_from("<QQ", hello, 6 + 4 + 4 + 8) == (1, 3)


@pytest.mark.parametrize(
    "reply, refusal",
    [
        (refused(6), refusals.Quarantined()),
        (refused(0, struct.pack("<HH", 5, 4)), refusals.Protocol(5, 4)),
        (refused(2, struct.pack("<QQ", 56, 48)), refusals.Layout(56, 48)),
        (refused(5, struct.pack("<Q", 4) + b"rows"), refusals.Malformed("rows")),
        (refused(4, struct.pack("<HH", 3, 2)), refusals.UnknownShard(3, 2)),
    ],
)
def test_final_refusals_reach_the_caller_with_their_facts(
    rogue: Rogue, client: ReplayClient, reply: bytes, refusal: refusals.Refusal
) -> None:
    rogue.answer = lambda header: [WELCOME] if header[0] == HELLO else [reply]
    with pytest.raises(Refused) as caught:
        client.insert(rows(np.arange(8)))
    assert (caught.value.server, caught.value.refusal) == (rogue.address, refusal)
    # Nothing is sent after it.
    heard = len(rogue.heard)
    threading.Event().wait(1.5)
    assert len(rogue.heard) == heard


def test_a_server_that_is_stopping_is_asked_again(rogue: Rogue, client: ReplayClient) -> None:
    stopping = iter([[refused(7)]])
    rogue.answer = lambda header: [WELCOME] if header[0] == HELLO else next(stopping, [inserted(header)])
    client.insert(rows(np.arange(8)))


@pytest.mark.parametrize("reply", [b"", b"\7\0\0\0", WELCOME + b"\0", b"\0\0\0\0" + b"\xff" * 8])
def test_bytes_that_are_no_reply_are_an_error_and_not_a_wait(rogue: Rogue, client: ReplayClient, reply: bytes) -> None:
    rogue.answer = lambda header: [reply]
    with pytest.raises(WireError):
        client.insert(rows(np.arange(8)))
    with pytest.raises(WireError):
        client.insert(rows(np.arange(8)))


def test_rows_that_a_server_acknowledges_and_refuses_are_counted(rogue: Rogue, client: ReplayClient) -> None:
    reply = struct.pack("<IHQII", 2, 0, 1, 3, 4)
    rogue.answer = lambda header: [WELCOME] if header[0] == HELLO else [reply]
    client.insert(rows(np.arange(8)))
    assert client.rows_refused == 3


def test_samples_whose_frames_do_not_fit_their_header_are_an_error(rogue: Rogue, client: ReplayClient) -> None:
    def answer(header: bytes) -> List[bytes]:
        if header[0] == HELLO:
            return [WELCOME]
        request = struct.unpack_from("<Q", header, 4)[0]
        return [struct.pack("<IQHIQdQ", 3, request, 0, 4, 10, 1.0, 10)]

    rogue.answer = answer
    with pytest.raises(WireError, match="data frames of a sample"):
        client.sample(4)
