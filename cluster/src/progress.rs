//! What a person sees while a run trains: a live line on a terminal, plain lines otherwise.

use actor_node::evaluation::Evaluation;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

/// The last numbers are not said twice within this time.
const WATCHED_AGAIN: Duration = Duration::from_millis(200);
/// Plain lines come this often.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// The numbers of one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Time since the run began.
    pub elapsed: Duration,
    /// What the actors do; `None` where a run learns from recorded data alone.
    pub acting: Option<Acting>,
    /// Updates.
    pub updates: u64,
    /// Updates per second, lately.
    pub updates_per_second: f64,
    /// Mean deterministic return of the latest evaluation.
    pub eval_return: Option<f64>,
}

/// The actors' part of a [`Snapshot`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Acting {
    /// Environment steps over all actors.
    pub env_steps: u64,
    /// Policy versions between acting and the newest weights, for the items sampled lately.
    pub lag_versions: f64,
    /// Samples per inserted row, over the run.
    pub samples_per_insert: f64,
}

impl Snapshot {
    /// What an evaluation adds to the run's log.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn evaluation_record(&self, evaluation: &Evaluation) -> Vec<(&'static str, f64)> {
        let returns = &evaluation.returns;
        let env_steps = self.acting.map_or(0, |acting| acting.env_steps);
        vec![
            ("env_steps", env_steps as f64),
            ("updates", self.updates as f64),
            ("version", evaluation.version.0 as f64),
            ("episodes", returns.len() as f64),
            ("return_mean", evaluation.mean),
            ("return_std", evaluation.std),
            ("return_ci95", evaluation.ci95),
            ("return_min", returns.iter().copied().fold(f64::INFINITY, f64::min)),
            ("return_max", returns.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        ]
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let eval =
            self.eval_return.map_or_else(|| "     -".to_owned(), |mean| format!("{mean:>6.1}"));
        write!(f, "{:>5.1}s  ", self.elapsed.as_secs_f64())?;
        if let Some(Acting { env_steps, .. }) = self.acting {
            write!(f, "steps {env_steps:>7}  ")?;
        }
        let (updates, per_second) = (self.updates, self.updates_per_second);
        write!(f, "updates {updates:>7} ({per_second:>6.0}/s)  return {eval}")?;
        let Some(Acting { lag_versions, samples_per_insert, .. }) = self.acting else {
            return Ok(());
        };
        write!(f, "  lag {lag_versions:>5.1} versions  samples/insert {samples_per_insert:>5.1}")
    }
}

/// Where the numbers go.
#[derive(Debug)]
pub enum Progress {
    /// A bar that is redrawn in place.
    Bar(ProgressBar),
    /// A line now and then.
    Plain {
        /// When the next is due.
        due: Duration,
    },
}

impl Progress {
    /// A bar up to `limit` steps, or updates where nobody acts, on a terminal (a limit of 0: a line that is redrawn), plain
    /// lines otherwise.
    pub fn new(terminal: bool, limit: u64) -> Self {
        if !terminal {
            return Self::Plain { due: Duration::ZERO };
        }
        let (bar, template) = if limit == 0 {
            (ProgressBar::new_spinner(), "{spinner} {msg}")
        } else {
            (ProgressBar::new(limit), "{bar:20} {percent:>3}%  {msg}")
        };
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        Self::Bar(bar.with_style(style))
    }

    /// Shows the numbers, if it is time.
    pub fn show(&mut self, now: &Snapshot) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(now.acting.map_or(now.updates, |acting| acting.env_steps));
                bar.set_message(now.to_string());
            }
            Self::Plain { due } if now.elapsed >= *due => {
                *due = now.elapsed + PLAIN_EVERY;
                say(&now.to_string());
            }
            Self::Plain { .. } => {}
        }
    }

    /// Shows the last numbers and leaves the line standing.
    pub fn end(&mut self, now: &Snapshot) {
        if let Self::Plain { due } = self
            && now.elapsed + PLAIN_EVERY > *due + WATCHED_AGAIN
        {
            *due = Duration::ZERO;
        }
        self.show(now);
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}

/// One line on standard output: what this program is for. A reader that has seen enough (`sapex presets | head -1`) is no
/// reason to stop what is being done.
///
/// # Panics
/// If the line cannot be written for another reason, such as a full disk.
pub fn say(line: &str) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            panic!("standard output cannot be written: {error}")
        }
        _ => {}
    }
}
