//! [`ActorNode`]: runs the actor's role over given sockets until a stop is requested.

use super::error::NodeError;
use super::parts::{Peers, start_feed, tracked, weights_received};
use super::place::ActorPlace;
use crate::actor::{Actor, ActorSettings, Counters, Exploration, Share, TurnLog};
use crate::env::registry::Setup;
use crate::lanes::{LaneGroup, LaneGroupConfig};
use crate::metrics::{ActorMetrics, UploadMetrics};
use crate::rows::{Assembler, Recorder};
use crate::upload::{Spool, Uploader};
use crate::weights::PolicyCache;
use common::config::Config;
use common::ids::{ActorId, Incarnation};
use common::policy::arch::PolicyArch;
use common::policy::infer::PolicyNet;
use common::process::Process;
use common::recording::Header;
use common::runtime::shutdown::StopReason;
use common::spec::EnvSpec;
use common::telemetry::progress::{ProgressCheck, ProgressWatch};
use common::transport::Transport;
use common::wire::handshake::{ClientRole, Hello};
use common::wire::link::{Link, Rejected};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::info;

/// One actor that is built but not yet connected.
#[derive(Debug)]
pub struct ActorNode {
    process: Process,
    place: ActorPlace,
    actor: Actor,
    spec: EnvSpec,
    arch: PolicyArch,
}

impl ActorNode {
    /// Builds actor number `id` with its environments; `share` is its share of the run's steps. If
    /// `run.track_trajectories` is set, the actor logs every turn in the run directory.
    ///
    /// # Errors
    /// Returns an error if the environment does not exist, does not start, or has shapes that differ from `[cluster]`.
    /// Also fails if trajectories are requested and the run directory is missing or unusable.
    pub fn new(
        process: Process,
        id: u32,
        share: Share,
        run_dir: Option<&Path>,
    ) -> Result<Self, NodeError> {
        let spec = process.resolved.env_spec()?;
        let log = tracked(&process, run_dir, |dir| TurnLog::open(dir, ActorId(id)))?;
        let actor = build_actor(&process.resolved.config, &process, id, share, &spec)?;
        let actor = match log {
            Some(log) => actor.logged_by(log),
            None => actor,
        };
        let arch = process.resolved.config.policy_arch(&spec);
        let place = ActorPlace::given(id, &process.clock);
        Ok(Self { process, place, actor, spec, arch })
    }

    /// Sets the incarnation with which the actor has already claimed its number.
    pub fn living(self, life: Incarnation) -> Self {
        let place = ActorPlace { life, ..self.place };
        Self { place, ..self }
    }

    /// Returns the counters that other threads may read while the actor runs.
    pub fn counters(&self) -> Arc<Counters> {
        self.actor.counters()
    }

    /// Returns the actor itself, for callers that drive it manually.
    pub fn into_actor(self) -> Actor {
        self.actor
    }

    /// Acts until the process is asked to stop or the actor has taken its steps, and delivers the collected rows. After
    /// a stop request, delivery takes at most `flush`.
    ///
    /// # Errors
    /// Returns an error if the environment is unusable, or if a replay server rejects this process.
    pub async fn run(
        self,
        transport: &dyn Transport,
        peers: &Peers,
        flush: Duration,
    ) -> Result<(), NodeError> {
        let Self { process, place, actor, spec, arch } = self;
        let ActorPlace { id, life } = place;
        let (config, shutdown) = (&process.resolved.config, &process.shutdown);
        let name = format!("actor-{id}");
        let cache = Arc::new(PolicyCache::new());
        let spool = Arc::new(Spool::new(config.actor.spool_rows));
        let feed = start_feed(&process, transport, peers, &cache, &arch, &id.to_string())?;
        let role = ClientRole::actor(config, ActorId(id), life);
        let hello = Hello::new(role, &config.cluster, &config.item_layout(&spec));
        let mut uploads = JoinSet::new();
        for endpoint in &peers.replay {
            let link = Link::new(transport.connect_dealer(endpoint)?, endpoint.clone());
            let metrics = UploadMetrics::new(&process.admin.metrics, id)?;
            let clock = process.clock.clone();
            uploads.spawn(
                Uploader::new(link, hello.clone(), Arc::clone(&spool), clock, metrics).run(),
            );
        }
        let (cached, spooled) = (Arc::clone(&cache), Arc::clone(&spool));
        let (clock, stop) = (process.clock.clone(), shutdown.token());
        let acting = shutdown
            .spawn_thread(&name, move || actor.run(&cached, &spooled, &clock, &stop))
            .map_err(NodeError::Thread)?;
        process.admin.readiness.ready(&name);
        let acknowledged = UploadMetrics::new(&process.admin.metrics, id)?;
        let checks =
            vec![weights_received(&name, &cache), rows_stored(&name, acknowledged, &spool)];
        let watch = ProgressWatch::start(&process.admin.readiness, &process.clock, checks);
        let uploaded = drain(&mut uploads, shutdown.cancelled(), flush).await;
        drop(watch);
        process.admin.readiness.not_ready(&name, "stopping");
        spool.close();
        if let Err(error) = &uploaded {
            shutdown.request(StopReason::Requested(format!("{name}: {error}")));
        }
        let acted = tokio::task::spawn_blocking(move || acting.join()).await;
        feed.abort();
        uploaded?;
        Ok(acted.ok().and_then(Result::ok).ok_or(NodeError::Panicked("actor"))??)
    }
}

