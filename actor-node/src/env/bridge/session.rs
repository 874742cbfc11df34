//! [`Session`]: one life of a server, from the greeting to its end.

use super::link::Link;
use super::memory::Memory;
use super::protocol::{
    self, BATCH, Blocks, Described, HELLO, Hello, LANE_FAILED, MEMORY, MEMORY_BYTES_MIN, PICTURE,
    PICTURE_HEADER_BYTES, PROTOCOL, READY, RENDER, RESULT, SPEC,
};
use super::server::{Process, Server};
use super::{BridgeError, Recipe};
use crate::draw::Frame;
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
    has_pictures: bool,
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
        match greeted {
            Ok((spec, blocks, memory, has_pictures)) => {
                Ok(Self { link, memory, process, blocks, spec, has_pictures })
            }
            Err(error) => {
                drop(link);
                Err(explained(error, process.as_mut()))
            }
        }
    }

    /// Shapes and bounds.
    pub(super) fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Where what lies.
    pub(super) fn blocks(&self) -> Blocks {
        self.blocks
    }

    /// Whether pictures were asked for, and the server makes them.
    pub(super) fn has_pictures(&self) -> bool {
        self.has_pictures
    }

    /// What a lane's environment looks like, or why it cannot say.
    ///
    /// # Errors
    /// As of [`Session::exchange`].
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
                    failures.push(lane_failed(&mut self.link, length)?);
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

/// Number and reason of a lane that failed; `length` is at least 4.
fn lane_failed(link: &mut Link, length: usize) -> Result<(usize, String), BridgeError> {
    let payload = link.bytes(length)?;
    let (lane, text) = payload.split_at(4);
    let lane = u32::from_le_bytes(lane.try_into().expect("four bytes")) as usize;
    Ok((lane, String::from_utf8_lossy(text).into_owned()))
}

/// Shapes, blocks, where these are shared, and whether there are pictures.
type Agreed = (EnvSpec, Blocks, Option<Memory>, bool);

fn greet(link: &mut Link, recipe: &Recipe, limit: Duration) -> Result<Agreed, BridgeError> {
    link.set_deadline(limit)?;
    let env = match &recipe.server {
        Server::Gym(id) => Some(id.as_str()),
        Server::Unix(_) | Server::Tcp(_) => None,
    };
    let (lanes, params, render) = (recipe.lanes, &recipe.params, recipe.with_pictures);
    let hello = Hello { protocol: PROTOCOL, env, lanes, params, render };
    link.send(HELLO, &json(&hello))?;
    let described: Described = serde_json::from_slice(&link.document(SPEC)?)
        .map_err(|error| BridgeError::Protocol(format!("its description: {error}")))?;
    let spec = described.spec(&recipe.name)?;
    let blocks = Blocks::new(recipe.lanes, &spec)?;
    let is_large = blocks.request_bytes + blocks.reply_bytes >= MEMORY_BYTES_MIN;
    let is_shared = described.memory && is_large && !link.is_remote();
    let mut memory = if is_shared { Some(Memory::new(&blocks)?) } else { None };
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
    Ok((spec, blocks, memory, render && described.render))
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
