//! Logs: tracing to standard output, because a container's log is what it prints.
//!
//! Text with colours on a terminal, one JSON object per line elsewhere. Messages are lowercase, facts are fields.

use serde::{Deserialize, Serialize};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use tracing::{Level, Subscriber, error, info};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The environment variable that overrides the configured filter.
pub const FILTER_VARIABLE: &str = "RUST_LOG";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text where standard output is a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people. Colours on a terminal only, and not where `NO_COLOR` is set.
    Text,
    /// One object per line: `timestamp level target threadName message` and the fields, flat.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter does not parse.
    #[error("log filter {filter:?} from {origin} is not valid, expected such as info,common=debug")]
    Filter {
        /// `RUST_LOG` or `configuration`.
        origin: &'static str,
        /// The text.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A process has one log.
    #[error("logging was already started in this process")]
    AlreadyStarted(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts logging to standard output and logs panics from now on. Call it once, first thing in `main`.
///
/// `filter` is a tracing filter such as `info,common=debug`; `RUST_LOG`, where set, replaces it.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogsError> {
    let terminal = std::io::stdout().is_terminal();
    let look = match format {
        LogFormat::Auto if terminal => Look::text(terminal),
        LogFormat::Text => Look::text(terminal),
        LogFormat::Auto | LogFormat::Json => Look::Json,
    };
    init_to(std::io::stdout, look, filter)
}

/// Like [`init`], to a writer of the caller's: a front door that draws a progress bar on the terminal, for one.
pub fn init_to<W>(writer: W, look: Look, filter: &str) -> Result<(), LogsError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let filter = choose_filter(variable.as_deref(), filter)?;
    subscriber(writer, look, filter).try_init().map_err(LogsError::AlreadyStarted)?;
    log_panics();
    Ok(())
}

/// [`LogFormat`] once it is known where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Text.
    Text {
        /// With colours.
        ansi: bool,
    },
    /// JSON.
    Json,
}

impl Look {
    /// Text, coloured on a terminal unless `NO_COLOR` asks for none.
    pub fn text(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::Text { ansi: terminal && !refused }
    }
}

/// The subscriber that [`init`] installs, for whoever installs it elsewhere (tests do, per thread).
pub fn subscriber<W>(
    writer: W,
    look: Look,
    filter: EnvFilter,
) -> Box<dyn Subscriber + Send + Sync + 'static>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A log that cannot be written must not take the process down: the complaint about it would go to standard error,
    // and panics where that is closed as well.
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(filter)
        .log_internal_errors(false);
    match look {
        Look::Text { ansi } => Box::new(lines.with_ansi(ansi).finish()),
        Look::Json => Box::new(lines.json().flatten_event(true).with_thread_names(true).finish()),
    }
}

/// The filter of the environment variable where it says something, else the configured one.
pub fn choose_filter(variable: Option<&str>, configured: &str) -> Result<EnvFilter, LogsError> {
    let (origin, filter) = match variable {
        Some(text) if !text.trim().is_empty() => (FILTER_VARIABLE, text),
        _ => ("configuration", configured),
    };
    EnvFilter::try_new(filter).map_err(|source| LogsError::Filter {
        origin,
        filter: filter.into(),
        source,
    })
}

/// The first line of every process.
pub fn banner(program: &str, version: &str) {
    info!(
        version,
        pid = std::process::id(),
        cores = std::thread::available_parallelism().map_or(1, usize::from),
        "{program} starts"
    );
}

/// Logs every panic from now on: thread, message, location, and a backtrace where `RUST_BACKTRACE` asks for one.
///
/// Where nobody listens to errors, the hook that was there before speaks instead.
pub fn log_panics() {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::enabled!(Level::ERROR) {
            log_panic(panic);
        } else {
            silent(panic);
        }
    }));
}

/// A source file from its crate's folder on. Dependencies are compiled under absolute paths, which would tell where the
/// program was built.
fn from_crate(file: &str) -> &str {
    if !file.starts_with('/') {
        return file;
    }
    let in_src = file.rfind("/src/").and_then(|src| file[..src].rfind('/'));
    in_src.or_else(|| file.rfind('/')).map_or(file, |slash| &file[slash + 1..])
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not text");
    let location = panic
        .location()
        .map(|at| format!("{}:{}:{}", from_crate(at.file()), at.line(), at.column()));
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    error!(
        thread = std::thread::current().name().unwrap_or("unnamed"),
        reason,
        location,
        backtrace = backtrace.map(tracing::field::display),
        "panic"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_source_do_not_tell_where_it_was_built() {
        for (file, shown) in [
            ("common/src/telemetry/logs.rs", "common/src/telemetry/logs.rs"),
            (
                "/somebody/.cargo/registry/src/index.crates.io-0/tokio-1.50.0/src/task/mod.rs",
                "tokio-1.50.0/src/task/mod.rs",
            ),
            ("/rustc/0123/library/core/src/option.rs", "core/src/option.rs"),
            ("/somebody/build.rs", "build.rs"),
        ] {
            assert_eq!(from_crate(file), shown);
        }
    }
}
