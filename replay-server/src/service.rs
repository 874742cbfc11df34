//! [`ReplayServer`]: builds the tables of a replay server, and serves them on a socket until a stop signal.

use crate::metrics::{ServerMetrics, ShardMetrics};
use crate::rate_limiter::RateLimiterConfig;
use crate::recovery::Recovered;
use crate::saved::{SavedError, SavedReplay};
use crate::selector::{PrioritizedConfig, SelectorConfig};
use crate::server::{NetworkSide, ShardHandle};
use crate::shard::{Published, SendReply, Shard, ShardCommand};
use crate::storage::files::{self, DurableError, DurableReplay};
use crate::storage::sync::{Flush, flush_all};
use crate::table::{Table, TableConfig, TableError};
use common::config::{Config, Durability, SelectorKind};
use common::process::Process;
use common::spec::{EnvSpec, ItemLayout};
use common::telemetry::metrics::MetricsError;
use common::telemetry::progress::{ProgressCheck, ProgressWatch};
use common::transport::{Message, PeerId, Router};
use common::wire::handshake::{ServerTerms, new_life};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{debug, info};

/// Maximum number of commands waiting for one shard. Clients limit their outstanding requests, so it is rarely reached.
const INBOX_COMMANDS: usize = 1_024;

/// Reason why a replay server cannot start, or fails while it stops.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A table does not accept the settings.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A metric is already registered with another declaration.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Rows cannot be saved or loaded.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// Durable tables cannot be opened, or flushed at the end.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The operating system cannot start a thread.
    #[error("start shard {shard}: {source}")]
    Thread {
        /// Number of the shard.
        shard: usize,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// Returns the settings of one shard's table. In the configuration, row counts are totals over all shards of the run.
#[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
pub fn table_config(config: &Config, layout: &ItemLayout) -> TableConfig {
    let (replay, shards) = (&config.replay, config.shards_total());
    let selector = match replay.selector {
        SelectorKind::Uniform => SelectorConfig::Uniform,
        SelectorKind::Prioritized => SelectorConfig::Prioritized(PrioritizedConfig {
            alpha: replay.priority_exponent,
            epsilon: replay.priority_epsilon,
        }),
    };
    let limiter = RateLimiterConfig {
        min_size: replay.min_size.div_ceil(shards as u64),
        samples_per_insert: replay.samples_per_insert,
        error_buffer: replay.error_buffer / shards as f64,
        insert_rows: config.actor.insert_rows,
        // Use the whole batch size as the largest share, so that the run can continue with a single remaining shard.
        sample_share: config.training.batch_size as f64,
    };
    TableConfig { layout: layout.clone(), capacity: config.shard_capacity(), selector, limiter }
}

/// The parts of a replay server that run at the same time.
#[derive(Debug)]
pub struct ServerParts {
    /// Side that reads requests from the socket.
    pub network: NetworkSide,
    /// Each shard with the commands that the network side sends it.
    pub shards: Vec<(Shard, Receiver<ShardCommand>)>,
}

/// A replay server whose tables are built, but which does not serve yet.
#[derive(Debug)]
pub struct ReplayServer {
    process: Process,
    layout: ItemLayout,
    tables: Vec<Table>,
    first_shard: usize,
    /// Location of saved rows; `None` if rows are lost when the process ends.
    saved: Option<SavedReplay>,
}

impl ReplayServer {
    /// Builds the tables of a server. `first_shard` is the number of its first shard within the run.
    ///
    /// # Errors
    /// Returns an error if a table does not accept the settings, for example because the limiter would deadlock.
    pub fn new(process: Process, spec: &EnvSpec, first_shard: usize) -> Result<Self, ReplayError> {
        let layout = process.resolved.config.item_layout(spec);
        let config = table_config(&process.resolved.config, &layout);
        let shards = process.resolved.config.replay.shards;
        let tables = (0..shards).map(|_| Table::new(&config)).collect::<Result<_, _>>()?;
        Ok(Self { process, layout, tables, first_shard, saved: None })
    }

    /// Loads the rows from the location `saved`, and saves this server's rows there when it stops. `None` does neither.
    ///
    /// # Errors
    /// Returns an error if the saved rows are damaged, or were written with other settings.
    pub fn kept_in(mut self, saved: Option<SavedReplay>) -> Result<Self, SavedError> {
        if let Some(saved) = &saved {
            saved.load(&mut self.tables)?;
        }
        self.saved = saved;
        Ok(self)
    }

    /// Replaces the tables by durable tables, which have the rows of the files in `durable`. If there are no files,
    /// they are made. `None` changes nothing.
    ///
    /// # Errors
    /// Returns an error if another process uses the files, if they are damaged or were made with other settings, or if
    /// they cannot be made.
    pub fn durable_in(mut self, durable: Option<DurableReplay>) -> Result<Self, ReplayError> {
        let Some(durable) = durable else { return Ok(self) };
        let (clock, began, boot) = (&self.process.clock, self.process.clock.now(), files::boot());
        let config = table_config(&self.process.resolved.config, &self.layout);
        let index = u32::try_from(self.first_shard).expect("a run has at most 1024 shards");
        let life = new_life(clock, index).0;
        self.tables.clear();
        let mut found = Recovered::default();
        for files in durable.open(&boot, life)? {
            let (table, recovered) = Table::open(&config, files)?;
            found.rows += recovered.rows;
            found.dropped += recovered.dropped;
            self.tables.push(table);
        }
        durable.recovered(&boot)?;
        let Recovered { rows, dropped } = found;
        let seconds = clock.now().saturating_sub(began).as_secs_f64();
        info!(rows, dropped, seconds, from = %durable.folder.display(), "durable tables are open");
        Ok(self)
    }

    /// Serves until `stop` completes, and then returns the tables.
    ///
    /// # Errors
    /// Returns an error if a shard's thread cannot be started, or rows cannot be saved.
    pub async fn run(
        mut self,
        mut router: Router,
        stop: impl Future<Output = ()>,
    ) -> Result<Vec<Table>, ReplayError> {
        let shards = self.process.resolved.config.replay.shards;
        info!(at = %router.local, shards, rows = self.process.resolved.config.shard_capacity(), "replay server listens");
        let (first_shard, process) = (self.first_shard, self.process.clone());
        let saved = self.saved.take();
        if let Some(flushes) = start_flusher(&process, first_shard, shards)? {
            self.tables.iter_mut().for_each(|table| table.flush_by(flushes.clone()));
        }
        let outgoing = router.outgoing.clone();
        let ServerParts { network, shards } = self.parts(|| thread_reply(outgoing.clone()))?;
        let mut threads = Vec::new();
        for (shard, (owner, inbox)) in (first_shard..).zip(shards) {
            let name = format!("shard-{shard}");
            let thread = process.shutdown.spawn_thread(&name, move || owner.run(&inbox));
            threads.push(thread.map_err(|source| ReplayError::Thread { shard, source })?);
        }
        process.admin.readiness.ready("replay");
        let (readiness, clock) = (&process.admin.readiness, &process.clock);
        let watch = ProgressWatch::start(readiness, clock, vec![rows_stored(&network.shards)]);
        network.serve(&mut router, stop).await;
        drop(watch);
        process.admin.readiness.not_ready("replay", "stopping");
        let tables = join(&network.shards, threads, &mut router).await;
        save(saved, tables).await
    }

    /// Returns the parts of the server, which the caller runs as [`ReplayServer::run`] does. `send_reply` makes the
    /// function with which a shard replies.
    ///
    /// # Errors
    /// Returns an error if a metric is already registered with another declaration.
    pub fn parts(self, send_reply: impl Fn() -> SendReply) -> Result<ServerParts, ReplayError> {
        let Self { process, layout, tables, first_shard, .. } = self;
        let config = &process.resolved.config;
        let (mut shards, mut owners) = (Vec::new(), Vec::new());
        for (number, table) in tables.into_iter().enumerate() {
            let shard = first_shard + number;
            let (sender, inbox) = bounded(INBOX_COMMANDS);
            let owner = Shard::new(
                u16::try_from(number).expect("replay.shards is at most 256"),
                table,
                process.seeds.role("shard").index(shard as u64).rng(),
                process.clock.clone(),
                config.actor.window,
                send_reply(),
                ShardMetrics::new(&process.admin.metrics, shard)?,
            );
            let published = owner.published();
            let status = Arc::clone(&published);
            process.admin.status.register(format!("shard-{shard}"), move || status.status());
            shards.push(ShardHandle { inbox: sender, published });
            owners.push((owner, inbox));
        }
        let network = NetworkSide {
            terms: ServerTerms::new(config, &layout),
            window: config.actor.window,
            shards,
            clock: process.clock.clone(),
            metrics: ServerMetrics::new(&process.admin.metrics)?,
        };
        Ok(ServerParts { network, shards: owners })
    }
}

/// Creates the check that rows are being stored. If no rows are stored, the shards' limiters give the reason.
fn rows_stored(shards: &[ShardHandle]) -> ProgressCheck {
    let published: Vec<_> = shards.iter().map(|shard| Arc::clone(&shard.published)).collect();
    let shards = published.clone();
    let stored = move || shards.iter().map(|shard| shard.state().inserts).sum();
    ProgressCheck::new("rows", "rows stored", stored).because(move || {
        let waits = |shard: &Arc<Published>| shard.status()["limiter"]["blocked"] == "inserters";
        let why = if published.iter().any(waits) {
            "inserts wait for samples, is a learner sampling?"
        } else {
            "no actor inserts"
        };
        Some(why.into())
    })
}

/// Returns the function that sends a reply from a shard's thread. The transport never waits for a single peer. Therefore
/// the function waits only if the network side as a whole is slow.
fn thread_reply(outgoing: mpsc::Sender<(PeerId, Message)>) -> SendReply {
    Box::new(move |peer, message| {
        if outgoing.blocking_send((peer, message)).is_err() {
            debug!("reply dropped: the network side has stopped");
        }
    })
}

/// Starts the thread that flushes durable tables to the disk, and returns its queue. Returns `None` if the settings do
/// not ask for flushes.
fn start_flusher(
    process: &Process,
    first_shard: usize,
    shards: usize,
) -> Result<Option<Sender<Flush>>, ReplayError> {
    if process.resolved.config.replay.durability != Durability::Disk {
        return Ok(None);
    }
    let (sender, queue) = bounded(shards);
    let thread = process.shutdown.spawn_thread("flush", move || flush_all(&queue));
    thread.map_err(|source| ReplayError::Thread { shard: first_shard, source })?;
    Ok(Some(sender))
}

/// Flushes durable tables for the last time, and saves the tables if the settings ask for it.
async fn save(
    saved: Option<SavedReplay>,
    mut tables: Vec<Table>,
) -> Result<Vec<Table>, ReplayError> {
    let saving = tokio::task::spawn_blocking(move || -> Result<_, ReplayError> {
        tables.iter_mut().try_for_each(Table::flush_last).map_err(DurableError::from)?;
        if let Some(saved) = &saved {
            saved.save(&tables)?;
        }
        Ok(tables)
    });
    saving.await.map_err(|panic| SavedError::Io(std::io::Error::other(panic)))?
}

/// Stops the threads of the shards and returns their tables. The runtime is not blocked meanwhile, because the socket
/// runs in it, and a thread may still be sending a reply to the socket.
async fn join(
    shards: &[ShardHandle],
    threads: Vec<std::thread::JoinHandle<Table>>,
    router: &mut Router,
) -> Vec<Table> {
    router.incoming.close();
    let shards = shards.to_vec();
    let joined = tokio::task::spawn_blocking(move || {
        for shard in &shards {
            // If the inbox is full, this call waits until the shard's thread has made room. If the inbox is closed, the
            // thread has already ended.
            let _gone = shard.inbox.send(ShardCommand::Stop);
        }
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    joined.await.unwrap_or_default()
}
