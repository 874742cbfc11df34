//! `actor-node`: one actor of a run, or its evaluator.

use actor_node::actor::Share;
use actor_node::evaluation::Evaluation;
use actor_node::service::place::{ActorPlace, drawn};
use actor_node::service::{ActorNode, Evaluator, NodeError, Peers, figures};
use clap::Parser;
use common::about::Build;
use common::config::ActorNumber;
use common::ids::ActorId;
use common::process::{self, Args, Process, Usage};
use common::run_dir::process_log::ProcessLog;
use common::tls::Role;
use common::transport::zmq::ZmqTransport;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::info;

const BUILD: Build = common::build!("mujoco");

/// Steps environments for a run.
#[derive(Debug, Parser)]
#[command(name = "actor-node", version)]
struct Cli {
    #[command(flatten)]
    args: Args,
    /// Evaluate the newest policy deterministically instead of acting.
    #[arg(long)]
    evaluate: bool,
    /// The run's directory, shared with the learner. Actors and the evaluator write their figures and trajectories
    /// (run.track_trajectories) there. The evaluator also keeps the best policy there.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli: Cli = process::parse("actor-node", &BUILD);
    process::run("actor-node", &BUILD, &cli.args, |process| {
        serve(process, cli.evaluate, cli.run_dir)
    })
}

async fn serve(process: Process, evaluates: bool, run_dir: Option<PathBuf>) -> anyhow::Result<()> {
    let resolved = &process.resolved;
    let peers =
        Peers { replay: resolved.replay_endpoints()?, weights: resolved.weights_endpoint()? };
    let tls = process.tls(Role::ActorNode)?;
    let transport =
        ZmqTransport::exported(process.seeds.role("transport"), &process.admin.metrics)?
            .with_tls(tls);
    if evaluates {
        let open = |dir| ProcessLog::of_evaluator(dir, &process.clock);
        let mut log = run_dir.as_deref().map(open).transpose()?;
        let evaluator = Evaluator::new(process.clone(), run_dir.as_deref()).map_err(blame)?;
        let report = |evaluation: &Evaluation, run| {
            if let Some(log) = &mut log {
                log.record(run, &figures::of_evaluation(evaluation), &evaluation.terms);
            }
            let Evaluation { version, mean, ci95, returns, .. } = evaluation;
            info!(%version, mean, ci95, episodes = returns.len(), "evaluation");
        };
        evaluator.run(&transport, &peers, report).await.map_err(blame)?;
    } else {
        // Half of the grace period. The other half is left for everything else that must stop.
        let flush = process.resolved.config.run.grace / 2;
        let place = match process.resolved.config.actor.id {
            ActorNumber::Given(id) => ActorPlace::given(id, &process.clock),
            ActorNumber::Auto => {
                let claimed = ActorPlace::claim(&process, &transport, &peers, drawn).await;
                match claimed.map_err(blame)? {
                    Some(place) => place,
                    None => return Ok(()),
                }
            }
        };
        let ActorPlace { id, life } = place;
        let node = ActorNode::new(process.clone(), id, Share::default(), run_dir.as_deref())
            .map_err(blame)?
            .living(life);
        if let Some(dir) = &run_dir {
            let log = ProcessLog::of_actor(dir, ActorId(id), &process.clock)?;
            let (counters, clock) = (node.counters(), process.clock.clone());
            let following = figures::follow(log, counters, clock, process.shutdown.clone());
            drop(process.shutdown.spawn("figures", following));
        }
        node.run(&transport, &peers, flush).await.map_err(blame)?;
    }
    Ok(())
}

/// Converts an error. Invalid settings and invalid names are the user's errors, and end the process with a separate
/// exit status.
fn blame(error: NodeError) -> anyhow::Error {
    match error {
        NodeError::Config(error) => error.into(),
        NodeError::Env(error) if error.is_users() => Usage(error.to_string()).into(),
        error => error.into(),
    }
}
