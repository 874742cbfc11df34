"""Every header against the golden bytes of the repository."""

from typing import Dict, Tuple, Union

import pytest
from sapex_replay import WireError, refusals
from sapex_replay.wire import (
    PROTOCOL,
    Actor,
    Hello,
    Insert,
    Inserted,
    Learner,
    NotSampled,
    RefusedReply,
    Reply,
    Role,
    Sample,
    Sampled,
    ShardState,
    UpdatePriorities,
    Welcome,
    decode_reply,
)
from servers import ROOT

GOLDEN = ROOT / f"common/testdata/wire/v{PROTOCOL}.txt"


def golden() -> Dict[str, bytes]:
    lines = (line.split() for line in GOLDEN.read_text().splitlines())
    return {name: bytes.fromhex(hexadecimal) for name, hexadecimal in lines}


def hello(role: Role) -> Hello:
    # The golden greetings carry an older version number than the protocol has now.
    pairs: Tuple[Tuple[str, str], ...] = (("cluster.n_step", "3"),)
    return Hello(role, 0x1122_3344_5566_7788, pairs, 0x99AA_BBCC_DDEE_FF00, 48, protocol=3)


REQUESTS: Dict[str, Union[Hello, Insert, Sample, UpdatePriorities]] = {
    "request.hello.actor": hello(Actor(7, 0xFEED, (1, 9), 32)),
    "request.hello.learner": hello(Learner(0xBEEF, 256, 2, 4)),
    "request.insert": Insert(1, 5, 32, True),
    "request.sample": Sample(77, 0, 128, 64.0, 1000),
    "request.update_priorities": UpdatePriorities(2, 128),
}
STATE = ShardState(1000, 12.5, 1234)
REPLIES: Dict[str, Reply] = {
    "reply.welcome": Welcome((STATE, ShardState()), 4),
    "reply.refused.protocol": RefusedReply(refusals.Protocol(2, 1)),
    "reply.refused.cluster": RefusedReply(refusals.Cluster(("cluster.n_step is 1",))),
    "reply.refused.layout": RefusedReply(refusals.Layout(48, 56)),
    "reply.refused.not_greeted": RefusedReply(refusals.NotGreeted()),
    "reply.refused.unknown_shard": RefusedReply(refusals.UnknownShard(4, 2)),
    "reply.refused.malformed": RefusedReply(refusals.Malformed("rows")),
    "reply.refused.quarantined": RefusedReply(refusals.Quarantined()),
    "reply.refused.shutting_down": RefusedReply(refusals.ShuttingDown()),
    "reply.refused.settings": RefusedReply(refusals.Settings(("actor.insert_rows",))),
    "reply.refused.not_allowed": RefusedReply(refusals.NotAllowed("Sample", "an actor")),
    "reply.refused.in_use": RefusedReply(refusals.InUse("actor 3", 400)),
    "reply.refused.superseded": RefusedReply(refusals.Superseded("the learner")),
    "reply.inserted": Inserted(1, 5, 2, 4),
    "reply.sampled": Sampled(77, 0, 128, STATE),
    "reply.not_sampled": NotSampled(77, 0, 12, STATE),
}


def test_every_golden_header_of_this_conversation_is_known() -> None:
    # Events go from the learner to actors. This client takes no part in that.
    assert {*REQUESTS, *REPLIES} == {name for name in golden() if not name.startswith("event.")}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_the_golden_bytes(name: str) -> None:
    assert REQUESTS[name].encode().hex() == golden()[name].hex()


@pytest.mark.parametrize("name", REPLIES)
def test_replies_are_read_from_the_golden_bytes_and_from_no_part_of_them(name: str) -> None:
    header = golden()[name]
    assert decode_reply(header) == REPLIES[name]
    for end in range(len(header)):
        with pytest.raises(WireError):
            decode_reply(header[:end])
    with pytest.raises(WireError, match="1 bytes after its end"):
        decode_reply(header + b"\0")


def test_a_list_that_is_longer_than_its_header_is_refused_before_it_is_read() -> None:
    welcome = bytearray(golden()["reply.welcome"])
    welcome[4:12] = b"\xff" * 8
    with pytest.raises(WireError, match="longer than its header"):
        decode_reply(bytes(welcome))


def test_numbers_of_no_reply_and_of_no_refusal_are_refused() -> None:
    with pytest.raises(WireError, match="reply number 5 is unknown"):
        decode_reply(b"\5\0\0\0")
    with pytest.raises(WireError, match="refusal number 12 is unknown"):
        decode_reply(b"\1\0\0\0\14\0\0\0")


def test_a_sample_with_a_short_frame_is_refused() -> None:
    sampled = Sampled(1, 0, 2, STATE)
    sampled.check([bytes(16), bytes(16), bytes(96), bytes(8)], 48)
    with pytest.raises(WireError, match=r"\[16, 16, 95, 8\] bytes, expected \[16, 16, 96, 8\]"):
        sampled.check([bytes(16), bytes(16), bytes(95), bytes(8)], 48)
