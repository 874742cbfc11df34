//! `PROGRAM health`: asks the program in the same container over its admin port whether it is well. Container images
//! need this command, because they contain neither a shell nor curl.

use super::Args;
use crate::config::{ConfigError, Resolved};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Time limit for connecting, and for each read and each write.
const PATIENCE: Duration = Duration::from_secs(3);
/// Maximum number of bytes read of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Arguments of `PROGRAM health`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Health {
    /// Settings of the program to ask; its address is telemetry.admin.
    #[command(flatten)]
    pub args: Args,
    /// Ask whether the program is ready (/readyz), not only whether it is alive (/healthz).
    #[arg(long)]
    pub ready: bool,
}

/// Reason why the program is not reported as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The settings cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The program does not answer.
    #[error("{address} does not answer: {reason}")]
    Silent {
        /// Address of the admin port.
        address: SocketAddr,
        /// The operating system's error.
        reason: std::io::Error,
    },
    /// The program answers that it is not healthy.
    #[error("{address}{route} says {status}: {body}")]
    Unwell {
        /// Address of the admin port.
        address: SocketAddr,
        /// The requested route.
        route: &'static str,
        /// Status line of the answer.
        status: String,
        /// Body of the answer.
        body: String,
    },
}

impl Health {
    /// Sends one request.
    ///
    /// # Errors
    /// Returns an error for every answer other than 200, and if there is no answer within three seconds.
    pub fn ask(&self) -> Result<(), HealthError> {
        let resolved = self.args.load(Vec::new())?;
        let address = address(&resolved)?;
        let route = if self.ready { "/readyz" } else { "/healthz" };
        let answer =
            get(address, route).map_err(|reason| HealthError::Silent { address, reason })?;
        let (status, rest) = answer.split_once("\r\n").unwrap_or((&answer, ""));
        if status.split(' ').nth(1) == Some("200") {
            return Ok(());
        }
        let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
        Err(HealthError::Unwell { address, route, status: status.into(), body: body.into() })
    }
}

/// Returns the address of the admin port as seen from this machine. If the port is bound to all interfaces, this is the
/// loopback address.
fn address(resolved: &Resolved) -> Result<SocketAddr, ConfigError> {
    let admin = &resolved.config.telemetry.admin;
    let wrong = |expected: String| resolved.invalid("telemetry.admin", expected);
    let found =
        admin.to_socket_addrs().map_err(|error| wrong(format!("must be HOST:PORT: {error}")));
    let Some(mut address) = found?.next() else {
        return Err(wrong("must be the name of a machine".into()));
    };
    if address.port() == 0 {
        return Err(wrong("must name the port: 0 takes any, which health cannot know".into()));
    }
    if address.ip().is_unspecified() {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        address.set_ip(loopback[usize::from(address.is_ipv6())]);
    }
    Ok(address)
}

fn get(address: SocketAddr, route: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {route} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
