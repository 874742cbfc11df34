//! [`Session`]: one session with a server, from the handshake to the end of the connection.

use super::link::Link;
use super::memory::SharedMemory;
use super::protocol::{
    self, BATCH, Blocks, Described, EPISODE, HELLO, Hello, LANE_FAILED, MEMORY, MEMORY_BYTES_MIN,
    PICTURE, PICTURE_HEADER_BYTES, PROTOCOL, READY, RENDER, RESULT, SPEC, TERMS,
};
use super::server::{Process, Server};
use super::{BridgeError, SessionConfig};
use crate::draw::Frame;
use crate::env::{EnvOrigin, EnvTerms};
use common::spec::EnvSpec;
use std::time::Duration;

/// Session with a server after the handshake. Fields are dropped in their order. The link is the first field, because
/// the process ends only after its link is closed.
#[derive(Debug)]
pub(super) struct Session {
    link: Link,
    process: Option<Process>,
    agreed: Agreed,
}

/// Result of the handshake.
#[derive(Debug)]
struct Agreed {
    memory: Option<SharedMemory>,
    blocks: Blocks,
    spec: EnvSpec,
    origin: EnvOrigin,
    has_pictures: bool,
    has_terms: bool,
}

/// Failed lanes of a batch, as pairs (lane number, reason of the failure).
pub(super) type Failures = Vec<(usize, String)>;

impl Session {
    /// Starts the server, or connects to it, and agrees on shapes and blocks. `limit` is the time limit per message.
    ///
    /// # Errors
    /// Returns an error if there is no server or if the server refuses. The error of a refusal contains the server's
    /// reason.
    pub(super) fn start(config: &SessionConfig, limit: Duration) -> Result<Self, BridgeError> {
        let (mut link, process) = config.server.connect(config)?;
        match greet(&mut link, config, limit) {
            Ok(agreed) => Ok(Self { link, process, agreed }),
            Err(error) => {
                drop(link);
                Err(ended(error, process))
            }
        }
    }

    /// Returns the shapes and bounds of the environment.
    pub(super) fn spec(&self) -> &EnvSpec {
        &self.agreed.spec
    }

    /// Returns the server's description of the environment's origin.
    pub(super) fn origin(&self) -> &EnvOrigin {
        &self.agreed.origin
    }

    /// Returns the layout of the blocks.
    pub(super) fn blocks(&self) -> Blocks {
        self.agreed.blocks
    }

    /// Returns whether pictures were requested and the server supports them.
    pub(super) fn has_pictures(&self) -> bool {
        self.agreed.has_pictures
    }

    /// Returns the numbers that a lane's environment reports about its episode; none if the server does not support
    /// terms.
    ///
    /// # Errors
    /// Fails like [`Session::exchange`].
    pub(super) fn terms(
        &mut self,
        lane: usize,
        deadline: Duration,
    ) -> Result<EnvTerms, BridgeError> {
        if !self.agreed.has_terms {
            return Ok(EnvTerms::new());
        }
        self.link.set_deadline(deadline)?;
        let number = u32::try_from(lane).expect("lanes are counted in bytes of a block");
        self.link.send(EPISODE, &number.to_le_bytes())?;
        protocol::terms(&self.link.document(TERMS)?)
    }

    /// Returns a picture of a lane's environment, or the reason why the environment cannot draw one.
    ///
    /// # Errors
    /// Fails like [`Session::exchange`].
    pub(super) fn picture(
        &mut self,
        lane: usize,
        deadline: Duration,
    ) -> Result<Result<Frame, String>, BridgeError> {
        self.link.set_deadline(deadline)?;
        let number = u32::try_from(lane).expect("lanes are counted in bytes of a block");
        self.link.send(RENDER, &number.to_le_bytes())?;
        match self.link.header()? {
            (LANE_FAILED, length @ 4..) => Ok(Err(lane_failed(&mut self.link, length)?.1)),
            (PICTURE, length @ PICTURE_HEADER_BYTES..) => {
                let mut header = [0; PICTURE_HEADER_BYTES];
                self.link.fill(&mut header)?;
                let mut frame = protocol::announced_frame(header, length)?;
                self.link.fill(&mut frame.rgb)?;
                Ok(Ok(frame))
            }
            (kind, length) => {
                let what = format!("message {kind} of {length} bytes, expected a picture");
                Err(BridgeError::Protocol(what))
            }
        }
    }

