//! How fast the transports are: one dealer sends batches, the router acknowledges each, a window of 64 is open.
//!
//! ```text
//! cargo bench -p common --bench transport_speed
//! ```
//!
//! Dealer, router, ZeroMQ and guard share one process and two tokio workers, so each figure is the cost of both ends
//! together. The machine may be busy with other things: the processor time per message is the steadier figure.
//! `unguarded` is the zeromq crate on tcp without any of our code: what the guard and the queues cost. `tls` runs directly
//! after `tcp` in each round, and the last lines are the medians of its share of the figures of `tcp`.

#[path = "../tests/certs/mod.rs"]
#[expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may panic")]
mod certs;

use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::tls::{Role, Tls};
use common::transport::memory::{FaultPlan, MemoryTransport};
use common::transport::zmq::ZmqTransport;
use common::transport::{Endpoint, Message, Transport};
use std::error::Error;
use std::time::Duration;
use tokio::time::Instant;
use zeromq::{DealerSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// Unacknowledged messages; what the insert protocol grants at most.
const WINDOW: u64 = 64;
const ROUNDS: usize = 5;
/// A batch of large observations, one of 1,024 rows of 168 bytes, and a sample request or an acknowledgement.
const LOADS: [(usize, u64); 3] = [(4 << 20, 500), (172_032, 10_000), (100, 100_000)];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let zmq = ZmqTransport::new(SeedTree::new(0));
    let [replay, learner] = certified()?;
    let memory = MemoryTransport::new(FaultPlan::none());
    let ipc_at = std::env::temp_dir().join(format!("sapex-speed-{}", std::process::id()));
    let ipc_at = Endpoint::Ipc(ipc_at);
    let (tcp_at, memory_at) = ("tcp://127.0.0.1:0".parse()?, "mem://speed".parse()?);
    for (bytes, messages) in LOADS {
        let mut shares = Vec::new();
        for _ in 0..ROUNDS {
            let took = run_unguarded(bytes, messages).await?;
            report("unguarded", bytes, messages, &took);
            let plain = run([&zmq, &zmq], &tcp_at, bytes, messages).await?;
            report("tcp", bytes, messages, &plain);
            let tls = run([&replay, &learner], &tcp_at, bytes, messages).await?;
            report("tls", bytes, messages, &tls);
            shares.push([share(plain.wall, tls.wall), share(plain.cpu, tls.cpu)]);
            let took = run([&zmq, &zmq], &ipc_at, bytes, messages).await?;
            report("ipc", bytes, messages, &took);
            let took = run([&memory, &memory], &memory_at, bytes, messages).await?;
            report("memory", bytes, messages, &took);
        }
        report_shares(bytes, shares);
    }
    Ok(())
}

/// A replay server's transport and a learner's, with certificates of a CA of their own.
fn certified() -> Result<[ZmqTransport; 2], Box<dyn Error + Send + Sync>> {
    let (folder, ca) = (tempfile::tempdir()?, certs::Ca::new("CA of a measurement"));
    let of = |role: Role| -> Result<ZmqTransport, Box<dyn Error + Send + Sync>> {
        let uri = role.uri();
        let files = ca.files(&folder.path().join(role.name()), &[&ca], &certs::leaf(&uri));
        Ok(ZmqTransport::new(SeedTree::new(0)).with_tls(Tls::load(&files, role)?))
    };
    Ok([of(Role::ReplayServer)?, of(Role::Learner)?])
}

fn share(plain: Duration, tls: Duration) -> f64 {
    plain.as_secs_f64() / tls.as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn report_shares(bytes: usize, shares: Vec<[f64; 2]>) {
    let median = |which: usize| {
        let mut figures: Vec<f64> = shares.iter().map(|share| share[which]).collect();
        figures.sort_by(f64::total_cmp);
        100.0 * figures[figures.len() / 2]
    };
    let (wall, cpu) = (median(0), median(1));
    println!("{bytes:>7} B: tls has {wall:.0}% of tcp's messages/s, and {cpu:.0}% by cpu");
}

/// Wall-clock time and processor time of a run.
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// A running measurement.
struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time() }
    }

    fn stop(self) -> Cost {
        Cost { wall: self.start.elapsed(), cpu: cpu_time().saturating_sub(self.cpu) }
    }
}

