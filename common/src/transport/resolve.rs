//! Resolves host names anew at each attempt, so that a peer is found even if its address has changed. A name that does
//! not resolve yet is tried again.

use crate::limits::RECONNECT_WAIT;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Returns the addresses of a host, from the system's resolver.
async fn lookup(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((host.as_str(), port)).await?.collect())
}

/// Tries the addresses of the host one after another, and returns the first connection. Each attempt gets an equal
/// share of the remaining `patience`, so that a host whose IPv6 address is unreachable is reached by IPv4.
pub(super) async fn connect(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    connect_by(lookup(host.to_owned(), port), host, patience).await
}

async fn connect_by(
    lookup: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    host: &str,
    patience: Duration,
) -> io::Result<TcpStream> {
    let until = Instant::now() + patience;
    let found = timeout_at(until, lookup).await.map_err(|_| slow(host))?;
    let addresses = resolved(host, found)?;
    let mut failure = unresolved(host, "it has no address");
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let share = until.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// Listens on the host's address. Waits as long as the host name does not resolve.
///
/// # Errors
/// Returns an error if the address cannot be bound.
pub(super) async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let addresses = wait_for(|| lookup(host.to_owned(), port), host).await;
    TcpListener::bind(&addresses[..]).await
}

/// Repeats the lookup until it succeeds. Logs one line when it starts to wait, and one when it succeeds after waiting.
async fn wait_for<F>(lookup: impl Fn() -> F, host: &str) -> Vec<SocketAddr>
where
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let [mut pause, longest] = RECONNECT_WAIT;
    let mut has_waited = false;
    loop {
        match resolved(host, lookup().await) {
            Ok(addresses) => {
                if has_waited {
                    tracing::info!(host, "the name to listen on resolves");
                }
                return addresses;
            }
            Err(error) => {
                if !std::mem::replace(&mut has_waited, true) {
                    tracing::warn!(host, %error, "cannot listen yet, trying again; endpoints.bind listens without a name");
                }
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// Returns at least one address, or an error that names the host.
fn resolved(host: &str, found: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
    match found {
        Ok(addresses) if addresses.is_empty() => Err(unresolved(host, "it has no address")),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(unresolved(host, &error.to_string())),
    }
}

fn unresolved(host: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{host} does not resolve: {why}"))
}

fn slow(host: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{host} does not resolve in time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PATIENCE: Duration = Duration::from_secs(5);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn each_attempt_asks_for_the_address_again() {
        let ((old, old_at), (_new, new_at)) = (listener().await, listener().await);
        let attempt = |at| connect_by(async move { Ok(vec![at]) }, "peer", PATIENCE);
        assert_eq!(attempt(old_at).await.unwrap().peer_addr().unwrap(), old_at);
        drop(old);
        assert!(attempt(old_at).await.is_err());
        assert_eq!(attempt(new_at).await.unwrap().peer_addr().unwrap(), new_at);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let (_listener, good) = listener().await;
        // An address reserved for documentation: packets to it get no answer, or the system refuses immediately.
        let dead: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let found = async move { Ok(vec![dead, good]) };
        let stream = connect_by(found, "peer", Duration::from_secs(2)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_named() {
        for found in [Ok(Vec::new()), Err(io::Error::other("unknown"))] {
            let error = connect_by(async { found }, "replay-7", PATIENCE).await.unwrap_err();
            assert!(error.to_string().starts_with("replay-7 does not resolve: "), "{error}");
        }
        let never = std::future::pending();
        let error = connect_by(never, "replay-7", Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.to_string(), "replay-7 does not resolve in time");
    }

    #[tokio::test]
    async fn a_name_to_listen_on_is_waited_for() {
        let asked = AtomicUsize::new(0);
        let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let third = || {
            let found = match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Err(io::Error::other("unknown")),
                1 => Ok(Vec::new()),
                _ => Ok(vec![at]),
            };
            std::future::ready(found)
        };
        assert_eq!(wait_for(third, "replay-7").await, [at]);
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
