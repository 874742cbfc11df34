//! [`ReplayServer`]: a replay server as a function of a socket and a stop signal.

use crate::metrics::{ServerMetrics, ShardMetrics};
use crate::rate_limiter::RateLimiterConfig;
use crate::saved::{SavedError, SavedReplay};
use crate::selector::{PrioritizedConfig, SelectorConfig};
use crate::server::{NetworkSide, ShardHandle};
use crate::shard::{Published, Shard, ShardCommand};
use crate::table::{Table, TableConfig, TableError};
use common::config::{Config, SelectorKind};
use common::process::Process;
use common::spec::{EnvSpec, ItemLayout};
use common::telemetry::metrics::MetricsError;
use common::telemetry::progress::{ProgressCheck, ProgressWatch};
use common::transport::{Message, PeerId, Router};
use common::wire::handshake::ServerTerms;
use crossbeam::channel::{Receiver, bounded};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::info;

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
    /// The operating system cannot start a thread.
    #[error("start shard {shard}: {source}")]
    Thread {
        /// Number of the shard.
        shard: usize,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// Returns the settings of one shard's table. Row counts in the configuration are totals over all shards of the run.
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
        // Use whole batches, so that the run can continue with a single remaining shard.
        sample_share: config.training.batch_size as f64,
    };
    TableConfig { layout: layout.clone(), capacity: config.shard_capacity(), selector, limiter }
}

/// Shards that are built and not yet serving.
#[derive(Debug)]
pub struct ReplayServer {
    process: Process,
    layout: ItemLayout,
    tables: Vec<Table>,
    first_shard: usize,
    /// Where rows are saved; `None` if they are lost when the process ends.
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

    /// Loads the rows that were saved there, and saves the rows of this server when it stops.
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

    /// Serves until `stop` completes, and then returns the tables.
    ///
    /// # Errors
    /// Returns an error if a shard's thread cannot be started, or rows cannot be saved.
    pub async fn run(
        self,
        mut router: Router,
        stop: impl Future<Output = ()>,
    ) -> Result<Vec<Table>, ReplayError> {
        let Self { process, layout, tables, first_shard, saved } = self;
        let config = &process.resolved.config;
        info!(at = %router.local, shards = tables.len(), rows = config.shard_capacity(), "replay server listens");
        let mut shards = Vec::new();
        let mut threads = Vec::new();
        for (number, table) in tables.into_iter().enumerate() {
            let (sender, inbox) = bounded(INBOX_COMMANDS);
            let published = Arc::new(Published::default());
            let shard = first_shard + number;
            let owner = build_shard(
                &process,
                number,
                shard,
                table,
                layout.row_bytes,
                &router,
                inbox,
                &published,
            )?;
            let name = format!("shard-{shard}");
            let thread = process.shutdown.spawn_thread(&name, move || owner.run());
            threads.push(thread.map_err(|source| ReplayError::Thread { shard, source })?);
            let status = Arc::clone(&published);
            process.admin.status.register(name, move || status.status());
            shards.push(ShardHandle { inbox: sender, published });
        }
        let network = NetworkSide {
            terms: ServerTerms::new(config, &layout),
            window: config.actor.window,
            shards: shards.clone(),
            clock: process.clock.clone(),
            metrics: ServerMetrics::new(&process.admin.metrics)?,
        };
        process.admin.readiness.ready("replay");
        let (readiness, clock) = (&process.admin.readiness, &process.clock);
        let watch = ProgressWatch::start(readiness, clock, vec![rows_stored(&shards)]);
        network.serve(&mut router, stop).await;
        drop(watch);
        process.admin.readiness.not_ready("replay", "stopping");
        let tables = join(&shards, threads, &mut router).await;
        save(saved, tables).await
    }
}

/// Watches that rows are stored. If they are not, the limiters of the shards tell the reason.
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

#[expect(clippy::too_many_arguments, reason = "the parts of a shard, each from another place")]
fn build_shard(
    process: &Process,
    number: usize,
    shard: usize,
    table: Table,
    row_bytes: usize,
    router: &Router,
    inbox: Receiver<ShardCommand>,
    published: &Arc<Published>,
) -> Result<Shard, ReplayError> {
    Ok(Shard {
        number: u16::try_from(number).expect("replay.shards is at most 256"),
        table,
        row_bytes,
        ess_due: Duration::ZERO,
        rng: process.seeds.role("shard").index(shard as u64).rng(),
        clock: process.clock.clone(),
        window: process.resolved.config.actor.window,
        inbox,
        replies: replies(router),
        published: Arc::clone(published),
        metrics: ShardMetrics::new(&process.admin.metrics, shard)?,
    })
}

fn replies(router: &Router) -> mpsc::Sender<(PeerId, Message)> {
    router.outgoing.clone()
}

/// Saves the tables if the settings ask for it.
async fn save(saved: Option<SavedReplay>, tables: Vec<Table>) -> Result<Vec<Table>, ReplayError> {
    let Some(saved) = saved else { return Ok(tables) };
    let saving = tokio::task::spawn_blocking(move || saved.save(&tables).map(|()| tables));
    let saved = saving.await.map_err(|panic| SavedError::Io(std::io::Error::other(panic)))?;
    Ok(saved?)
}

/// Stops the threads without blocking the runtime: a thread may be waiting to send a reply to the socket, which is
/// still running.
async fn join(
    shards: &[ShardHandle],
    threads: Vec<std::thread::JoinHandle<Table>>,
    router: &mut Router,
) -> Vec<Table> {
    router.incoming.close();
    let shards = shards.to_vec();
    let joined = tokio::task::spawn_blocking(move || {
        for shard in &shards {
            // If the inbox is full, its thread empties it. If it is closed, the thread has already ended.
            let _gone = shard.inbox.send(ShardCommand::Stop);
        }
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    joined.await.unwrap_or_default()
}
