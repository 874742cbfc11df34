//! Every header of the protocol against checked-in bytes (`testdata/wire/v4.txt`, one `name hex` line each), so that
//! another codec, or a client in another language, can be held to the same bytes. Damaged headers are refused.
//!
//! After an intended change (with a new `PROTOCOL_VERSION`), `SAPEX_BLESS=1 cargo test -p common --test all wire_golden`
//! rewrites the file.

use bytes::Bytes;
use common::ids::{ActorId, BatchSequence, Incarnation, PolicyVersion};
use common::limits::HEADER_BYTES_MAX;
use common::transport::Message;
use common::wire::handshake::{ClientRole, Hello};
use common::wire::message::{Event, Reply, Request, RunPosition, ShardState};
use common::wire::refusal::Refusal;
use common::wire::{WireError, decode, encode, rows};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Write as _};

fn hello(role: ClientRole) -> Hello {
    Hello {
        protocol: 3,
        role,
        cluster_hash: 0x1122_3344_5566_7788,
        cluster: vec![("cluster.n_step".into(), "3".into())],
        layout_hash: 0x99aa_bbcc_ddee_ff00,
        row_bytes: 48,
    }
}

fn requests() -> Vec<(&'static str, Request)> {
    let actor = ClientRole::Actor {
        id: ActorId(7),
        incarnation: Incarnation(0xfeed),
        oldest_unacknowledged: vec![BatchSequence(1), BatchSequence(9)],
        insert_rows: 32,
    };
    let learner = ClientRole::Learner {
        incarnation: Incarnation(0xbeef),
        batch_size: 256,
        shards: 2,
        shards_total: 4,
    };
    vec![
        ("request.hello.actor", Request::Hello(hello(actor))),
        ("request.hello.learner", Request::Hello(hello(learner))),
        (
            "request.insert",
            Request::Insert {
                shard: 1,
                sequence: BatchSequence(5),
                rows: 32,
                has_priorities: true,
            },
        ),
        (
            "request.sample",
            Request::Sample { request: 77, shard: 0, count: 128, share: 64.0, timeout_ms: 1000 },
        ),
        ("request.update_priorities", Request::UpdatePriorities { shard: 2, count: 128 }),
    ]
}

fn replies() -> Vec<(&'static str, Reply)> {
    let state = ShardState { items: 1000, mass: 12.5, inserts: 1234 };
    vec![
        ("reply.welcome", Reply::Welcome { shards: vec![state, ShardState::default()], window: 4 }),
        ("reply.refused.protocol", Reply::Refused(Refusal::Protocol { server: 2, client: 1 })),
        (
            "reply.refused.cluster",
            Reply::Refused(Refusal::Cluster { differences: vec!["cluster.n_step is 1".into()] }),
        ),
        ("reply.refused.layout", Reply::Refused(Refusal::Layout { server: 48, client: 56 })),
        ("reply.refused.not_greeted", Reply::Refused(Refusal::NotGreeted)),
        (
            "reply.refused.unknown_shard",
            Reply::Refused(Refusal::UnknownShard { shard: 4, shards: 2 }),
        ),
        ("reply.refused.malformed", Reply::Refused(Refusal::Malformed { what: "rows".into() })),
        ("reply.refused.quarantined", Reply::Refused(Refusal::Quarantined)),
        ("reply.refused.shutting_down", Reply::Refused(Refusal::ShuttingDown)),
        (
            "reply.refused.settings",
            Reply::Refused(Refusal::Settings { differences: vec!["actor.insert_rows".into()] }),
        ),
        (
            "reply.refused.not_allowed",
            Reply::Refused(Refusal::NotAllowed {
                request: "Sample".into(),
                role: "an actor".into(),
            }),
        ),
        (
            "reply.refused.in_use",
            Reply::Refused(Refusal::InUse { who: "actor 3".into(), silent_ms: 400 }),
        ),
        (
            "reply.refused.superseded",
            Reply::Refused(Refusal::Superseded { who: "the learner".into() }),
        ),
        (
            "reply.inserted",
            Reply::Inserted { shard: 1, sequence: BatchSequence(5), rows_refused: 2, credit: 4 },
        ),
        ("reply.sampled", Reply::Sampled { request: 77, shard: 0, count: 128, state }),
        (
            "reply.not_sampled",
            Reply::NotSampled { request: 77, shard: 0, inserts_missing: 12, state },
        ),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    vec![(
        "event.policy",
        Event::Policy {
            version: PolicyVersion(3),
            arch_hash: 4,
            cluster_hash: 5,
            checksum: 6,
            parameters: 7,
            run: RunPosition { updates: 8, env_steps: 9 },
        },
    )]
}

fn header<H: Serialize>(value: &H) -> Vec<u8> {
    encode(value, []).frames[0].to_vec()
}

fn message(bytes: &[u8]) -> Message {
    Message { frames: vec![Bytes::copy_from_slice(bytes)] }
}

/// Checks that truncated and over-long headers are refused, and that whole headers decode to the encoded values.
fn survives_damage<H: Serialize + DeserializeOwned + PartialEq + Debug>(cases: &[(&str, H)]) {
    for (name, value) in cases {
        let bytes = header(value);
        assert_eq!(&decode::<H>(&message(&bytes)).unwrap().0, value, "{name}");
        for end in 0..bytes.len() {
            assert!(decode::<H>(&message(&bytes[..end])).is_err(), "{name} cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            matches!(decode::<H>(&message(&longer)), Err(WireError::Header { .. })),
            "{name} with a byte more"
        );
    }
}

#[test]
fn headers_are_the_golden_bytes() {
    let mut text = String::new();
    let mut put = |name: &str, bytes: Vec<u8>| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{name} {hex}").unwrap();
    };
    requests().iter().for_each(|(name, value)| put(name, header(value)));
    replies().iter().for_each(|(name, value)| put(name, header(value)));
    events().iter().for_each(|(name, value)| put(name, header(value)));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/v4.txt");
    if std::env::var_os("SAPEX_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

#[test]
fn damaged_headers_are_refused() {
    survives_damage(&requests());
    survives_damage(&replies());
    survives_damage(&events());
}

#[test]
fn headers_that_announce_more_than_the_limit_are_refused_without_allocating_it() {
    let mut bytes = header(&Reply::Welcome { shards: vec![], window: 4 });
    bytes[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(decode::<Reply>(&message(&bytes)).is_err());
    assert!(decode::<Reply>(&message(&vec![0; HEADER_BYTES_MAX + 1])).is_err());
    assert!(decode::<Reply>(&Message { frames: vec![] }).is_err());
}

#[test]
fn data_frames_are_read_only_at_the_announced_length() {
    let frame = rows::frame(&[1.5_f32, -2.0]);
    assert_eq!(rows::read::<f32>("td", &frame, 2).unwrap(), [1.5, -2.0]);
    let error = rows::read::<f32>("td", &frame, 3).unwrap_err();
    assert_eq!(error.to_string(), "frame of td has 8 bytes, expected 12");
    assert!(rows::expect_frames(&[frame], 2).is_err());
    let error = rows::within("rows", 9000, 8192).unwrap_err();
    assert_eq!(error.to_string(), "rows = 9000 is above the limit of 8192");
}
