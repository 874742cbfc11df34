//! `FrameGate` against valid streams, invalid streams and garbage, cut into pieces in every way.

use bytes::{BufMut as _, Bytes};
use common::limits::{COMMAND_BYTES_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_FRAMES_MAX};
use common::transport::Message;
use common::transport::zmtp::decode::{Decoder, Item};
use common::transport::zmtp::gate::{FrameGate, HELD_BYTES_MAX, StreamPart};
use common::transport::zmtp::rules::{GateLimits, Violation};
use proptest::prelude::*;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

fn greeting() -> Vec<u8> {
    let mut greeting = vec![0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    [header(flags, body.len() as u64), body.to_vec()].concat()
}

fn header(flags: u8, size: u64) -> Vec<u8> {
    match u8::try_from(size) {
        Ok(size) if flags & LONG == 0 => vec![flags, size],
        _ => [vec![flags | LONG], size.to_be_bytes().to_vec()].concat(),
    }
}

fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.extend((value.len() as u32).to_be_bytes());
    bytes.extend(value);
    bytes
}

fn ready(properties: &[Vec<u8>]) -> Vec<u8> {
    frame(COMMAND, &[b"\x05READY".to_vec(), properties.concat()].concat())
}

fn handshake() -> Vec<u8> {
    [greeting(), ready(&[property("Socket-Type", b"DEALER"), property("Identity", b"")])].concat()
}

fn message(frames: &[&[u8]]) -> Vec<u8> {
    let last = frames.len() - 1;
    (0..).zip(frames).flat_map(|(i, body)| frame(if i < last { MORE } else { 0 }, body)).collect()
}

/// Feeds a stream in pieces of these lengths, repeated in turn, as the guard does. Returns the bytes that may be
/// forwarded, and the violation if there is one.
fn feed(mut gate: FrameGate, stream: &[u8], pieces: &[usize]) -> (Vec<u8>, Option<Violation>) {
    let (mut forwarded, mut held, mut rest) = (Vec::new(), Vec::new(), stream);
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*piece).min(rest.len()));
        rest = later;
        held.extend(now);
        match gate.admit(&held) {
            Ok(admitted) => forwarded.extend(held.drain(..admitted)),
            Err(violation) => return (forwarded, Some(violation)),
        }
        assert!(held.len() < HELD_BYTES_MAX, "held {} bytes", held.len());
    }
    (forwarded, None)
}

fn gate() -> FrameGate {
    FrameGate::new(GateLimits::MESSAGES)
}

#[test]
fn an_honest_stream_passes_whole_in_pieces_of_every_size() {
    let long = vec![9; 70_000];
    let full: Vec<&[u8]> = vec![b"frame"; MESSAGE_FRAMES_MAX];
    let messages = [message(&[b""]), message(&[b"header", b"", &long]), message(&full)].concat();
    let stream = [handshake(), messages].concat();
    for piece in [1, 2, 7, 9, 64, 65, 1_000, 1 << 20] {
        let (forwarded, violation) = feed(gate(), &stream, &[piece]);
        assert_eq!(violation, None);
        assert_eq!(forwarded.len(), stream.len());
        assert!(forwarded == stream, "changed in pieces of {piece}");
    }
}

#[test]
fn the_first_bytes_of_an_announced_frame_wait_until_its_size_is_known() {
    let mut gate = gate();
    assert!(!gate.is_open());
    let handshake = handshake();
    assert_eq!(gate.admit(&handshake), Ok(handshake.len()));
    assert!(gate.is_open());
    let attack = header(0, 1 << 46);
    assert_eq!(attack.len(), 9);
    for some in 0..9 {
        assert_eq!(gate.admit(&attack[..some]), Ok(0), "{some} bytes");
    }
    let limit = FRAME_BYTES_MAX as u64;
    assert_eq!(gate.admit(&attack), Err(Violation::FrameBytes { announced: 1 << 46, limit }));
}

