//! The server over the in-memory transport, with clients that break the protocol.

use crate::served::{Server, insert, sample};
use bytes::Bytes;
use common::ids::BatchSequence;
use common::transport::Message;
use common::wire::handshake::Hello;
use common::wire::message::{Reply, Request};
use common::wire::refusal::Refusal;
use common::wire::{PROTOCOL_VERSION, decode, encode, rows};
use std::time::Duration;

fn malformed(reply: Reply) -> String {
    match reply {
        Reply::Refused(Refusal::Malformed { what }) => what,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_greeted_is_told_so_and_other_settings_are_named() {
    let server = Server::start().await;
    let mut client = server.client();
    let bytes = Bytes::from(vec![0; server.layout().row_bytes]);
    assert_eq!(client.ask(&insert(1, 1), [bytes]).await, Reply::Refused(Refusal::NotGreeted));
    let mut hello = server.hello(server.learner(1));
    hello.protocol = 9;
    let refused = client.ask(&Request::Hello(hello), []).await;
    assert_eq!(refused, Reply::Refused(Refusal::Protocol { server: PROTOCOL_VERSION, client: 9 }));
    let mut hello = server.hello(server.learner(1));
    hello.layout_hash ^= 1;
    let refused = client.ask(&Request::Hello(hello), []).await;
    assert!(matches!(refused, Reply::Refused(Refusal::Layout { .. })), "{refused:?}");
    let mut cluster = server.process.resolved.config.cluster.clone();
    cluster.n_step = 3;
    let hello = Hello::new(server.learner(1), &cluster, &server.layout());
    match client.ask(&Request::Hello(hello), []).await {
        Reply::Refused(Refusal::Cluster { differences }) => {
            assert_eq!(differences, ["cluster.n_step is 1 on the server and 3 on the client"]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_change_nothing_and_end_in_quarantine_of_that_client_alone() {
    let server = Server::start().await;
    let row_bytes = server.layout().row_bytes;
    let mut bad = server.greeted(server.actor(1, 1)).await;
    let block = |bytes: usize| Bytes::from(vec![0; bytes]);
    assert!(malformed(bad.ask(&insert(1, 2), [block(row_bytes)]).await).contains("expected 96"));
    assert!(malformed(bad.ask(&insert(1, 2), []).await).contains("0 data frames, expected 1"));
    assert!(
        malformed(bad.ask(&insert(1, 9_000), [block(8)]).await).contains("above the limit of 8192")
    );
    assert!(malformed(bad.ask(&insert(1, 0), [block(0)]).await).contains("rows = 0"));
    for _ in 0..4 {
        bad.send(Message { frames: vec![Bytes::from_static(b"garbage")] }).await;
        assert!(malformed(bad.reply().await).starts_with("header of 7 bytes"));
    }
    bad.send(Message { frames: vec![Bytes::from_static(b"garbage")] }).await;
    assert_eq!(bad.reply().await, Reply::Refused(Refusal::Quarantined));

    let mut good = server.greeted(server.actor(2, 2)).await;
    let acknowledged = good.ask(&insert(1, 1), [block(row_bytes)]).await;
    assert!(
        matches!(acknowledged, Reply::Inserted { sequence: BatchSequence(1), .. }),
        "{acknowledged:?}"
    );
    assert_eq!(server.tables().await[0].len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learners_malformed_requests_are_named_and_an_unknown_shard_is_final() {
    let server = Server::start().await;
    let mut bad = server.greeted(server.learner(1)).await;
    assert!(malformed(bad.ask(&sample(f64::NAN), []).await).contains("share = NaN"));
    let priorities = Request::UpdatePriorities { shard: 0, count: 2 };
    let frames = [rows::frame(&[1_u64, 2]), rows::frame(&[0.5_f32])];
    assert!(
        malformed(bad.ask(&priorities, frames).await)
            .contains("frame of td has 4 bytes, expected 8")
    );
    let unknown = Request::Sample { request: 1, shard: 7, count: 1, share: 1.0, timeout_ms: 1 };
    let refusal = Refusal::UnknownShard { shard: 7, shards: 1 };
    assert!(refusal.is_final());
    assert_eq!(bad.ask(&unknown, []).await, Reply::Refused(refusal));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stores_nothing_is_not_ready_and_says_why_until_rows_come() {
    let (server, time) = Server::timed().await;
    let reasons = || server.process.admin.readiness.reasons();
    let why = loop {
        if let Some(why) = reasons().remove("rows") {
            break why;
        }
        time.advance(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(why.starts_with("no rows stored for ") && why.ends_with(": no actor inserts"), "{why}");
    let mut actor = server.greeted(server.actor(1, 1)).await;
    let reply = actor.ask(&insert(1, 1), [server.rows(1)]).await;
    assert!(matches!(reply, Reply::Inserted { .. }), "{reply:?}");
    while reasons().contains_key("rows") {
        // A shard uses this clock to decide when to publish its state.
        time.advance(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_finite_are_refused_one_by_one_and_the_batch_is_acknowledged() {
    let server = Server::start().await;
    let layout = server.layout();
    let mut client = server.greeted(server.actor(1, 1)).await;
    let mut block = vec![0; 3 * layout.row_bytes];
    let reward = layout.row_bytes + layout.field("reward").unwrap().offset;
    block[reward..reward + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let reply = client.ask(&insert(1, 3), [block.into()]).await;
    assert!(matches!(reply, Reply::Inserted { rows_refused: 1, .. }), "{reply:?}");
    assert_eq!(server.tables().await[0].len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_back_sample_says_what_is_missing_and_held_back_inserts_wait_for_samples() {
    let server = Server::start().await;
    let row_bytes = server.layout().row_bytes;
    let mut learner = server.greeted(server.learner(1)).await;
    let sample = Request::Sample { request: 4, shard: 0, count: 1, share: 1.0, timeout_ms: 30 };
    match learner.ask(&sample, []).await {
        Reply::NotSampled { request: 4, inserts_missing, .. } => assert_eq!(inserts_missing, 2),
        other => panic!("{other:?}"),
    }
    let mut actor = server.greeted(server.actor(1, 1)).await;
    let mut acknowledged = 0;
    for sequence in 1..=4 {
        actor.send(encode(&insert(sequence, 4), [Bytes::from(vec![0; 4 * row_bytes])])).await;
    }
    // The settings allow one sample per row, and the automatic buffer is twelve samples. Therefore not all sixteen rows
    // are accepted before a sample is taken.
    while let Ok(Some(message)) =
        tokio::time::timeout(Duration::from_millis(300), actor.0.incoming.recv()).await
    {
        match decode::<Reply>(&message).unwrap().0 {
            Reply::Inserted { sequence, .. } => acknowledged = sequence.0,
            other => panic!("{other:?}"),
        }
    }
    assert!((1..4).contains(&acknowledged), "{acknowledged} of 4 batches before a sample");
    for request in 0..8 {
        let sample = Request::Sample { request, shard: 0, count: 8, share: 8.0, timeout_ms: 30 };
        drop(learner.ask(&sample, []).await);
    }
    let reply = actor.reply().await;
    assert!(matches!(reply, Reply::Inserted { sequence: BatchSequence(4), .. }), "{reply:?}");
}
