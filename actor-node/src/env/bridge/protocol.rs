//! Messages of `docs/env-protocol.md`, version 1: message kinds, documents of the handshake, and the layout of blocks.

use super::BridgeError;
use crate::draw::Frame;
use crate::env::{EnvOrigin, EnvTerms};
use common::spec::{ActionKind, EnvSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the protocol.
pub(super) const PROTOCOL: u32 = 1;
/// Number of bytes of a message's header: the kind of the message and the length of its payload, each a little-endian
/// u32.
pub(super) const HEADER_BYTES: usize = 8;
/// Maximum number of bytes of a document or text.
pub(super) const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Maximum number of bytes of each field of a block.
const BLOCK_BYTES_MAX: usize = 1 << 30;
/// Minimum size in bytes of both blocks together at which shared memory is used. Smaller blocks are sent inside
/// messages, because a message is necessary in any case.
pub(super) const MEMORY_BYTES_MIN: usize = 64 << 10;
/// Maximum number of bytes of a picture's pixels.
const PICTURE_BYTES_MAX: usize = 64 << 20;
/// Number of bytes of a picture before its pixels.
pub(super) const PICTURE_HEADER_BYTES: usize = 16;
/// Display time in seconds of a picture whose environment does not specify one.
const PICTURE_SECONDS_DEFAULT: f64 = 1.0 / 30.0;

/// Client to server: protocol version and requested environment, JSON.
pub(super) const HELLO: u32 = 1;
/// Server to client: shapes, JSON.
pub(super) const SPEC: u32 = 2;
/// Client to server: location of the blocks, JSON.
pub(super) const MEMORY: u32 = 3;
/// Server to client: ready for batches.
pub(super) const READY: u32 = 4;
/// Client to server: the request block. The message is empty if the block is in memory.
pub(super) const BATCH: u32 = 5;
/// Server to client: the reply block. The message is empty if the block is in memory.
pub(super) const RESULT: u32 = 6;
/// Server to client, before `RESULT` or instead of `PICTURE`: number of a failed lane (u32), then the reason as text.
pub(super) const LANE_FAILED: u32 = 7;
/// Server to client, last message: reason why the server cannot continue, as text.
pub(super) const ERROR: u32 = 8;
/// Client to server: request for a picture. The payload is the number of the lane (u32).
pub(super) const RENDER: u32 = 9;
/// Server to client: width and height (u32 each), display time in seconds (f64), then the pixels.
pub(super) const PICTURE: u32 = 10;
/// Client to server: request for the terms of an episode. The payload is the number of the lane (u32).
pub(super) const EPISODE: u32 = 11;
/// Server to client: terms by name, JSON.
pub(super) const TERMS: u32 = 12;
/// Maximum number of terms of an episode.
const TERMS_MAX: usize = 64;
/// Maximum number of bytes of a term's name.
const TERM_NAME_MAX: usize = 64;

/// Command for a lane in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    /// Does nothing.
    Idle = 0,
    /// Steps with the lane's action.
    Step = 1,
    /// Resets, and continues with the environment's own random numbers.
    Reset = 2,
    /// Resets with the lane's seed.
    ResetSeeded = 3,
    /// Creates a new environment, unless the lane has one that was never used. Resets the environment with the lane's
    /// seed.
    Make = 4,
}

/// Bit of an outcome: the episode ended by a rule of the task.
pub(super) const TERMINATED: u8 = 1;
/// Bit of an outcome: the episode was cut off.
pub(super) const TRUNCATED: u8 = 2;
/// Bit of an outcome: the lane's environment failed, and the rest of its reply is meaningless.
pub(super) const FAILED: u8 = 4;

/// Payload of [`HELLO`].
#[derive(Debug, Serialize)]
pub(super) struct Hello<'a> {
    pub(super) protocol: u32,
    /// Name of the environment; `None` if the server alone decides.
    pub(super) env: Option<&'a str>,
    pub(super) lanes: usize,
    pub(super) params: &'a BTreeMap<String, String>,
    /// Whether the client will send `RENDER`.
    pub(super) render: bool,
    /// Whether the client limits the length of episodes itself, so that the environment's own limit is switched off.
    pub(super) unlimited: bool,
}

