//! `PROGRAM health`: asks the admin port of the program that runs beside it. Images have neither a shell nor curl.

use crate::config::{ConfigError, Resolved};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// For the connection, and again for the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Arguments of `PROGRAM health`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Health {
    /// The settings of the program that is asked; its address is telemetry.admin.
    #[command(flatten)]
    pub args: crate::process::Args,
    /// Ask whether it is ready (/readyz), not only whether it lives (/healthz).
    #[arg(long)]
    pub ready: bool,
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// See there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody answers.
    #[error("{address} does not answer: {reason}")]
    Silent {
        /// The admin port.
        address: SocketAddr,
        /// The system's word.
        reason: std::io::Error,
    },
    /// It says that it is not well.
    #[error("{address}{route} says {status}: {body}")]
    Unwell {
        /// The admin port.
        address: SocketAddr,
        /// The route that was asked.
        route: &'static str,
        /// First line of the answer.
        status: String,
        /// The answer.
        body: String,
    },
}

impl Health {
    /// Asks once.
    ///
    /// # Errors
    /// Every answer but 200, and none within three seconds.
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

/// Where the admin port is from here: a port that is bound everywhere is asked over loopback.
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
