//! Our endpoints connected with those of libzmq, in both directions: every implementation of ZMTP 3.1 can take part.
//!
//! Uses the Python with pyzmq that `SAPEX_ZMQ_PYTHON` names; `make test-python` sets it. Without it the test is skipped
//! and prints so.

use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::transport::zmq::ZmqTransport;
use common::transport::{Message, Transport as _};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const NEVER: Duration = Duration::from_secs(60);

/// Python program: connects to our router and publisher, binds its own router and publisher, and exchanges the same
/// messages with each. It pauses for longer than a silent peer is allowed: without libzmq's answers to PING the
/// connections would be closed.
const SCRIPT: &str = r#"
import sys, time, zmq
router_at, publisher_at = sys.argv[1:]
context = zmq.Context()
dealer = context.socket(zmq.DEALER)
dealer.connect(router_at)
frames = [b"header", b"", bytes(300_000)]
for _ in range(100):
    dealer.send_multipart(frames)
for _ in range(100):
    assert dealer.recv_multipart() == frames
time.sleep(7)
dealer.send_multipart([b"still here"])
assert dealer.recv_multipart() == [b"still here"]
subscriber = context.socket(zmq.SUB)
subscriber.subscribe(b"ab")
subscriber.connect(publisher_at)
assert subscriber.recv_multipart() == [b"abc", b"news"]
router, publisher = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
for socket in router, publisher:
    socket.setsockopt(zmq.HEARTBEAT_IVL, 200)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 30_000)
ports = [str(socket.bind_to_random_port("tcp://127.0.0.1")) for socket in (router, publisher)]
dealer.send_multipart([b"ports", *(port.encode() for port in ports)])
poller = zmq.Poller()
poller.register(router, zmq.POLLIN)
answered = 0
while answered < 2:
    publisher.send_multipart([b"news of python"])
    if poller.poll(20):
        router.send_multipart(router.recv_multipart())
        answered += 1
# The last message is still on its way.
time.sleep(1)
"#;

struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libzmq_understands_us_and_we_understand_libzmq() {
    let Some(python) = std::env::var_os("SAPEX_ZMQ_PYTHON") else {
        writeln!(std::io::stderr(), "SKIPPED: SAPEX_ZMQ_PYTHON names no Python with pyzmq")
            .unwrap();
        return;
    };
    let transport = ZmqTransport::new(SeedTree::new(7));
    let any = "tcp://127.0.0.1:0".parse().unwrap();
    let mut router = transport.bind_router(&any).await.unwrap();
    let publisher = transport.bind_publisher(&any).await.unwrap();
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).args([router.local.to_string(), publisher.local.to_string()]);
    let mut script = Python(command.stdin(Stdio::null()).spawn().unwrap());

    let exchanged = async {
        let ports = loop {
            tokio::select! {
                request = router.incoming.recv() => {
                    let (peer, message) = request.unwrap();
                    if message.frames[0] == "ports" {
                        break message;
                    }
                    router.outgoing.send((peer, message)).await.unwrap();
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    for header in ["xab", "abc"] {
                        let frames = vec![header.into(), Bytes::from_static(b"news")];
                        publisher.outgoing.send(Message::new(frames)).await.unwrap();
                    }
                }
            }
        };
        let at = |frame: usize| {
            let port = str::from_utf8(&ports.frames[frame]).unwrap();
            format!("tcp://127.0.0.1:{port}").parse().unwrap()
        };
        let mut dealer = transport.connect_dealer(&at(1)).unwrap();
        let mut subscriber = transport.subscribe(&at(2)).unwrap();
        let news = subscriber.incoming.recv().await.unwrap();
        assert_eq!(news.frames, [Bytes::from_static(b"news of python")]);
        let request = Message::new(vec!["header".into(), Bytes::from(vec![5; 300_000])]);
        for _ in 0..2 {
            dealer.outgoing.send(request.clone()).await.unwrap();
            assert_eq!(dealer.incoming.recv().await.unwrap(), request);
            // Both sides send PING several times during this pause.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    tokio::time::timeout(NEVER, exchanged).await.expect("it happens at all");
    let ended = tokio::task::spawn_blocking(move || script.0.wait().unwrap()).await.unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(transport.stats().guard_closed_silent.get(), 0);
}