/// Payload of [`SPEC`].
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Described {
    protocol: u32,
    obs_dim: usize,
    obs_image: Option<[usize; 3]>,
    actions: ActionKind,
    act_dim: usize,
    #[serde(default)]
    action_low: Vec<f32>,
    #[serde(default)]
    action_high: Vec<f32>,
    episode_steps_max: Option<u32>,
    /// Whether the server can map a shared file.
    #[serde(default)]
    pub(super) memory: bool,
    /// Whether the server answers `RENDER`.
    #[serde(default)]
    pub(super) render: bool,
    /// Whether the server answers `EPISODE`.
    #[serde(default)]
    pub(super) terms: bool,
    #[serde(default)]
    action_start: i64,
    #[serde(default)]
    obs_low: Vec<Option<f32>>,
    #[serde(default)]
    obs_high: Vec<Option<f32>>,
    #[serde(default)]
    env_spec: Option<String>,
}

impl Described {
    /// Returns the spec, after checking it.
    ///
    /// # Errors
    /// Returns an error if the protocol version differs, or if shapes or bounds contradict each other.
    pub(super) fn spec(&self, id: &str) -> Result<EnvSpec, BridgeError> {
        let wrong = |what: String| Err(BridgeError::Protocol(what));
        if self.protocol != PROTOCOL {
            return wrong(format!("protocol {}, expected {PROTOCOL}", self.protocol));
        }
        if self.obs_dim == 0 || self.act_dim == 0 {
            return wrong(format!("obs_dim {}, act_dim {}", self.obs_dim, self.act_dim));
        }
        if let Some(image) = self.obs_image {
            let pixels = image.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
            if pixels != Some(self.obs_dim) {
                return wrong(format!("obs_image {image:?} of obs_dim {}", self.obs_dim));
            }
        }
        let bounds = if self.actions == ActionKind::Discrete { 0 } else { self.act_dim };
        let (low, high) = (&self.action_low, &self.action_high);
        if low.len() != bounds || high.len() != bounds {
            return wrong(format!("action bounds {low:?} to {high:?}, expected {bounds} ranges"));
        }
        if let Some(what) = EnvSpec::wrong_bounds(low, high) {
            return wrong(format!("action bounds: {what}"));
        }
        Ok(EnvSpec {
            id: id.to_owned(),
            obs_dim: self.obs_dim,
            obs_image: self.obs_image,
            actions: self.actions,
            act_dim: self.act_dim,
            action_low: low.clone(),
            action_high: high.clone(),
            episode_steps_max: self.episode_steps_max,
        })
    }
}

impl Described {
    /// Returns the server's description of the environment's origin. The description is empty if the server sends none.
    ///
    /// # Errors
    /// Returns an error if the number of bounds is neither 0 nor the length of an observation.
    pub(super) fn origin(&self) -> Result<EnvOrigin, BridgeError> {
        let Self { obs_dim, obs_low, obs_high, .. } = self;
        let counts = [obs_low.len(), obs_high.len()];
        if counts != [0; 2] && counts != [*obs_dim; 2] {
            let what = format!("{} and {} bounds of obs_dim {obs_dim}", counts[0], counts[1]);
            return Err(BridgeError::Protocol(what));
        }
        let known = |bounds: &[Option<f32>]| {
            bounds.iter().map(|bound| bound.filter(|bound| bound.is_finite())).collect()
        };
        Ok(EnvOrigin {
            action_start: self.action_start,
            obs_low: known(obs_low),
            obs_high: known(obs_high),
            env_spec: self.env_spec.clone(),
        })
    }
}

