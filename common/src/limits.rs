//! All bounds of the system in one place. A reader can estimate the size of the whole system from this page. The
//! relations between the bounds are checked at compile time.

use std::time::Duration;

/// Largest ZeroMQ frame that our ports accept.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Maximum number of frames in one message: a header and its data frames.
pub const MESSAGE_FRAMES_MAX: usize = 8;
/// Largest message: the sum of its frames.
pub const MESSAGE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Largest typed header frame.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Longest text inside a header, such as a reason, a name or an address.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Maximum number of rows in one insert batch.
pub const INSERT_ROWS_MAX: usize = 8_192;
/// Maximum number of items in one sample reply or one priority update.
pub const SAMPLE_ITEMS_MAX: usize = 16_384;
/// Largest replay row. Rows with large images fit: two observations of 84 * 84 * 4 bytes have 55 KiB.
pub const ROW_BYTES_MAX: usize = 1 << 20;
/// Maximum number of rows of one shard. A slot must fit a `u32`.
pub const SHARD_ROWS_MAX: usize = 1 << 31;
/// Maximum number of shards in one run.
pub const SHARDS_MAX: usize = 1_024;
/// Maximum number of parameters of a policy. Its weights must fit one frame.
pub const POLICY_PARAMETERS_MAX: usize = FRAME_BYTES_MAX / 4;
/// Range of the ids that actors draw if `actor.id` is `"auto"`. It is far above the ids that users configure. If ten
/// thousand actors draw their ids at the same time, the probability that two of them draw the same id is less than one
/// in forty.
pub const ACTOR_IDS_DRAWN: std::ops::Range<u32> = 1 << 20..1 << 31;
/// Maximum number of unacknowledged insert batches that a server grants to one actor.
pub const INSERT_WINDOW_MAX: u32 = 64;

/// Longest time between two messages of a client to its replay server.
pub const CLIENT_HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which a client counts as gone. Another process may then take its place.
pub const CLIENT_SILENT: Duration = Duration::from_secs(5);
/// Time for which a process waits for a place that another process holds. Afterwards the waiting process gives up.
pub const PLACE_PATIENCE: Duration = Duration::from_secs(15);
/// Maximum number of actors that one replay server keeps state for.
pub const ACTORS_MAX: usize = 65_536;

/// Maximum number of open connections of one guarded port.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Time within which a connection must complete its ZMTP handshake (greeting and READY). Otherwise the connection is
/// closed.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest ZMTP command. The command READY has 30 bytes in zeromq and about 50 bytes in libzmq.
pub const COMMAND_BYTES_MAX: usize = 512;
/// Largest file named in `[tls]`.
pub const TLS_FILE_BYTES_MAX: usize = 1 << 20;
/// Time between two checks of the files in `[tls]` for changes.
pub const TLS_RELOAD_EVERY: Duration = Duration::from_secs(10);
/// Maximum number of encrypted bytes that a TLS connection reads ahead.
pub const TLS_READ_BYTES: usize = 64 << 10;
/// Maximum number of bytes that a TLS connection has encrypted but not yet written.
pub const TLS_SEND_BYTES: usize = 256 << 10;
/// Largest amount of memory that TLS uses for one connection: the two buffers above, and one incomplete message in
/// rustls. That message has at most 64 KiB during the handshake. After the handshake it is a record of 18 KiB, which
/// rustls holds both encrypted and decrypted.
pub const TLS_CONNECTION_BYTES: usize = TLS_READ_BYTES + TLS_SEND_BYTES + (64 << 10);
/// Maximum number of messages that wait in one direction of a socket before the sender is blocked.
pub const SOCKET_QUEUE_MESSAGES: usize = 64;
/// Maximum number of replies that wait for one peer. Further replies are dropped, because the peer has sent many more
/// requests than its window allows, or does not read.
pub const PEER_BACKLOG_MESSAGES: usize = 1_024;
/// Maximum size in bytes of the replies that wait for one peer. One message always fits.
pub const PEER_BACKLOG_BYTES: usize = MESSAGE_BYTES_MAX;
/// Maximum number of replies that wait for all peers of a port together. Beyond this limit, the port closes the
/// connection of the peer with the largest backlog.
pub const REPLIES_MAX: usize = 64 * PEER_BACKLOG_MESSAGES;
/// Maximum size in bytes of the replies that wait for all peers of a port together.
pub const REPLIES_BYTES_MAX: usize = 4 * PEER_BACKLOG_BYTES;
/// Time between two pings to a peer.
pub const PING_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a peer counts as gone. It applies only to peers that send pings.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Time after which a peer that reads none of the data sent to it is disconnected.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Time without a useful message after which a connection may be closed, if the port is full and a new connection needs
/// the room.
pub const USELESS_AFTER: Duration = Duration::from_secs(10);
/// Time in which a closed endpoint may still deliver messages that were sent before it was closed.
pub const LINGER: Duration = Duration::from_secs(1);
/// Waits between two attempts to connect: the first wait, then the longest wait.
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