    /// Performs one round trip: sends the request block and fills the reply block. Returns the failed lanes.
    ///
    /// # Errors
    /// Returns an error if the server ends, hangs or breaks the protocol. The session is then over ([`Session::lost`]).
    pub(super) fn exchange(
        &mut self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Duration,
    ) -> Result<Failures, BridgeError> {
        self.link.set_deadline(deadline)?;
        let memory = &self.agreed.memory;
        match memory {
            Some(memory) => {
                memory.write(request)?;
                self.link.send(BATCH, &[])?;
            }
            None => self.link.send(BATCH, request)?,
        }
        let mut failures = Failures::new();
        let lanes = self.agreed.blocks.lanes();
        loop {
            match self.link.header()? {
                (RESULT, 0) if memory.is_some() => break,
                (RESULT, length) if memory.is_none() && length == reply.len() => break,
                (LANE_FAILED, length @ 4..) if failures.len() < lanes => {
                    failures.push(lane_failed(&mut self.link, length)?);
                }
                (kind, length) => {
                    let what = format!("message {kind} of {length} bytes, expected a result");
                    return Err(BridgeError::Protocol(what));
                }
            }
        }
        match memory {
            Some(memory) => memory.read(reply)?,
            None => self.link.fill(reply)?,
        }
        if let Some(lane) = reply[..lanes].iter().position(|&outcome| outcome > OUTCOME_MAX) {
            let what = format!("outcome {} of lane {lane}, expected bits 1, 2, 4", reply[lane]);
            return Err(BridgeError::Protocol(what));
        }
        Ok(failures)
    }

    /// Ends the session after `error`. Returns the error, with details about the process if the process ended by
    /// itself.
    pub(super) fn lost(self, error: BridgeError) -> BridgeError {
        let Self { link, process, agreed } = self;
        drop((link, agreed));
        ended(error, process)
    }
}

const OUTCOME_MAX: u8 = protocol::TERMINATED | protocol::TRUNCATED | protocol::FAILED;

/// Reads the number of a failed lane and the reason of its failure. `length` must be at least 4.
fn lane_failed(link: &mut Link, length: usize) -> Result<(usize, String), BridgeError> {
    let payload = link.bytes(length)?;
    let (lane, text) = payload.split_at(4);
    let lane = u32::from_le_bytes(lane.try_into().expect("four bytes")) as usize;
    Ok((lane, String::from_utf8_lossy(text).into_owned()))
}

fn greet(link: &mut Link, config: &SessionConfig, limit: Duration) -> Result<Agreed, BridgeError> {
    link.set_deadline(limit)?;
    let env = match &config.server {
        Server::Gym(id) => Some(id.as_str()),
        Server::Unix(_) | Server::Tcp(_) => None,
    };
    let SessionConfig { lanes, params, with_pictures: render, unlimited, .. } = config;
    let (lanes, render, unlimited) = (*lanes, *render, *unlimited);
    let hello = Hello { protocol: PROTOCOL, env, lanes, params, render, unlimited };
    link.send(HELLO, &json(&hello))?;
    let described: Described = serde_json::from_slice(&link.document(SPEC)?)
        .map_err(|error| BridgeError::Protocol(format!("its description: {error}")))?;
    let spec = described.spec(&config.name)?;
    let blocks = Blocks::new(config.lanes, &spec)?;
    let is_large = blocks.request_bytes + blocks.reply_bytes >= MEMORY_BYTES_MIN;
    let is_shared = described.memory && is_large && !link.is_remote();
    let mut memory = if is_shared { Some(SharedMemory::new(&blocks)?) } else { None };
    let path = memory.as_ref().map(|memory| memory.path().to_string_lossy().into_owned());
    let chosen = protocol::MemoryMessage {
        path: path.as_deref(),
        request_bytes: blocks.request_bytes,
        reply_at: blocks.reply_at(),
        reply_bytes: blocks.reply_bytes,
    };
    link.send(MEMORY, &json(&chosen))?;
    link.document(READY)?;
    if let Some(memory) = &mut memory {
        memory.unlink();
    }
    Ok(Agreed {
        memory,
        blocks,
        spec,
        origin: described.origin()?,
        has_pictures: render && described.render,
        has_terms: described.terms,
    })
}

fn json(document: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("names and numbers are JSON")
}

/// Ends the process of a session that failed with `error`. If the process ended by itself, the returned error contains
/// its exit status, and its last error output is logged.
fn ended(error: BridgeError, process: Option<Process>) -> BridgeError {
    let Some(mut process) = process else { return error };
    match error {
        BridgeError::Closed => {}
        BridgeError::Hung(_) => {
            process.kill();
            return error;
        }
        _ => return error,
    }
    let (status, words) = process.ended();
    if !words.is_empty() {
        tracing::warn!("last words of an environment's process:\n{words}");
    }
    let how = status.map_or_else(|| "closed its socket".to_owned(), |status| status.to_string());
    let last = words.lines().next_back().unwrap_or_default().trim().to_owned();
    BridgeError::Ended { how, last }
}
