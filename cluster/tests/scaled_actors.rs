//! Actors without a configured number: each draws one, and no two living actors have the same number.

use actor_node::actor::Share;
use actor_node::metrics::UploadMetrics;
use actor_node::service::place::{ActorPlace, drawn};
use actor_node::service::{ActorNode, NodeError, Peers};
use common::config::{Layers, load};
use common::limits::ACTOR_IDS_DRAWN;
use common::process::Process;
use common::runtime::seed::SeedTree;
use common::runtime::shutdown::StopReason;
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Transport};
use replay_server::service::ReplayServer;
use replay_server::table::Table;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// Number of rows of each actor. It acts randomly for these steps, then waits for a policy, which no process publishes.
const ROWS: u64 = 40;

fn process() -> Process {
    let set = [
        "cluster.env=identity",
        "actor.warmup_steps=40",
        "replay.samples_per_insert=0",
        "learner.batch_size=8",
    ];
    let set = set.iter().map(ToString::to_string).collect();
    Process::quiet(load(&Layers { set, ..Layers::default() }).unwrap())
}

/// A replay server on a port of its own.
struct Server {
    at: Endpoint,
    stop: oneshot::Sender<()>,
    tables: JoinHandle<Result<Vec<Table>, replay_server::service::ReplayError>>,
    transport: Arc<ZmqTransport>,
}

impl Server {
    async fn start() -> Self {
        let process = process();
        let transport = Arc::new(ZmqTransport::new(SeedTree::new(1)));
        let router = transport.bind_router(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (at, (stop, stopped)) = (router.local.clone(), oneshot::channel::<()>());
        let spec = process.resolved.env_spec().unwrap();
        let server = ReplayServer::new(process, &spec, 0).unwrap();
        let tables = tokio::spawn(server.run(router, async {
            drop(stopped.await);
        }));
        Self { at, stop, tables, transport }
    }

    fn peers(&self) -> Peers {
        // No process publishes at this address.
        Peers { replay: vec![self.at.clone()], weights: "tcp://127.0.0.1:9".parse().unwrap() }
    }

    async fn claim(&self, draws: impl FnMut() -> Result<u32, NodeError>) -> ActorPlace {
        let claim = ActorPlace::claim(&process(), &*self.transport, &self.peers(), draws).await;
        claim.unwrap().expect("nobody has asked for a stop")
    }

    async fn rows(self) -> usize {
        drop(self.stop);
        self.tables.await.unwrap().unwrap().iter().map(Table::len).sum()
    }
}

async fn act(process: Process, transport: Arc<ZmqTransport>, peers: Peers) -> u32 {
    let place = ActorPlace::claim(&process, &*transport, &peers, drawn).await.unwrap().unwrap();
    let node = ActorNode::new(process.clone(), place.id, Share::default(), None).unwrap();
    let acknowledged = UploadMetrics::new(&process.admin.metrics, place.id).unwrap();
    let stop = process.shutdown.clone();
    let node = node.living(place.life);
    let running = node.run(&*transport, &peers, Duration::from_secs(5));
    let all_stored = async {
        while acknowledged.rows_acknowledged() < ROWS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.request(StopReason::Requested("all rows are acknowledged".into()));
    };
    let (ran, ()) = tokio::join!(running, all_stored);
    ran.unwrap();
    place.id
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_actors_that_are_given_no_number_are_sixteen_actors() {
    let server = Server::start().await;
    let mut actors = JoinSet::new();
    for _ in 0..16 {
        actors.spawn(act(process(), server.transport.clone(), server.peers()));
    }
    let all = tokio::time::timeout(Duration::from_secs(60), actors.join_all()).await;
    let ids: BTreeSet<u32> =
        all.expect("every row of every actor is acknowledged").into_iter().collect();
    assert_eq!(ids.len(), 16, "{ids:?}");
    assert!(ids.iter().all(|id| ACTOR_IDS_DRAWN.contains(id)), "{ids:?}");
    assert_eq!(server.rows().await as u64, 16 * ROWS, "each row is there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_a_living_actor_has_is_drawn_again() {
    let (server, taken) = (Server::start().await, ACTOR_IDS_DRAWN.start);
    let first = server.claim(|| Ok(taken)).await;
    let mut draws = [taken, taken, taken + 1].into_iter();
    let second = server.claim(|| Ok(draws.next().unwrap())).await;
    assert_eq!((first.id, second.id), (taken, taken + 1));
    assert_eq!(draws.next(), None, "the number was refused as often as it was drawn");
    assert_ne!(first.life, second.life);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_waits_for_its_first_server_can_be_stopped() {
    let process = process();
    let transport = ZmqTransport::new(SeedTree::new(2));
    let nowhere: Endpoint = "tcp://127.0.0.1:9".parse().unwrap();
    let peers = Peers { replay: vec![nowhere.clone()], weights: nowhere };
    process.shutdown.request(StopReason::Requested("a test".into()));
    let claimed = ActorPlace::claim(&process, &transport, &peers, drawn);
    let claimed = tokio::time::timeout(Duration::from_secs(5), claimed).await;
    assert_eq!(claimed.expect("it stops").unwrap(), None);
}
