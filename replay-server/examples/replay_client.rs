//! Starts a replay server in this process and uses it over TCP, as an actor and as a learner.
//!
//! `cargo run -p replay-server --example replay_client` prints the answers of the server.

#![expect(clippy::print_stdout, reason = "an example prints")]

use anyhow::{Context as _, Result};
use bytes::Bytes;
use common::config::{Layers, load};
use common::ids::{ActorId, BatchSequence, Incarnation};
use common::process::Process;
use common::transport::zmq::ZmqTransport;
use common::transport::{Dealer, Transport as _};
use common::wire::handshake::{ClientRole, Hello};
use common::wire::message::{Reply, Request};
use common::wire::{decode, encode};
use replay_server::service::ReplayServer;

#[tokio::main]
async fn main() -> Result<()> {
    let set = ["replay.min_size=4", "actor.insert_rows=4", "learner.batch_size=2"];
    let set = set.map(String::from).to_vec();
    let process = Process::quiet(load(&Layers { set, ..Layers::default() })?);
    let (config, spec) = (&process.resolved.config, process.resolved.env_spec()?);
    let layout = config.item_layout(&spec);
    let transport = ZmqTransport::new(process.seeds.role("transport"));
    let router = transport.bind_router(&"tcp://127.0.0.1:0".parse()?).await?;
    let mut actor = transport.connect_dealer(&router.local)?;
    let mut learner = transport.connect_dealer(&router.local)?;
    let server = ReplayServer::new(process.clone(), &spec, 0)?;
    tokio::spawn(server.run(router, std::future::pending()));

    let hello = |role| Request::Hello(Hello::new(role, &config.cluster, &layout));
    ask(&mut actor, hello(ClientRole::actor(config, ActorId(0), Incarnation(1))), None).await?;
    ask(&mut learner, hello(ClientRole::learner(config, Incarnation(2))), None).await?;

    let (shard, sequence) = (0, BatchSequence(1));
    let insert = Request::Insert { shard, sequence, rows: 4, has_priorities: false };
    ask(&mut actor, insert, Some(vec![0; 4 * layout.row_bytes].into())).await?;

    // The data frames of a sample are keys, probabilities, rows and actors.
    let sample = Request::Sample { request: 1, shard, count: 2, share: 2.0, timeout_ms: 1_000 };
    let drawn = ask(&mut learner, sample.clone(), None).await?;
    let errors: Vec<u8> = [0.5_f32, 2.5].into_iter().flat_map(f32::to_le_bytes).collect();
    let update = Request::UpdatePriorities { shard, count: 2 };
    learner.outgoing.send(encode(&update, [drawn[0].clone(), errors.into()])).await?;
    // Updates have no answer, but the next sample shows the new sum of priorities.
    ask(&mut learner, sample, None).await?;
    Ok(())
}

/// Sends a request, prints the answer and returns its data frames.
async fn ask(client: &mut Dealer, request: Request, data: Option<Bytes>) -> Result<Vec<Bytes>> {
    client.outgoing.send(encode(&request, data)).await?;
    let answer = client.incoming.recv().await.context("the transport has stopped")?;
    let (reply, data) = decode::<Reply>(&answer)?;
    println!("{reply:?}");
    Ok(data.to_vec())
}