/// Parses the payload of a `TERMS` message.
///
/// # Errors
/// Returns an error if the payload is not JSON of names and numbers, if there are too many terms, or if a name is too
/// long or empty.
pub(super) fn terms(payload: &[u8]) -> Result<EnvTerms, BridgeError> {
    let terms: EnvTerms = serde_json::from_slice(payload)
        .map_err(|error| BridgeError::Protocol(format!("terms of an episode: {error}")))?;
    let count = terms.len();
    if count > TERMS_MAX {
        let what = format!("{count} terms of an episode, expected at most {TERMS_MAX}");
        return Err(BridgeError::Protocol(what));
    }
    if let Some(name) = terms.keys().find(|name| !(1..=TERM_NAME_MAX).contains(&name.len())) {
        let bytes = name.len();
        let what = format!("a term's name of {bytes} bytes, expected 1 to {TERM_NAME_MAX}");
        return Err(BridgeError::Protocol(what));
    }
    Ok(terms)
}

/// Payload of [`MEMORY`]. The request block is at the start of the file, the reply block at `reply_at`.
#[derive(Debug, Serialize)]
pub(super) struct MemoryMessage<'a> {
    /// Path of the shared file for the blocks. `None` if the blocks are sent inside the messages.
    pub(super) path: Option<&'a str>,
    pub(super) request_bytes: usize,
    pub(super) reply_at: usize,
    pub(super) reply_bytes: usize,
}

/// Parses `header`, which is the beginning of the payload of a `PICTURE` message. `length` is the number of bytes of
/// the whole payload. Returns a [`Frame`] with blank pixels.
///
/// # Errors
/// Returns an error if the number of pixels is 0, exceeds the limit or does not match `length`, or if the display time
/// is invalid.
pub(super) fn announced_frame(
    header: [u8; PICTURE_HEADER_BYTES],
    length: usize,
) -> Result<Frame, BridgeError> {
    let [a, b, c, d, e, f, g, h, seconds @ ..] = header;
    let (width, height) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let seconds = f64::from_le_bytes(seconds);
    let pixels = u64::from(width) * u64::from(height);
    let bytes = usize::try_from(pixels).ok().and_then(|pixels| pixels.checked_mul(3));
    let bytes = bytes.filter(|bytes| (1..=PICTURE_BYTES_MAX).contains(bytes));
    let Some(bytes) = bytes.filter(|bytes| PICTURE_HEADER_BYTES + bytes == length) else {
        return Err(BridgeError::Protocol(format!(
            "a picture of {width} by {height} pixels in {length} bytes, expected \
             {PICTURE_HEADER_BYTES} and 3 a pixel, at most {PICTURE_BYTES_MAX} of these"
        )));
    };
    if !(seconds.is_finite() && seconds >= 0.0) {
        let what = format!("a picture for {seconds} s, expected 0 or more");
        return Err(BridgeError::Protocol(what));
    }
    let seconds = if seconds > 0.0 { seconds } else { PICTURE_SECONDS_DEFAULT };
    Ok(Frame { width, height, rgb: vec![0; bytes], seconds })
}

/// Layout of the blocks of L lanes, with O numbers per observation and W per action. Fields begin at multiples of 8
/// bytes.
///
/// | request | type | | reply | type |
/// |---|---|---|---|---|
/// | commands | u8 (L) | | outcomes | u8 (L) |
/// | seeds | u32 (L) | | rewards | f64 (L) |
/// | actions | f32 (L, W) | | observations | f32 (L, O); u8 (L, O) for images |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    lanes: usize,
    obs_dim: usize,
    width: usize,
    is_image: bool,
    seeds_at: usize,
    actions_at: usize,
    /// Bytes of the request block.
    pub(super) request_bytes: usize,
    rewards_at: usize,
    obs_at: usize,
    /// Bytes of the reply block.
    pub(super) reply_bytes: usize,
}

/// Reply of one lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answer {
    pub(super) outcome: u8,
    pub(super) reward: f64,
}

