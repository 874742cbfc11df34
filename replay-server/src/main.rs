//! `replay-server`: one replay server of a run.

use clap::Parser;
use common::about::Build;
use common::config::Durability;
use common::process::{self, Args, Process};
use common::run_dir::RunDir;
use common::runtime::memory;
use common::tls::Role;
use common::transport::Transport;
use common::transport::zmq::ZmqTransport;
use replay_server::index::Index;
use replay_server::saved::SavedReplay;
use replay_server::service::ReplayServer;
use replay_server::storage::files::DurableReplay;
use std::path::PathBuf;
use std::process::ExitCode;

const BUILD: Build = common::build!();

/// Serves the rows of a run: prioritized, sharded, rate-limited.
#[derive(Debug, Parser)]
#[command(name = "replay-server", version)]
struct Cli {
    #[command(flatten)]
    args: Args,
    /// Number of this server's entry in endpoints.replay, from 0; auto: the number at the end of the host's name, such
    /// as 3 on replay-3.
    #[arg(long, value_name = "N|auto", default_value = "0")]
    index: Index,
    /// Directory that keeps this server's rows between two starts (replay.durability, run.save_replay), for example the
    /// learner's.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli: Cli = process::parse("replay-server", &BUILD);
    process::run("replay-server", &BUILD, &cli.args, |process| {
        serve(process, cli.index, cli.run_dir)
    })
}

async fn serve(process: Process, index: Index, run_dir: Option<PathBuf>) -> anyhow::Result<()> {
    let resolved = &process.resolved;
    let (index, asked) = (index.number()?, index);
    let spec = resolved.env_spec()?;
    resolved.replay_fits(resolved.config.replay.shards, memory::bound())?;
    let endpoints = resolved.replay_endpoints()?;
    let Some(endpoint) = endpoints.get(index) else {
        let expected = format!("must have an entry number {index}, as --index {asked} asks for");
        return Err(resolved.invalid("endpoints.replay", expected).into());
    };
    let first_shard = index * resolved.config.replay.shards;
    let is_durable = resolved.config.replay.durability != Durability::None;
    for (key, is_set) in
        [("replay.durability", is_durable), ("run.save_replay", resolved.config.run.save_replay)]
    {
        if is_set && run_dir.is_none() {
            let expected = "needs a run directory: give this process --run-dir";
            return Err(resolved.invalid(key, expected).into());
        }
    }
    let tls = process.tls(Role::ReplayServer)?;
    let run = run_dir.as_deref().map(RunDir::at);
    let config = &resolved.config;
    let saved = run.as_ref().and_then(|run| SavedReplay::of_run(run, index, config, &spec));
    let durable = run.as_ref().and_then(|run| DurableReplay::of_run(run, index, config, &spec));
    let server = ReplayServer::new(process.clone(), &spec, first_shard)?;
    let server = server.kept_in(saved)?.durable_in(durable)?;
    let seeds = process.seeds.role("transport");
    let transport = ZmqTransport::exported(seeds, &process.admin.metrics)?.with_tls(tls);
    let at = resolved.listens_at(endpoint);
    let router = tokio::select! {
        bound = transport.bind_router(&at) => bound?,
        () = process.shutdown.cancelled() => return Ok(()),
    };
    server.run(router, process.shutdown.cancelled()).await?;
    Ok(())
}
