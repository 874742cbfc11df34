//! [`Endpoint`]: addresses as written in the configuration.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address: `tcp://host:port`, `ipc:///path/of/the/socket` or `mem://name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// A TCP port of this or another machine.
    Tcp {
        /// Host name, IPv4 address, IPv6 address without its brackets, or `*` (bind only) for all interfaces.
        host: String,
        /// Port. 0 (bind only) lets the system choose.
        port: u16,
    },
    /// Path of a Unix socket, for processes of the same machine.
    Ipc(PathBuf),
    /// Name inside this process, see [`MemoryTransport`](super::memory::MemoryTransport).
    Mem(String),
}

/// Reason why a text is not an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("endpoint {text:?}: {problem}")]
pub struct EndpointError {
    /// The text.
    pub text: String,
    /// Reason why it is invalid.
    pub problem: &'static str,
}

/// Maximum length of the path of an `ipc://` endpoint. A socket address has room for 108 bytes on Linux and 104 bytes
/// on macOS, and we append a suffix of up to 13 bytes.
const IPC_PATH_BYTES_MAX: usize = 90;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refuse = |problem| Err(EndpointError { text: text.to_owned(), problem });
        let Some((scheme, address)) = text.split_once("://") else {
            return refuse("expected tcp://host:port, ipc:///path or mem://name");
        };
        match scheme {
            "tcp" => {
                let Some((host, port)) = address.rsplit_once(':') else {
                    return refuse("expected a port, as in tcp://host:port");
                };
                let Ok(port) = port.parse() else {
                    return refuse("expected a port from 0 to 65535");
                };
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                match bare {
                    None if host.contains(':') => {
                        refuse("expected an IPv6 address in brackets, as in tcp://[::1]:5555")
                    }
                    None if host.is_empty() || host.contains(['/', ' ']) => {
                        refuse("expected a host, as in tcp://127.0.0.1:5555")
                    }
                    _ => Ok(Self::Tcp { host: bare.unwrap_or(host).to_owned(), port }),
                }
            }
            "ipc" if !Path::new(address).is_absolute() => refuse("expected an absolute path"),
            "ipc" if address.ends_with('/') => refuse("expected a path of a socket, not a folder"),
            "ipc" if address.len() > IPC_PATH_BYTES_MAX => {
                refuse("expected a path of at most 90 bytes: socket addresses are short")
            }
            "ipc" => Ok(Self::Ipc(PathBuf::from(address))),
            "mem" if address.is_empty() => refuse("expected a name, as in mem://replay"),
            "mem" => Ok(Self::Mem(address.to_owned())),
            _ => refuse("expected the scheme tcp, ipc or mem"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
            Self::Mem(name) => write!(f, "mem://{name}"),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in
            ["tcp://127.0.0.1:0", "tcp://replay-0.replay:5555", "tcp://[::1]:80", "tcp://*:1"]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["ipc:///run/sapex/replay", "mem://replay"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!(
            "tcp://[::1]:80".parse(),
            Ok(Endpoint::Tcp { host: "::1".to_owned(), port: 80 })
        );
    }

    #[test]
    fn an_error_names_the_text() {
        for text in [
            "",
            "replay:5555",
            "udp://a:1",
            "tcp://a",
            "tcp://:1",
            "tcp://a:65536",
            "tcp://::1:80",
            "tcp://a/b:1",
            "ipc://relative",
            "ipc:///folder/",
            "mem://",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        let long = format!("ipc:///{}", "a".repeat(IPC_PATH_BYTES_MAX));
        assert!(long.parse::<Endpoint>().is_err());
    }
}