impl Blocks {
    /// Computes the layout.
    ///
    /// # Errors
    /// Returns an error if a field exceeds the size limit.
    pub(super) fn new(lanes: usize, spec: &EnvSpec) -> Result<Self, BridgeError> {
        let (obs_dim, width) = (spec.obs_dim, spec.action_width());
        let is_image = spec.obs_image.is_some();
        let size = |per_lane: usize, bytes: usize| {
            let size = lanes.checked_mul(per_lane)?.checked_mul(bytes)?;
            (size <= BLOCK_BYTES_MAX).then(|| size.next_multiple_of(8))
        };
        let sizes = (|| {
            let pixel = if is_image { 1 } else { 4 };
            Some([size(1, 1)?, size(1, 4)?, size(width, 4)?, size(1, 8)?, size(obs_dim, pixel)?])
        })();
        let Some([bytes, seeds, actions, rewards, obs]) = sizes else {
            let what = format!("blocks of {lanes} lanes, {obs_dim} numbers each, are too large");
            return Err(BridgeError::Protocol(what));
        };
        Ok(Self {
            lanes,
            obs_dim,
            width,
            is_image,
            seeds_at: bytes,
            actions_at: bytes + seeds,
            request_bytes: bytes + seeds + actions,
            rewards_at: bytes,
            obs_at: bytes + rewards,
            reply_bytes: bytes + rewards + obs,
        })
    }

    /// Returns the number of lanes, L.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Returns the offset of the reply block in a shared file. The offset is a multiple of the page size.
    pub(super) fn reply_at(&self) -> usize {
        self.request_bytes.next_multiple_of(4096)
    }

    /// Writes a lane's command to the request block; `action` is empty or has shape (W).
    pub(super) fn ask(
        &self,
        request: &mut [u8],
        lane: usize,
        command: Command,
        seed: u32,
        action: &[f32],
    ) {
        request[lane] = command as u8;
        let seed_at = self.seeds_at + 4 * lane;
        request[seed_at..seed_at + 4].copy_from_slice(&seed.to_le_bytes());
        let actions_at = self.actions_at + 4 * self.width * lane;
        let place = &mut request[actions_at..actions_at + 4 * self.width];
        for (bytes, value) in place.chunks_exact_mut(4).zip(action) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Copies a lane's reply from one reply block to another.
    pub(super) fn copy(&self, from: &[u8], to: &mut [u8], lane: usize) {
        to[lane] = from[lane];
        let obs_bytes = self.obs_dim * if self.is_image { 1 } else { 4 };
        for (start, bytes) in [(self.rewards_at, 8), (self.obs_at, obs_bytes)] {
            let span = start + lane * bytes..start + (lane + 1) * bytes;
            to[span.clone()].copy_from_slice(&from[span]);
        }
    }

    /// Reads a lane's reply from the reply block; `obs` has shape (O).
    pub(super) fn answer(&self, reply: &[u8], lane: usize, obs: &mut [f32]) -> Answer {
        let reward_at = self.rewards_at + 8 * lane;
        let reward = reply[reward_at..reward_at + 8].try_into().expect("eight bytes");
        let values = &reply[self.obs_at..];
        if self.is_image {
            let pixels = &values[lane * self.obs_dim..(lane + 1) * self.obs_dim];
            for (obs, &pixel) in obs.iter_mut().zip(pixels) {
                *obs = f32::from(pixel);
            }
        } else {
            let numbers = &values[4 * lane * self.obs_dim..4 * (lane + 1) * self.obs_dim];
            for (obs, bytes) in obs.iter_mut().zip(numbers.chunks_exact(4)) {
                *obs = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
            }
        }
        Answer { outcome: reply[lane], reward: f64::from_le_bytes(reward) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(json: &str) -> Result<EnvSpec, String> {
        let described: Described = serde_json::from_str(json).unwrap();
        described.spec("x").map_err(|error| error.to_string())
    }

    #[test]
    fn fields_begin_at_multiples_of_eight_and_hold_what_was_written() {
        let spec = described(
            r#"{"protocol": 1, "obs_dim": 3, "obs_image": null, "actions": "continuous", "act_dim": 2,
                "action_low": [-1, -1], "action_high": [1, 1], "episode_steps_max": null}"#,
        )
        .unwrap();
        let blocks = Blocks::new(9, &spec).unwrap();
        assert_eq!((blocks.seeds_at, blocks.actions_at, blocks.request_bytes), (16, 56, 128));
        assert_eq!((blocks.rewards_at, blocks.obs_at, blocks.reply_bytes), (16, 88, 200));
        let mut request = vec![0; 128];
        blocks.ask(&mut request, 8, Command::Step, 7, &[0.5, -0.25]);
        assert_eq!(request[8], 1);
        assert_eq!(request[48..52], 7_u32.to_le_bytes());
        assert_eq!(request[120..124], 0.5_f32.to_le_bytes());
        assert_eq!(request[124..128], (-0.25_f32).to_le_bytes());
        let mut reply = vec![0; 200];
        reply[8] = TRUNCATED;
        reply[80..88].copy_from_slice(&2.5_f64.to_le_bytes());
        reply[188..192].copy_from_slice(&3.0_f32.to_le_bytes());
        let mut obs = [0.0; 3];
        assert_eq!(blocks.answer(&reply, 8, &mut obs), Answer { outcome: TRUNCATED, reward: 2.5 });
        assert_eq!(obs, [0.0, 3.0, 0.0]);
        let mut copy = vec![0; 200];
        blocks.copy(&reply, &mut copy, 7);
        assert_eq!(copy, [0; 200]);
        blocks.copy(&reply, &mut copy, 8);
        assert_eq!(copy, reply);
    }

    #[test]
    fn shapes_that_contradict_each_other_are_refused() {
        let json = |protocol: u32, image: &str, act_dim: usize, low: &str| {
            format!(
                r#"{{"protocol": {protocol}, "obs_dim": 12, "obs_image": {image},
                    "actions": "continuous", "act_dim": {act_dim}, "action_low": {low},
                    "action_high": [1.0]}}"#
            )
        };
        assert!(described(&json(1, "[3, 2, 2]", 1, "[-1.0]")).is_ok());
        assert!(described(&json(1, "null", 1, "[1.0]")).is_ok(), "the action is always 1");
        for (document, error) in [
            (json(2, "null", 1, "[-1.0]"), "protocol 2, expected 1"),
            (json(1, "[3, 2, 3]", 1, "[-1.0]"), "obs_image [3, 2, 3] of obs_dim 12"),
            (json(1, "null", 0, "[]"), "obs_dim 12, act_dim 0"),
            (
                json(1, "null", 1, "[1.5]"),
                "action bounds: dimension 0 is [1.5, 1], expected two finite numbers in order",
            ),
            (json(1, "null", 2, "[-1.0]"), "action bounds [-1.0] to [1.0], expected 2 ranges"),
        ] {
            assert_eq!(described(&document).unwrap_err(), error);
        }
    }

