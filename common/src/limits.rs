//! Every bound in one place. A reader can size the whole system from this page; the relations between the bounds are
//! checked when it compiles.

use std::time::Duration;

/// Largest ZeroMQ frame that any of our ports accepts.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Most frames in one message: a header and its data frames.
pub const MESSAGE_FRAMES_MAX: usize = 8;
/// Largest message, all frames together.
pub const MESSAGE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Largest typed header frame.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Longest text inside a header: reasons, names, addresses.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Most rows in one insert batch.
pub const INSERT_ROWS_MAX: usize = 8_192;
/// Most items in one sample reply or one priority update.
pub const SAMPLE_ITEMS_MAX: usize = 16_384;
/// Largest replay row. Large observations (images) still fit: 84 * 84 * 4 bytes twice is 56 KiB.
pub const ROW_BYTES_MAX: usize = 1 << 20;
/// Most rows of one shard: a slot is a `u32`.
pub const SHARD_ROWS_MAX: usize = 1 << 31;
/// Most shards in one run.
pub const SHARDS_MAX: usize = 1_024;
/// Most parameters of a policy: its weights are one frame.
pub const POLICY_PARAMETERS_MAX: usize = FRAME_BYTES_MAX / 4;
/// Numbers that actors draw which are given none (`actor.id = "auto"`): far above those that people give, and so many that
/// ten thousand actors at once collide less than once in forty starts.
pub const ACTOR_IDS_DRAWN: std::ops::Range<u32> = 1 << 20..1 << 31;
/// Most unacknowledged insert batches that a server ever grants to one actor.
pub const INSERT_WINDOW_MAX: u32 = 64;

/// A client of a replay server says something at least this often.
pub const CLIENT_HEARTBEAT: Duration = Duration::from_secs(1);
/// A client that has said nothing for this long is gone: another process may take its place.
pub const CLIENT_SILENT: Duration = Duration::from_secs(5);
/// How long a process waits for a place that another one keeps before it gives up.
pub const PLACE_PATIENCE: Duration = Duration::from_secs(15);
/// Most actors that one replay server ever knows.
pub const ACTORS_MAX: usize = 65_536;

/// Connections that one guarded port holds at once.
pub const CONNECTIONS_MAX: usize = 1_024;
/// A connection that has not completed its ZMTP handshake (greeting and READY) by then is closed.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest ZMTP command; zeromq's READY has 30 bytes, libzmq's about 50.
pub const COMMAND_BYTES_MAX: usize = 512;
/// Largest file of `[tls]`.
pub const TLS_FILE_BYTES_MAX: usize = 1 << 20;
/// Time between two looks at the files of `[tls]`.
pub const TLS_RELOAD_EVERY: Duration = Duration::from_secs(10);
/// Encrypted bytes that a TLS connection reads ahead.
pub const TLS_READ_BYTES: usize = 64 << 10;
/// Bytes that a TLS connection has encrypted and not written yet.
pub const TLS_SEND_BYTES: usize = 256 << 10;
/// Memory that TLS takes for one connection, at most: these two, and what rustls holds of a message that is not complete
/// (64 KiB while it shakes hands, a record of 18 KiB encrypted and decrypted after that).
pub const TLS_CONNECTION_BYTES: usize = TLS_READ_BYTES + TLS_SEND_BYTES + (64 << 10);
/// Messages that wait in one direction of a socket before the sender is held.
pub const SOCKET_QUEUE_MESSAGES: usize = 64;
/// Replies that wait for one peer before further ones are dropped: it asked far beyond its window, or does not read.
pub const PEER_BACKLOG_MESSAGES: usize = 1_024;
/// The same in bytes. One message always fits.
pub const PEER_BACKLOG_BYTES: usize = MESSAGE_BYTES_MAX;
/// Replies that wait for all peers of a port together. Beyond it the peer for which the most waits is closed.
pub const REPLIES_MAX: usize = 64 * PEER_BACKLOG_MESSAGES;
/// The same in bytes.
pub const REPLIES_BYTES_MAX: usize = 4 * PEER_BACKLOG_BYTES;
/// Time between two questions whether a peer is still there.
pub const PING_EVERY: Duration = Duration::from_secs(1);
/// A peer that asks so itself and is not heard from for this long is gone.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
/// A peer that takes nothing of what is sent to it for this long is given up.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);
/// At a full port, a connection that was of no use for this long makes room for a newcomer.
pub const USELESS_AFTER: Duration = Duration::from_secs(10);
/// How long a closed endpoint may go on handing over what was sent before.
pub const LINGER: Duration = Duration::from_secs(1);
/// First and longest wait between two attempts to connect.
pub const RECONNECT_WAIT: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

const _: () = assert!(HEADER_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(TEXT_BYTES_MAX * 4 <= HEADER_BYTES_MAX);
const _: () = assert!(ROW_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(
    SAMPLE_ITEMS_MAX * 16 <= FRAME_BYTES_MAX,
    "keys and probabilities of a sample fit one frame each"
);
const _: () = assert!(SHARD_ROWS_MAX <= u32::MAX as usize, "a slot is a u32");
const _: () = assert!(MESSAGE_BYTES_MAX >= FRAME_BYTES_MAX + HEADER_BYTES_MAX);
const _: () = assert!(CLIENT_HEARTBEAT.as_millis() * 3 < CLIENT_SILENT.as_millis());
const _: () = assert!(CLIENT_SILENT.as_millis() * 2 < PLACE_PATIENCE.as_millis());
const _: () = assert!(PEER_BACKLOG_BYTES >= MESSAGE_BYTES_MAX);
const _: () = assert!(CONNECTIONS_MAX * TLS_CONNECTION_BYTES <= REPLIES_BYTES_MAX);
const _: () = assert!(PEER_BACKLOG_MESSAGES >= 4 * SOCKET_QUEUE_MESSAGES);
