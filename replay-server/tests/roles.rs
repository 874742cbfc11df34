//! Each role may send only its own requests, and each place has only one holder: raw clients against a server.

use crate::served::{Client, Server, insert, refusal, sample};
use bytes::Bytes;
use common::ids::BatchSequence;
use common::limits::CLIENT_SILENT;
use common::transport::Message;
use common::wire::handshake::{ClientRole, Hello};
use common::wire::message::{Reply, Request};
use common::wire::refusal::Refusal;
use common::wire::rows;
use std::time::Duration;

fn differences(refusal: Refusal) -> Vec<String> {
    match refusal {
        Refusal::Settings { differences } | Refusal::Cluster { differences } => differences,
        other => panic!("expected differences, got {other:?}"),
    }
}

async fn is_welcome(client: &mut Client, server: &Server, role: ClientRole) -> bool {
    let reply = client.ask(&Request::Hello(server.hello(role)), []).await;
    matches!(reply, Reply::Welcome { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_what_is_its_own_and_is_told_so() {
    let server = Server::start().await;
    let mut actor = server.greeted(server.actor(1, 1)).await;
    let not_allowed = |request: &str, role: &str| Refusal::NotAllowed {
        request: request.into(),
        role: role.into(),
    };
    assert_eq!(actor.refusal(&sample(1.0), []).await, not_allowed("Sample", "an actor"));
    let update = Request::UpdatePriorities { shard: 0, count: 1 };
    let frames = [rows::frame(&[1_u64]), rows::frame(&[0.5_f32])];
    let refused = actor.refusal(&update, frames).await;
    assert_eq!(refused, not_allowed("UpdatePriorities", "an actor"));
    let mut learner = server.greeted(server.learner(1)).await;
    let refused = learner.refusal(&insert(1, 1), [server.rows(1)]).await;
    assert_eq!(refused, not_allowed("Insert", "a learner"));
    assert!(refused.is_final());
    assert_eq!(server.tables().await[0].len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_outside_cluster_that_do_not_fit_are_refused_by_name_in_the_handshake() {
    let server = Server::start().await;
    let mut actor = server.actor(1, 1);
    let ClientRole::Actor { insert_rows, .. } = &mut actor else { unreachable!() };
    *insert_rows = 64;
    let refused = refusal(server.greets(actor).await.1);
    assert!(refused.is_final());
    assert_eq!(differences(refused), ["actor.insert_rows is 4 on the server and 64 on the client"]);

    let learner = ClientRole::Learner {
        incarnation: common::ids::Incarnation(1),
        batch_size: 512,
        shards: 2,
        shards_total: 2,
    };
    let refused = differences(refusal(server.greets(learner).await.1));
    assert_eq!(
        refused,
        [
            "learner.batch_size is 8 on the server and 512 on the client",
            "replay.shards is 1 on the server and 2 on the client",
            "shards over all of endpoints.replay is 1 on the server and 2 on the client",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_is_not_acknowledged() {
    let server = Server::start().await;
    let mut actor = server.greeted(server.actor(1, 1)).await;
    let refused = actor.refusal(&insert(1, 5), [server.rows(5)]).await;
    assert!(refused.is_final());
    assert_eq!(differences(refused), ["rows = 5, and actor.insert_rows is 4 on the server"]);
    let reply = actor.ask(&insert(1, 4), [server.rows(4)]).await;
    assert!(matches!(reply, Reply::Inserted { sequence: BatchSequence(1), .. }), "{reply:?}");
    let mut learner = server.greeted(server.learner(1)).await;
    let refused = learner.refusal(&sample(9.0), []).await;
    assert!(refused.is_final());
    assert_eq!(differences(refused), ["share = 9, and learner.batch_size is 8 on the server"]);
    assert_eq!(server.tables().await[0].len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_the_id_of_a_living_actor_is_refused_and_a_silent_one_is_superseded()
{
    let (server, time) = Server::timed().await;
    let mut first = server.greeted(server.actor(3, 1)).await;
    time.advance(Duration::from_secs(2));
    let (mut second, reply) = server.greets(server.actor(3, 2)).await;
    let in_use = Refusal::InUse { who: "actor 3".into(), silent_ms: 2_000 };
    assert_eq!(refusal(reply), in_use);
    assert!(!in_use.is_final(), "the first may be gone: a restarted actor asks again");
    assert_eq!(second.refusal(&insert(1, 1), [server.rows(1)]).await, Refusal::NotGreeted);
    let reply = first.ask(&insert(1, 1), [server.rows(1)]).await;
    assert!(matches!(reply, Reply::Inserted { .. }), "the first goes on: {reply:?}");
    assert!(is_welcome(&mut server.client(), &server, server.actor(4, 9)).await, "another id");

    time.advance(CLIENT_SILENT);
    assert!(is_welcome(&mut second, &server, server.actor(3, 2)).await);
    let superseded = Refusal::Superseded { who: "actor 3".into() };
    assert_eq!(first.refusal(&insert(2, 1), [server.rows(1)]).await, superseded);
    let hello = Request::Hello(server.hello(server.actor(3, 1)));
    time.advance(CLIENT_SILENT);
    assert_eq!(first.refusal(&hello, []).await, superseded, "for good");
    assert!(superseded.is_final());
    let reply = second.ask(&insert(1, 1), [server.rows(1)]).await;
    assert!(matches!(reply, Reply::Inserted { sequence: BatchSequence(1), .. }), "{reply:?}");
    assert_eq!(server.tables().await[0].len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_learner_is_refused_and_named_while_the_first_lives() {
    let (server, time) = Server::timed().await;
    let mut first = server.greeted(server.learner(1)).await;
    let (mut second, reply) = server.greets(server.learner(2)).await;
    assert_eq!(refusal(reply), Refusal::InUse { who: "the learner".into(), silent_ms: 0 });
    assert_eq!(second.refusal(&sample(1.0), []).await, Refusal::NotGreeted);
    time.advance(CLIENT_SILENT - Duration::from_millis(1));
    assert!(is_welcome(&mut first, &server, server.learner(1)).await, "a heartbeat keeps it");
    time.advance(Duration::from_secs(1));
    assert!(!is_welcome(&mut second, &server, server.learner(2)).await);
    time.advance(CLIENT_SILENT);
    assert!(is_welcome(&mut second, &server, server.learner(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_what_differs_and_no_other_setting() {
    let server = Server::start().await;
    let mut client = server.client();
    let mut hello = server.hello(server.learner(1));
    hello.cluster_hash ^= 1;
    hello.cluster = vec![("cluster.n_step".into(), "3".into()), ("cluster.x\n".into(), "1".into())];
    let settings = server.config().cluster.lines().len();
    let refused = differences(client.refusal(&Request::Hello(hello), []).await);
    let missing = format!("{} settings are not given, cluster.act_dim for one", settings - 1);
    assert_eq!(
        refused,
        [
            "cluster.n_step is 1 on the server and 3 on the client",
            missing.as_str(),
            "cluster.x\\n is no setting of the server",
        ]
    );

    let mut hello = server.hello(server.learner(1));
    hello.cluster.iter_mut().for_each(|(_, value)| *value = "x".repeat(500));
    hello.cluster_hash ^= 1;
    let refused = differences(client.refusal(&Request::Hello(hello), []).await);
    assert_eq!(refused.len(), 17, "{refused:?}");
    assert!(refused.iter().all(|line| line.chars().count() < 500), "{refused:?}");

    let mut hello = server.hello(server.learner(1));
    hello.cluster_hash = 7;
    let refused = differences(client.refusal(&Request::Hello(hello), []).await);
    assert!(refused[0].starts_with("the settings agree but cluster_hash is 0x"), "{refused:?}");
    assert!(refused[0].ends_with("on the server and 0x7 on the client"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_version_is_told_the_versions_although_its_hello_has_another_form() {
    let server = Server::start().await;
    let mut client = server.client();
    // Hello of version 1, in which the role Learner had no fields.
    let old = [&[0, 0, 0, 0][..], &[1, 0], &[1, 0, 0, 0], &[0; 32]].concat();
    client.send(Message { frames: vec![Bytes::from(old)] }).await;
    assert_eq!(
        refusal(client.reply().await),
        Refusal::Protocol { server: common::wire::PROTOCOL_VERSION, client: 1 }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_greetings_lead_to_quarantine_which_ends() {
    let (server, time) = Server::timed().await;
    let mut client = server.client();
    let mut other = server.config().cluster.clone();
    other.n_step = 3;
    let wrong = Request::Hello(Hello::new(server.learner(1), &other, &server.layout()));
    for _ in 0..8 {
        assert!(matches!(client.refusal(&wrong, []).await, Refusal::Cluster { .. }));
    }
    assert_eq!(client.refusal(&wrong, []).await, Refusal::Quarantined);
    let gauge = || {
        let text = server.process.admin.metrics.encode().expect("metrics encode");
        let line = text.lines().find(|line| line.contains("quarantined") && !line.starts_with('#'));
        line.expect("there is a gauge").to_owned()
    };
    assert!(gauge().ends_with(" 1"), "{}", gauge());
    let mut good = server.greeted(server.learner(5)).await;
    time.advance(Duration::from_secs(60));
    let hello = Request::Hello(server.hello(server.learner(6)));
    assert!(matches!(client.ask(&hello, []).await, Reply::Welcome { .. }));
    let refused = good.refusal(&sample(1.0), []).await;
    assert_eq!(refused, Refusal::Superseded { who: "the learner".into() });
}