#[test]
fn each_violation_is_named_and_nothing_of_its_frame_passes() {
    let with = |at: usize, byte: u8| {
        let mut greeting = greeting();
        greeting[at] = byte;
        greeting
    };
    let after = |bytes: Vec<u8>| [handshake(), bytes].concat();
    let ready_with = |bytes: Vec<u8>| [greeting(), bytes].concat();
    let bad_ready = |problem| Violation::Ready { problem };
    let frame_limit = FRAME_BYTES_MAX as u64;
    let oversize = |announced, limit| Violation::FrameBytes { announced, limit };
    let many = message(&[&b"x"[..]; MESSAGE_FRAMES_MAX + 1]);
    let cut_off = |end: usize| {
        let body = [b"\x05READY".to_vec(), property("Socket-Type", b"DEALER")].concat();
        ready_with(frame(COMMAND, &body[..end]))
    };
    let cases = [
        (with(0, 0x47), Violation::Signature { at: 0, byte: 0x47 }),
        (with(9, 0), Violation::Signature { at: 9, byte: 0 }),
        (with(10, 2), Violation::Version { major: 2 }),
        (with(12, b'P'), Violation::Mechanism),
        (ready_with(frame(0, b"hello")), bad_ready("expected a command frame")),
        (ready_with(frame(COMMAND | MORE, b"")), bad_ready("expected a command frame")),
        (ready_with(frame(COMMAND, b"\x04PING")), bad_ready("expected the command READY")),
        (cut_off(10), bad_ready("a property's name is cut off")),
        (cut_off(20), bad_ready("a property's length is cut off")),
        (cut_off(25), bad_ready("a property's value is cut off")),
        (
            ready_with(ready(&[property("identity", b"somebody else")])),
            bad_ready("peers may not choose their identity"),
        ),
        (ready_with(header(COMMAND, 1 << 20)), oversize(1 << 20, COMMAND_BYTES_MAX as u64)),
        (after(vec![0x08, 0]), Violation::Flags { flags: 0x08 }),
        (after(vec![0x80, 0]), Violation::Flags { flags: 0x80 }),
        (after(frame(COMMAND, b"\x05READY")), Violation::Command { announced: 6 }),
        (after(header(COMMAND, 1 << 46)), Violation::Command { announced: 1 << 46 }),
        (after(header(0, frame_limit + 1)), oversize(frame_limit + 1, frame_limit)),
        (after(header(0, u64::MAX)), oversize(u64::MAX, frame_limit)),
        (after(many), Violation::MessageFrames { limit: MESSAGE_FRAMES_MAX }),
    ];
    for (stream, expected) in cases {
        for piece in [1, 3, 1 << 20] {
            let (forwarded, violation) = feed(gate(), &stream, &[piece]);
            assert_eq!(violation, Some(expected), "in pieces of {piece}");
            let honest = reference(&stream).0;
            assert!(forwarded.len() <= honest, "{expected} let {} bytes pass", forwarded.len());
        }
    }
}

#[test]
fn the_bytes_of_a_message_are_limited_over_all_its_frames() {
    let limits = GateLimits { message_bytes: 10, ..GateLimits::MESSAGES };
    let fits = message(&[b"12345", b"12345"]);
    let exceeds = message(&[b"12345", b"12345", b"!"]);
    let stream = [handshake(), fits.clone(), fits, exceeds].concat();
    let (forwarded, violation) = feed(FrameGate::new(limits), &stream, &[1]);
    assert_eq!(violation, Some(Violation::MessageBytes { announced: 11, limit: 10 }));
    assert_eq!(forwarded.len(), stream.len() - frame(0, b"!").len());
    assert_eq!(GateLimits::MESSAGES.message_bytes, MESSAGE_BYTES_MAX as u64);
}

#[test]
fn a_subscriber_may_subscribe_a_few_times_and_no_more() {
    let subscriptions = GateLimits::SUBSCRIPTIONS;
    let stream = [handshake(), message(&[b"\x01"]).repeat(17)].concat();
    let (forwarded, violation) = feed(FrameGate::new(subscriptions), &stream, &[1]);
    assert_eq!(violation, Some(Violation::Messages { limit: 16 }));
    assert_eq!(forwarded.len(), stream.len() - 3);
    let long = [handshake(), message(&[&[1; 257]])].concat();
    let (_, violation) = feed(FrameGate::new(subscriptions), &long, &[1]);
    assert_eq!(violation, Some(Violation::FrameBytes { announced: 257, limit: 256 }));
}

