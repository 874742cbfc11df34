//! Logs: tracing to standard output, because container runtimes collect what a process prints there.
//!
//! The format is coloured text on a terminal, and one JSON object per line otherwise. Messages are lowercase; facts are
//! fields.

use serde::{Deserialize, Serialize};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use tracing::{Level, Subscriber, error, info};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Environment variable that overrides the configured filter.
pub const FILTER_VARIABLE: &str = "RUST_LOG";

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text if standard output is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people. Coloured only on a terminal, and only if `NO_COLOR` is not set.
    Text,
    /// One JSON object per line. Its members are `timestamp`, `level`, `target`, `threadName`, `message`, and the
    /// event's fields.
    Json,
}

/// Reason why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter cannot be parsed.
    #[error("log filter {filter:?} from {origin} is not valid, expected such as info,common=debug")]
    Filter {
        /// Source of the filter: `RUST_LOG` or `configuration`.
        origin: &'static str,
        /// Text of the filter.
        filter: String,
        /// The parser's error.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was started before; it can be started once per process.
    #[error("logging was already started in this process")]
    AlreadyStarted(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts logging to standard output, and logs panics from now on. Call it once, at the start of `main`.
///
/// `filter` is a tracing filter such as `info,common=debug`. If `RUST_LOG` is set, it replaces `filter`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogsError> {
    let terminal = std::io::stdout().is_terminal();
    let style = match format {
        LogFormat::Auto if terminal => LogStyle::text(terminal),
        LogFormat::Text => LogStyle::text(terminal),
        LogFormat::Auto | LogFormat::Json => LogStyle::Json,
    };
    init_to(std::io::stdout, style, filter)
}

/// Like [`init`], but writes to the given writer, for example one that keeps log lines and a progress bar apart.
pub fn init_to<W>(writer: W, style: LogStyle, filter: &str) -> Result<(), LogsError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let filter = choose_filter(variable.as_deref(), filter)?;
    subscriber(writer, style, filter).try_init().map_err(LogsError::AlreadyStarted)?;
    log_panics();
    Ok(())
}

/// Style of log lines. It follows from a [`LogFormat`] and the destination of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// Text.
    Text {
        /// Whether to use ANSI colours.
        ansi: bool,
    },
    /// JSON.
    Json,
}

impl LogStyle {
    /// Returns [`LogStyle::Text`], coloured on a terminal unless `NO_COLOR` is set.
    pub fn text(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::Text { ansi: terminal && !refused }
    }
}

/// Returns the subscriber that [`init`] installs, for callers that install it themselves (tests do, per thread).
pub fn subscriber<W>(
    writer: W,
    style: LogStyle,
    filter: EnvFilter,
) -> Box<dyn Subscriber + Send + Sync + 'static>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A failure to write the log must not end the process. Internal errors are off, because tracing would report such a
    // failure on standard error, and would panic if standard error is closed, too.
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(filter)
        .log_internal_errors(false);
    match style {
        LogStyle::Text { ansi } => Box::new(lines.with_ansi(ansi).finish()),
        LogStyle::Json => {
            Box::new(lines.json().flatten_event(true).with_thread_names(true).finish())
        }
    }
}

/// Returns the filter of the environment variable if it is set and not blank, otherwise the configured one.
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

/// Logs the first line of a process: program, version, process id and number of cores.
pub fn banner(program: &str, version: &str) {
    info!(
        version,
        pid = std::process::id(),
        cores = std::thread::available_parallelism().map_or(1, usize::from),
        "{program} starts"
    );
}

/// Logs every panic from now on: thread, message, location, and a backtrace if `RUST_BACKTRACE` asks for one.
///
/// If the log filter excludes errors, the previously installed panic hook runs instead.
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

/// Shortens a source path so that it begins with the crate's folder. Dependencies are compiled under absolute paths,
/// which would reveal where the program was built.
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