/// User and system time of this process so far, in steps of 10 ms; zero where there is no `/proc`.
fn cpu_time() -> Duration {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields behind the name in parentheses, which may contain spaces: utime is the 12th, stime the 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
#[expect(clippy::cast_precision_loss, reason = "rates for people")]
fn report(transport: &str, bytes: usize, messages: u64, took: &Cost) {
    let per_second = messages as f64 / took.wall.as_secs_f64();
    let gigabytes = per_second * bytes as f64 / 1e9;
    let cpu = took.cpu.as_secs_f64() * 1e6 / messages as f64;
    println!(
        "{transport:>9} {bytes:>7} B {per_second:>9.0} messages/s {gigabytes:>6.2} GB/s {cpu:>6.1} us of cpu each"
    );
}

async fn run(
    [server, client]: [&dyn Transport; 2],
    at: &Endpoint,
    bytes: usize,
    messages: u64,
) -> Result<Cost, Box<dyn Error + Send + Sync>> {
    let mut router = server.bind_router(at).await?;
    let mut dealer = client.connect_dealer(&router.local)?;
    let outgoing = router.outgoing.clone();
    let serving = tokio::spawn(async move {
        while let Some((peer, _batch)) = router.incoming.recv().await {
            let ack = Message::new(vec![Bytes::from_static(b"ack")]);
            if outgoing.send((peer, ack)).await.is_err() {
                return;
            }
        }
    });
    let batch =
        Message::new(vec![Bytes::from_static(b"a header of some length"), vec![1; bytes].into()]);
    dealer.outgoing.send(batch.clone()).await?;
    dealer.incoming.recv().await.ok_or("the dealer is open")?;
    let meter = Meter::start();
    let mut acknowledged = 0;
    for sent in 0..messages {
        dealer.outgoing.send(batch.clone()).await?;
        if sent + 1 - acknowledged >= WINDOW {
            dealer.incoming.recv().await.ok_or("the dealer is open")?;
            acknowledged += 1;
        }
    }
    while acknowledged < messages {
        dealer.incoming.recv().await.ok_or("the dealer is open")?;
        acknowledged += 1;
    }
    let took = meter.stop();
    serving.abort();
    // The address is used again: wait until it is free.
    while !serving.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(took)
}

async fn run_unguarded(bytes: usize, messages: u64) -> Result<Cost, Box<dyn Error + Send + Sync>> {
    let mut router = RouterSocket::new();
    let at = router.bind("tcp://127.0.0.1:0").await?;
    let mut dealer = DealerSocket::new();
    dealer.connect(&at.to_string()).await?;
    let (mut replies, mut requests) = router.split();
    let serving = tokio::spawn(async move {
        while let Ok(request) = requests.recv().await {
            let Some(peer) = request.get(0).cloned() else { return };
            let mut reply = ZmqMessage::from(Bytes::from_static(b"ack"));
            reply.push_front(peer);
            if replies.send(reply).await.is_err() {
                return;
            }
        }
    });
    let (mut sender, mut receiver) = dealer.split();
    let mut batch = ZmqMessage::from(Bytes::from_static(b"a header of some length"));
    batch.push_back(vec![1; bytes].into());
    let meter = Meter::start();
    for sent in 0..messages {
        sender.send(batch.clone()).await?;
        if sent + 1 >= WINDOW {
            receiver.recv().await?;
        }
    }
    for _ in 0..(WINDOW - 1).min(messages) {
        receiver.recv().await?;
    }
    let took = meter.stop();
    serving.abort();
    Ok(took)
}