#[test]
fn runs_tell_where_messages_end_and_set_commands_apart() {
    let ping = frame(COMMAND, b"\x04PING\0\0context");
    let stream = [handshake(), message(&[b"a", b"bc"]), ping.clone(), message(&[b""])].concat();
    let mut gate = gate();
    let (mut at, mut parts) = (0, Vec::new());
    while let Some(run) = gate.next_run(&stream[at..]).unwrap() {
        at += run.bytes;
        parts.push((run.bytes, run.part));
    }
    let ready = handshake().len() - 64;
    let [whole, inside, end] = [StreamPart::Handshake, StreamPart::Message, StreamPart::MessageEnd];
    let command = (ping.len(), StreamPart::Command);
    assert_eq!(parts, [(64, whole), (ready, whole), (3, inside), (4, end), command, (2, end)]);
}

#[test]
fn a_decoder_reads_the_same_messages_and_commands_in_pieces_of_every_size() {
    let long = vec![9; 700_000];
    let messages = [message(&[b""]), message(&[b"header", b"", &long]), message(&[&long, b"end"])];
    let commands = [
        frame(COMMAND, b"\x04PING\0\0context"),
        frame(COMMAND, b"\x04PONG"),
        frame(COMMAND, b"\x09SUBSCRIBEprefix"),
        frame(COMMAND, b"\x06CANCELprefix"),
    ];
    let stream = [handshake(), messages.concat(), commands.concat()].concat();
    let bytes = Bytes::copy_from_slice;
    let body = |frames: &[&[u8]]| {
        Item::Message(Message::new(frames.iter().map(|frame| bytes(frame)).collect()))
    };
    let expected = [
        Item::Greeting { heartbeats: false },
        Item::Ready { socket_type: bytes(b"DEALER") },
        body(&[b""]),
        body(&[b"header", b"", &long]),
        body(&[&long, b"end"]),
        Item::Ping(bytes(b"context")),
        Item::Pong,
        Item::Subscribe(bytes(b"prefix")),
        Item::Cancel(bytes(b"prefix")),
    ];
    for piece in [1, 7, 64, 1_000, 100_000, 1 << 21] {
        let mut decoder = Decoder::new(GateLimits::MESSAGES);
        let (mut items, mut rest) = (Vec::new(), &stream[..]);
        while !rest.is_empty() {
            let mut room = decoder.room();
            let here = room.chunk_mut().len().min(room.remaining_mut()).min(piece).min(rest.len());
            room.put_slice(&rest[..here]);
            rest = &rest[here..];
            while let Some(item) = decoder.next_item().unwrap() {
                items.push(item);
            }
        }
        assert!(items == expected, "in pieces of {piece}");
    }
}

proptest! {
    #[test]
    fn a_decoder_refuses_what_the_gate_refuses(
        body in garbage(),
        piece in 1..400_usize,
    ) {
        let stream = [handshake(), body].concat();
        let mut decoder = Decoder::new(GateLimits::MESSAGES);
        let mut violation = None;
        for bytes in stream.chunks(piece) {
            let mut rest = bytes;
            while !rest.is_empty() && violation.is_none() {
                let mut room = decoder.room();
                let here = room.chunk_mut().len().min(room.remaining_mut()).min(rest.len());
                room.put_slice(&rest[..here]);
                rest = &rest[here..];
                violation = loop {
                    match decoder.next_item() {
                        Ok(Some(_)) => {}
                        Ok(None) => break None,
                        Err(violation) => break Some(violation),
                    }
                };
            }
        }
        prop_assert_eq!(violation, feed(gate(), &stream, &[piece]).1);
    }
}

