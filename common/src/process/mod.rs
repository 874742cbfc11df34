//! Startup and shutdown code of every Sapex program: arguments, configuration, logs, the admin port, signals, and the
//! drain at the end.
//!
//! - `args`: the arguments that all programs share ([`Args`]).
//! - `health`: `PROGRAM health`, which sends a request to the admin port ([`Health`]).
//!
//! A `main` has four steps: `Args::load` → [`Process::start`] → run the role → [`Process::finish`].

mod args;
mod health;

use crate::about::{self, Build};
use crate::admin::{self, Admin, BindError, Writes};
use crate::config::{ConfigError, Resolved};
use crate::run_dir::RunDirError;
use crate::runtime::clock::Clock;
use crate::runtime::seed::SeedTree;
use crate::runtime::shutdown::{ListenError, Shutdown};
use crate::telemetry::logs::{self, LogsError};
use crate::telemetry::metrics::{Metrics, MetricsError};
use crate::tls::{Role, Tls};
use std::net::SocketAddr;
use std::process::ExitCode;
use tracing::{error, info};

pub use args::Args;
pub use health::{Health, HealthError};

/// Exit status if a setting or an argument is wrong.
pub const EXIT_CONFIG: u8 = 2;
/// Exit status of all other failures.
pub const EXIT_FAILURE: u8 = 1;

/// An invalid request of the user; the text names the problem.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Returns [`EXIT_CONFIG`] if a setting or an argument caused the error, else [`EXIT_FAILURE`].
pub fn status(error: &anyhow::Error) -> u8 {
    let is_users = |error: &(dyn std::error::Error + 'static)| {
        error.is::<ConfigError>()
            || error.is::<Usage>()
            || matches!(error.downcast_ref(), Some(HealthError::Config(_)))
            || matches!(error.downcast_ref(), Some(StartError::Token(_)))
            || error.downcast_ref::<RunDirError>().is_some_and(RunDirError::is_users)
    };
    if error.chain().any(is_users) { EXIT_CONFIG } else { EXIT_FAILURE }
}