fn rows_stored(name: &str, acknowledged: UploadMetrics, spool: &Arc<Spool>) -> ProgressCheck {
    let (spool, rows) = (Arc::clone(spool), move || acknowledged.rows_acknowledged());
    ProgressCheck::new(format!("{name} rows"), "rows stored", rows).because(move || {
        let why = if spool.is_any_server_up() {
            "a replay server holds them back, or the environment takes longer"
        } else {
            "no replay server answers"
        };
        Some(why.into())
    })
}

fn build_actor(
    config: &Config,
    process: &Process,
    id: u32,
    share: Share,
    expected: &EnvSpec,
) -> Result<Actor, NodeError> {
    let seeds = process.seeds.role("actor").index(id.into());
    // A resumed run must not repeat the start states and the noise of its previous starts.
    let seeds = if share.done > 0 { seeds.role("resumed").index(share.done) } else { seeds };
    let group = LaneGroupConfig {
        env: config.cluster.env.clone(),
        setup: Setup::new(config),
        lanes: config.actor.num_envs,
        seeds: seeds.role("env"),
    };
    let started = LaneGroup::new(group, config.actor.step_deadline)?;
    let spec = started.0.spec().clone();
    check_spec(process, &spec, expected)?;
    let settings = ActorSettings {
        warmup_steps: config.actor.warmup_steps,
        insert_rows: config.actor.insert_rows,
        policy_age_max: config.actor.policy_age_max,
        share,
        exploration: Exploration::new(&config.actor),
    };
    let layout = config.item_layout(&spec);
    let assembler = || Assembler::new(&config.cluster, &layout);
    let assemblers = (0..config.actor.num_envs).map(|_| assembler()).collect();
    let net = PolicyNet::new(&config.policy_arch(&spec))?;
    let recorder = match config.actor.record.as_str() {
        "" => None,
        dir => {
            let header = Header::new(&spec, &config.cluster, net.state_dim());
            Some(Recorder::open(dir.as_ref(), ActorId(id), &header)?)
        }
    };
    let metrics = ActorMetrics::new(&process.admin.metrics, id)?;
    let rng = seeds.role("exploration").rng();
    Ok(Actor::new(started, assemblers, net, rng, settings, metrics).recorded_by(recorder))
}

/// Refuses an environment whose shapes differ from the settings, because all other processes rely on the settings.
fn check_spec(process: &Process, spec: &EnvSpec, expected: &EnvSpec) -> Result<(), NodeError> {
    for (key, same) in [
        ("cluster.obs_dim", spec.obs_dim == expected.obs_dim),
        ("cluster.obs_image", spec.obs_image == expected.obs_image),
        ("cluster.actions", spec.actions == expected.actions),
        ("cluster.act_dim", spec.act_dim == expected.act_dim),
        ("cluster.action_low", spec.action_low == expected.action_low),
        ("cluster.action_high", spec.action_high == expected.action_high),
    ] {
        if !same {
            let EnvSpec { id, obs_dim, obs_image, actions, act_dim, .. } = spec;
            let EnvSpec { action_low, action_high, .. } = spec;
            let image = obs_image.map(|image| format!(" as image {image:?}")).unwrap_or_default();
            let shapes = format!(
                "obs_dim {obs_dim}{image}, {actions:?} actions, act_dim {act_dim}, \
                 actions {action_low:?} to {action_high:?}"
            );
            return Err(process.resolved.invalid(key, format!("{id} has {shapes}")).into());
        }
    }
    Ok(())
}

/// Waits until all uploads are complete. After the process is asked to stop, waits for at most `flush` more.
async fn drain(
    uploads: &mut JoinSet<Result<(), Rejected>>,
    stopping: impl Future<Output = ()>,
    flush: Duration,
) -> Result<(), NodeError> {
    let deadline = async {
        stopping.await;
        tokio::time::sleep(flush).await;
    };
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            joined = uploads.join_next() => match joined {
                None => return Ok(()),
                Some(uploaded) => uploaded.map_err(|_| NodeError::Panicked("uploader"))??,
            },
            () = &mut deadline => {
                let servers = uploads.len();
                info!(servers, "rows were not acknowledged in time and are given up");
                uploads.shutdown().await;
                return Ok(());
            }
        }
    }
}
