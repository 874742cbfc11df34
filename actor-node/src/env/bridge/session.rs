//! [`Session`]: one life of a server, from the greeting to its end.

use super::link::Link;
use super::memory::Memory;
use super::protocol::{
    self, BATCH, Blocks, Described, HELLO, Hello, LANE_FAILED, MEMORY, PROTOCOL, READY, RESULT,
    SPEC,
};
use super::server::{Process, Server};
use super::{BridgeError, Recipe};
use common::spec::EnvSpec;
use std::time::Duration;

/// A greeted server. The link comes first: its end is what a process ends by.
#[derive(Debug)]
pub(super) struct Session {
    link: Link,
    memory: Option<Memory>,
    process: Option<Process>,
    blocks: Blocks,
    spec: EnvSpec,
}

/// Lanes that failed in a batch, and why.
pub(super) type Failures = Vec<(usize, String)>;

impl Session {
    /// Starts or finds the server and agrees with it on shapes and blocks, all within `limit` per message.
    ///
    /// # Errors
    /// There is none, or it refuses: then the reason is the server's.
    pub(super) fn start(recipe: &Recipe, limit: Duration) -> Result<Self, BridgeError> {
        let (mut link, mut process) = recipe.server.connect(&recipe.python)?;
        let greeted = greet(&mut link, recipe, limit);
        let (spec, blocks, memory) = match greeted {
            Ok(agreed) => agreed,
            Err(error) => {
                drop(link);
                return Err(explained(error, process.as_mut()));
            }
        };
        Ok(Self { link, memory, process, blocks, spec })
    }

    /// Shapes and bounds.
    pub(super) fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Where what lies.
    pub(super) fn blocks(&self) -> Blocks {
        self.blocks
    }

    /// One round trip: sends the request block, fills the reply block.
    ///
    /// # Errors
    /// The server ended, hangs or breaks the protocol: the session is over ([`Session::lost`]).
    pub(super) fn exchange(
        &mut self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Duration,
    ) -> Result<Failures, BridgeError> {
        self.link.set_deadline(deadline)?;
        match &self.memory {
            Some(memory) => {
                memory.write(request)?;
                self.link.send(BATCH, &[])?;
            }
            None => self.link.send(BATCH, request)?,
        }
        let mut failures = Failures::new();
        let lanes = self.blocks.lanes();
        loop {
            match self.link.header()? {
                (RESULT, 0) if self.memory.is_some() => break,
                (RESULT, length) if self.memory.is_none() && length == reply.len() => break,
                (LANE_FAILED, length @ 4..) if failures.len() < lanes => {
                    let payload = self.link.bytes(length)?;
                    let (lane, text) = payload.split_at(4);
                    let lane = u32::from_le_bytes(lane.try_into().expect("four bytes")) as usize;
                    failures.push((lane, String::from_utf8_lossy(text).into_owned()));
                }
                (kind, length) => {
                    let what = format!("message {kind} of {length} bytes, expected a result");
                    return Err(BridgeError::Protocol(what));
                }
            }
        }
        match &self.memory {
            Some(memory) => memory.read(reply)?,
            None => self.link.fill(reply)?,
        }
        if let Some(lane) = reply[..lanes].iter().position(|&outcome| outcome > OUTCOME_MAX) {
            let what = format!("outcome {} of lane {lane}, expected bits 1, 2, 4", reply[lane]);
            return Err(BridgeError::Protocol(what));
        }
        Ok(failures)
    }

    /// Ends it after `error`, and says more of why if the process left word.
    pub(super) fn lost(self, error: BridgeError) -> BridgeError {
        let Self { link, memory, mut process, .. } = self;
        if let (BridgeError::Hung(_), Some(process)) = (&error, &mut process) {
            process.kill();
        }
        drop((link, memory));
        explained(error, process.as_mut())
    }
}

const OUTCOME_MAX: u8 = protocol::TERMINATED | protocol::TRUNCATED | protocol::FAILED;

fn greet(
    link: &mut Link,
    recipe: &Recipe,
    limit: Duration,
) -> Result<(EnvSpec, Blocks, Option<Memory>), BridgeError> {
    link.set_deadline(limit)?;
    let env = match &recipe.server {
        Server::Gym(id) => Some(id.as_str()),
        Server::Unix(_) | Server::Tcp(_) => None,
    };
    let hello = Hello { protocol: PROTOCOL, env, lanes: recipe.lanes, params: &recipe.params };
    link.send(HELLO, &json(&hello))?;
    let described: Described = serde_json::from_slice(&link.document(SPEC)?)
        .map_err(|error| BridgeError::Protocol(format!("its description: {error}")))?;
    let spec = described.spec(&recipe.name)?;
    let blocks = Blocks::new(recipe.lanes, &spec)?;
    let mut memory =
        if described.memory && !link.is_remote() { Some(Memory::new(&blocks)?) } else { None };
    let path = memory.as_ref().map(|memory| memory.path().to_string_lossy().into_owned());
    let chosen = protocol::Memory {
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
    Ok((spec, blocks, memory))
}

fn json(document: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("names and numbers are JSON")
}

/// The error with how the process ended, if that is what happened. Its last words go to the log.
fn explained(error: BridgeError, process: Option<&mut Process>) -> BridgeError {
    let (BridgeError::Closed, Some(process)) = (&error, process) else { return error };
    let (status, words) = process.ended();
    if !words.is_empty() {
        tracing::warn!("last words of an environment's process:\n{words}");
    }
    let how = status.map_or_else(|| "closed its socket".to_owned(), |status| status.to_string());
    let last = words.lines().next_back().unwrap_or_default().trim().to_owned();
    BridgeError::Ended { how, last }
}