/// Reason why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be started.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// The signal handlers cannot be installed.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// `telemetry.admin` cannot be bound.
    #[error("telemetry.admin")]
    Admin(#[from] BindError),
    /// A metric cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// `telemetry.admin_token_file` must name a file with a valid secret, but does not.
    #[error(transparent)]
    Token(#[from] ConfigError),
}

/// The settings and the process-wide services that every role receives. Clones share the services.
#[derive(Debug, Clone)]
pub struct Process {
    /// All settings, with their origins.
    pub resolved: Resolved,
    /// Source of the current time.
    pub clock: Clock,
    /// Root of all random number generators.
    pub seeds: SeedTree,
    /// Shutdown signal of the process.
    pub shutdown: Shutdown,
    /// Metrics, readiness and status.
    pub admin: Admin,
    /// Address of the admin port. `None` if the process has none.
    pub admin_address: Option<SocketAddr>,
}

impl Process {
    /// Creates a process without logs, signals and ports, for tests and for roles inside another program.
    pub fn quiet(resolved: Resolved) -> Self {
        let seeds = SeedTree::new(resolved.config.run.seed);
        let (clock, shutdown) = (Clock::system(), Shutdown::new());
        let metrics = Metrics::of_run(&resolved.config.run.name);
        let writes = Writes::of(&resolved.config.telemetry);
        let admin = Admin { metrics, writes, ..Admin::default() };
        Self { resolved, clock, seeds, shutdown, admin, admin_address: None }
    }

    /// Starts logs, signals and the admin port. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the log, the signal handlers, the metrics or the admin port cannot be started, or if the
    /// secret for `POST /config` is missing.
    pub async fn start(
        program: &str,
        build: &Build,
        resolved: Resolved,
    ) -> Result<Self, StartError> {
        let telemetry = &resolved.config.telemetry;
        logs::init(telemetry.log_format, &telemetry.log_filter)?;
        logs::banner(program, &build.to_string());
        Self::serve(program, build, resolved).await
    }

    /// Starts everything that [`Process::start`] starts except the log, for a program that has started its own log.
    ///
    /// # Errors
    /// Returns the same errors as [`Process::start`], except those of the log.
    pub async fn serve(
        program: &str,
        build: &Build,
        resolved: Resolved,
    ) -> Result<Self, StartError> {
        let mut process = Self::quiet(resolved);
        process.shutdown.listen(process.clock.clone(), process.resolved.config.run.grace)?;
        process.admin.metrics.register_process()?;
        process.admin.metrics.register_build(program, build)?;
        let listener = admin::bind(&process.resolved.config.telemetry.admin).await?;
        process.admin_address = listener.local_addr().ok();
        process.check_writes()?;
        let stopped = process.shutdown.clone();
        tokio::spawn(admin::serve(listener, process.admin.clone(), async move {
            let mut phases = stopped.phases();
            // An error means that the shutdown handle was dropped because the process ends.
            let _ended =
                phases.wait_for(|phase| *phase == crate::runtime::shutdown::Phase::Stopped).await;
        }));
        Ok(process)
    }

    /// Loads the certificates of `[tls]` for this role, and follows their changes until the process stops. Returns
    /// `None` if `[tls]` is not set. Must be called inside a tokio runtime.
    ///
    /// Returns an error for the setting if [`Tls::load`] fails. Also returns an error if the process already has a
    /// metric of the same name as a TLS metric.
    pub fn tls(&self, role: Role) -> anyhow::Result<Option<Tls>> {
        let resolved = &self.resolved;
        let loaded = Tls::load(&resolved.config.tls, role)
            .map_err(|error| resolved.invalid(error.key, error.problem))?;
        if let Some(tls) = &loaded {
            tls.start(&self.admin.metrics, &self.shutdown)?;
        }
        Ok(loaded)
    }

    /// Checks that `POST /config` requires a secret if other machines can reach the admin port, and that the file of
    /// the secret is readable.
    fn check_writes(&self) -> Result<(), ConfigError> {
        let is_reachable = self.admin_address.is_none_or(|address| !address.ip().is_loopback());
        let expected = match &self.admin.writes {
            Writes::Open if is_reachable => format!(
                "must name a file with a secret: telemetry.admin_writes is on, and {} can be reached from other machines",
                self.resolved.config.telemetry.admin
            ),
            Writes::WithToken(file) => match file.read() {
                Ok(_) => return Ok(()),
                Err(error) => format!("must name a file with a secret: {error}"),
            },
            Writes::Off | Writes::Open => return Ok(()),
        };
        Err(self.resolved.invalid("telemetry.admin_token_file", expected))
    }

    /// Drains within `run.grace` and turns the role's result into an exit status: 0 after an orderly stop, [`status`]
    /// after an error, 1 if a task did not stop in time.
    pub async fn finish(self, result: anyhow::Result<()>) -> ExitCode {
        // Log the error before the drain, because the watchdog may end the process during the drain.
        let failed = result.err().map(|error| {
            error!("{error:#}");
            status(&error)
        });
        let late = self.shutdown.drain(self.resolved.config.run.grace).await;
        match failed {
            Some(status) => ExitCode::from(status),
            None if late.is_empty() => {
                info!("stopped");
                ExitCode::SUCCESS
            }
            None => ExitCode::from(EXIT_FAILURE),
        }
    }
}

/// Parses the arguments of a role's program. If they are `PROGRAM health`, runs this command and exits the process.
pub fn parse<A: clap::Parser>(program: &str, build: &Build) -> A {
    let health = <Health as clap::Args>::augment_args(
        clap::Command::new("health").about("Ask this program's admin port whether it is well"),
    );
    let matches = about::arguments::<A>(build)
        .subcommand(health)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .get_matches();
    let parsed = match matches.subcommand() {
        Some((_, matches)) => <Health as clap::FromArgMatches>::from_arg_matches(matches)
            .map(|health| std::process::exit(answer(program, &health).into())),
        None => A::from_arg_matches(&matches),
    };
    parsed.unwrap_or_else(|error| error.exit())
}

/// Runs `PROGRAM health` and returns the exit status.
fn answer(program: &str, health: &Health) -> u8 {
    match health.ask() {
        Ok(()) => 0,
        Err(error) => {
            let error = anyhow::Error::from(error);
            complain(program, &error);
            status(&error)
        }
    }
}

/// Implements the `main` of a role: loads the settings, runs `role` on a tokio runtime, and returns the exit status.
///
/// Wrong settings end with status 2 and one line on standard error, before any file or socket is touched. Later
/// failures have the exit status of [`status`].
pub fn run<F, R>(program: &str, build: &Build, args: &Args, role: F) -> ExitCode
where
    F: FnOnce(Process) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let resolved = match args.load(Vec::new()) {
        Ok(resolved) => resolved,
        Err(error) => return refuse(program, &error.into()),
    };
    if args.print_config {
        return print(&resolved.render());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(program, &error.into()),
    };
    let code = runtime.block_on(async {
        match Process::start(program, build, resolved).await {
            Ok(process) => {
                let result = role(process.clone()).await;
                process.finish(result).await
            }
            Err(error) => refuse(program, &error.into()),
        }
    });
    // Do not wait for the runtime: a blocking call that hangs must not keep the process alive. The drain has already
    // waited for all tracked tasks.
    runtime.shutdown_background();
    code
}

fn refuse(program: &str, error: &anyhow::Error) -> ExitCode {
    complain(program, error);
    ExitCode::from(status(error))
}

#[expect(
    clippy::print_stderr,
    reason = "there may be no log yet, and this is for the person who typed the command"
)]
fn complain(program: &str, error: &anyhow::Error) {
    eprintln!("{program}: {error:#}");
}

#[expect(clippy::print_stdout, reason = "what --print-config is for")]
fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}