    #[test]
    fn terms_that_are_too_many_too_long_or_no_numbers_are_refused() {
        let refusal = |payload: String| terms(payload.as_bytes()).unwrap_err().to_string();
        assert_eq!(terms(br#"{"is_success": 1.0}"#).unwrap()["is_success"], 1.0);
        let many: Vec<_> = (0..65).map(|n| format!("\"{n}\": 0")).collect();
        let many = format!("{{{}}}", many.join(", "));
        assert_eq!(refusal(many), "65 terms of an episode, expected at most 64");
        let long = format!("{{\"{}\": 0}}", "x".repeat(65));
        assert_eq!(refusal(long), "a term's name of 65 bytes, expected 1 to 64");
        for no_numbers in [r#"{"x": NaN}"#, r#"{"x": "1"}"#, "[]", ""] {
            assert!(refusal(no_numbers.into()).starts_with("terms of an episode: "));
        }
    }

    #[test]
    fn blocks_beyond_the_limit_are_refused() {
        let spec = described(
            r#"{"protocol": 1, "obs_dim": 1000000000, "actions": "discrete", "act_dim": 2}"#,
        );
        let error = Blocks::new(64, &spec.unwrap()).unwrap_err().to_string();
        assert_eq!(error, "blocks of 64 lanes, 1000000000 numbers each, are too large");
    }
}
