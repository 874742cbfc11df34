//! A network that fails silently between namespaces of this machine: connections neither end nor are reset.
//!
//! ```text
//! namespace client ── bridge in namespace middle ── namespace server
//! ```
//!
//! The endpoints run in processes of their own, which run this test program with [`ROLE`] set. Creating namespaces
//! requires root and the program `ip`; without them the test is skipped and prints so.

use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::transport::zmq::ZmqTransport;
use common::transport::{Message, Transport as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Environment variable that says which side a process is.
const ROLE: &str = "SAPEX_TEST_LIVENESS_ROLE";
const REQUESTS: &str = "tcp://10.77.0.2:5555";
const NEWS: &str = "tcp://10.77.0.2:5556";
/// Time limit for the start.
const PATIENCE: Duration = Duration::from_secs(60);
/// Duration of an outage, longer than a peer may be silent.
const OUTAGE: Duration = Duration::from_secs(8);
/// Time limit for recovery after the network is back, as promised in docs/protocol.md.
const RECOVERY: Duration = Duration::from_secs(10);

/// Runs one side if this process was started as one. Otherwise does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn side() {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => serve().await,
        Ok("client") => ask().await,
        _ => {}
    }
}

fn message(bytes: &'static [u8]) -> Message {
    Message::new(vec![Bytes::from_static(bytes)])
}

/// Answers every request, and publishes.
async fn serve() {
    let transport = ZmqTransport::new(SeedTree::new(1));
    let mut router = transport.bind_router(&REQUESTS.parse().unwrap()).await.unwrap();
    let publisher = transport.bind_publisher(&NEWS.parse().unwrap()).await.unwrap();
    let publishing = async {
        while publisher.outgoing.send(message(b"news")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let answering = async {
        while let Some((peer, request)) = router.incoming.recv().await {
            router.outgoing.send((peer, request)).await.unwrap();
        }
    };
    tokio::join!(publishing, answering);
}

/// Sends requests continuously, and prints one line for each answer and each publication.
async fn ask() {
    let transport = ZmqTransport::new(SeedTree::new(2));
    let mut dealer = transport.connect_dealer(&REQUESTS.parse().unwrap()).unwrap();
    let mut subscriber = transport.subscribe(&NEWS.parse().unwrap()).unwrap();
    let mut often = tokio::time::interval(Duration::from_millis(100));
    let mut out = std::io::stdout();
    loop {
        tokio::select! {
            // If no answers come, the queue fills up, and further requests are dropped.
            _ = often.tick() => drop(dealer.outgoing.try_send(message(b"request"))),
            Some(_) = dealer.incoming.recv() => writeln!(out, "side: answer").unwrap(),
            Some(_) = subscriber.incoming.recv() => writeln!(out, "side: news").unwrap(),
        }
        out.flush().unwrap();
    }
}

/// Three network namespaces, which are removed on drop.
struct Network {
    names: [String; 3],
}

impl Network {
    fn new() -> Result<Self, String> {
        let names = ["client", "middle", "server"]
            .map(|side| format!("sapex-{side}-{}", std::process::id()));
        let network = Self { names };
        for name in &network.names {
            ip(&format!("netns add {name}"))?;
        }
        let [client, middle, _] = &network.names;
        ip(&format!("-n {middle} link add br0 type bridge"))?;
        ip(&format!("-n {middle} link set br0 up"))?;
        ip(&format!("-n {client} link set lo up"))?;
        network.plug_in(client, 1)?;
        network.plug_in_server()?;
        Ok(network)
    }

    /// Connects a namespace to the bridge, with the address that ends in `number`.
    fn plug_in(&self, name: &str, number: u8) -> Result<(), String> {
        let middle = &self.names[1];
        // The hardware address is fixed, so that a namespace that is created again has the address that its neighbours
        // know.
        let card = format!("eth0 address 02:00:00:00:00:{number:02x}");
        ip(&format!("-n {name} link add {card} type veth peer port{number} netns {middle}"))?;
        ip(&format!("-n {middle} link set port{number} master br0 up"))?;
        ip(&format!("-n {name} addr add 10.77.0.{number}/24 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))
    }

    fn plug_in_server(&self) -> Result<(), String> {
        self.plug_in(&self.names[2], 2)
    }

    fn cut(&self) {
        ip(&format!("-n {} link set port2 down", self.names[1])).unwrap();
    }

    fn mend(&self) {
        ip(&format!("-n {} link set port2 up", self.names[1])).unwrap();
    }

    fn start(&self, role: &str) -> Side {
        let name = &self.names[if role == "client" { 0 } else { 2 }];
        let mut child = Command::new("ip")
            .args(["netns", "exec", name])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "transport_liveness::side", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Side { child, lines }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&format!("netns del {name}")).ok();
        }
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    let output =
        command.args(arguments.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

struct Side {
    child: Child,
    lines: Receiver<String>,
}

impl Side {
    /// Waits for an answer and for a publication. Lines printed before the call are discarded.
    fn hears_both(&self, within: Duration, when: &str) {
        while self.lines.try_recv().is_ok() {}
        let (mut answer, mut news) = (false, false);
        while !(answer && news) {
            let line = self.lines.recv_timeout(within);
            let line = line.unwrap_or_else(|_| panic!("{when}: answer {answer}, news {news}"));
            // The test harness may have printed the test's name at the start of the first line.
            answer |= line.contains("side: answer");
            news |= line.contains("side: news");
        }
    }

    fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_network_that_returns_and_a_machine_that_vanished_are_found_again_within_ten_seconds() {
    let network = match Network::new() {
        Ok(network) => network,
        Err(why) => {
            writeln!(std::io::stderr(), "SKIPPED: no network namespaces: {why}").unwrap();
            return;
        }
    };
    let mut server = network.start("server");
    let client = network.start("client");
    client.hears_both(PATIENCE, "at the start");

    network.cut();
    std::thread::sleep(OUTAGE);
    network.mend();
    client.hears_both(RECOVERY, "after a cut");

    // Simulates a power failure: the connections are gone and the peers are not notified. A new machine gets the same
    // address.
    let [_, middle, name] = &network.names;
    ip(&format!("-n {middle} link del port2")).unwrap();
    server.kill();
    ip(&format!("netns del {name}")).unwrap();
    ip(&format!("netns add {name}")).unwrap();
    std::thread::sleep(OUTAGE);
    network.plug_in_server().unwrap();
    let _successor = network.start("server");
    client.hears_both(RECOVERY, "after the machine vanished");
}