/// Straightforward reference implementation, for a stream that begins with a valid handshake. Returns how many bytes
/// may pass at most before the first offending frame (all bytes if there is none), and whether there is one.
fn reference(stream: &[u8]) -> (usize, bool) {
    let honest = handshake();
    if !stream.starts_with(&honest) {
        return (if stream.starts_with(&greeting()) { 64 } else { 0 }, true);
    }
    let (mut at, mut frames, mut bytes) = (honest.len(), 0, 0);
    loop {
        let Some(&flags) = stream.get(at) else { return (stream.len(), false) };
        if flags > 7 {
            return (at, true);
        }
        let (size, header) = if flags & LONG != 0 {
            let Some(size) = stream.get(at + 1..at + 9) else { return (at, false) };
            (u64::from_be_bytes(size.try_into().unwrap()), 9)
        } else {
            let Some(&size) = stream.get(at + 1) else { return (at, false) };
            (u64::from(size), 2)
        };
        if flags & COMMAND != 0 && frames == 0 && flags & MORE == 0 {
            let there = &stream[at + header..];
            match command_end(size, there) {
                None => return (at, true),
                Some(end) if end > there.len() => return (at, false),
                Some(end) => at += header + end,
            }
            continue;
        }
        frames += 1;
        bytes += u128::from(size);
        let offends = flags & COMMAND != 0
            || size > FRAME_BYTES_MAX as u64
            || frames > MESSAGE_FRAMES_MAX
            || bytes > MESSAGE_BYTES_MAX as u128;
        if offends {
            return (at, true);
        }
        at += header + size as usize;
        if at >= stream.len() {
            return (stream.len(), false);
        }
        if flags & MORE == 0 {
            (frames, bytes) = (0, 0);
        }
    }
}

/// Returns where a command of this size ends. `None` if the bytes that have arrived cannot be the beginning of a known
/// command.
fn command_end(size: u64, there: &[u8]) -> Option<usize> {
    let size = usize::try_from(size).ok().filter(|size| *size <= COMMAND_BYTES_MAX)?;
    let there = &there[..size.min(there.len())];
    let names = [&b"\x04PING"[..], b"\x04PONG", b"\x09SUBSCRIBE", b"\x06CANCEL"];
    let known =
        |name: &&[u8]| size >= name.len() && (there.starts_with(name) || name.starts_with(there));
    names.iter().any(known).then_some(size)
}

/// Generates frames with mostly sensible headers: random bytes would rarely be valid past the first one.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![8 => 0..300_u64, 1 => any::<u64>(), 1 => FRAME_BYTES_MAX as u64..];
    let piece = (0..4_u8, size, any::<u8>()).prop_map(|(flags, size, body)| {
        let there = usize::try_from(size.min(300)).unwrap();
        [header(flags, size), vec![body; there]].concat()
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..20);
    proptest::collection::vec(prop_oneof![20 => piece, 1 => noise], 0..30)
        .prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn every_way_of_cutting_up_garbage_gives_the_same_verdict(
        body in garbage(),
        pieces in proptest::collection::vec(1..400_usize, 1..20),
    ) {
        let stream = [handshake(), body].concat();
        let (honest, offends) = reference(&stream);
        let (forwarded, violation) = feed(gate(), &stream, &pieces);
        prop_assert_eq!(violation.is_some(), offends);
        prop_assert!(stream.starts_with(&forwarded), "only a prefix may pass, unchanged");
        if offends {
            prop_assert!(forwarded.len() <= honest, "{} of {honest} passed", forwarded.len());
        } else {
            prop_assert_eq!(forwarded.len(), honest);
        }
        // If the stream is fed byte by byte, everything before the offending frame passes.
        prop_assert_eq!(feed(gate(), &stream, &[1]).0.len(), honest);
    }

    #[test]
    fn noise_from_the_first_byte_is_refused_without_a_panic(
        noise in proptest::collection::vec(any::<u8>(), 1..300),
        piece in 1..100_usize,
    ) {
        prop_assume!(noise[0] != 0xff);
        let (forwarded, violation) = feed(gate(), &noise, &[piece]);
        prop_assert!(forwarded.is_empty());
        prop_assert_eq!(violation, Some(Violation::Signature { at: 0, byte: noise[0] }));
    }
}
