//! The progress display of a training run: a line that is redrawn on a terminal, plain lines otherwise.

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

/// Minimum time between the last plain line and the final line. If the final line would follow earlier, it is omitted.
const WATCHED_AGAIN: Duration = Duration::from_millis(200);
/// Interval between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// Assumed width of a terminal, in columns, if the real width is unknown.
const COLUMNS: usize = 80;
/// Number of columns that are not available for the numbers: those of the bar and the percentage, and one column that
/// stays free, because terminals wrap a line that fills the last column.
const BAR_COLUMNS: usize = 18;
/// Window over which the pace is measured to estimate the remaining time.
const PACE_WINDOW: Duration = Duration::from_secs(30);

/// Numbers of a run at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunStats {
    /// Training time of the run, over all of its starts.
    pub elapsed: Duration,
    /// Numbers of the actors. `None` if the run learns from recorded data only.
    pub acting: Option<ActorStats>,
    /// Number of updates.
    pub updates: u64,
    /// Updates per second, measured over a recent interval.
    pub updates_per_second: f64,
    /// Mean return of the latest training episodes.
    pub train_return: Option<f64>,
    /// Mean deterministic return of the latest evaluation.
    pub eval_return: Option<f64>,
    /// Completed and total episodes of the evaluation in progress. `None` if no evaluation runs.
    pub evaluating: Option<(u64, u64)>,
}

/// Numbers of the actors in a [`RunStats`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ActorStats {
    /// Environment steps over all actors.
    pub env_steps: u64,
    /// Mean lag of the actors, in policy versions behind the newest weights.
    pub lag_versions: f64,
    /// Sampled items per environment step, over the whole run.
    pub samples_per_insert: f64,
}

impl RunStats {
    /// Returns the progress towards the limit: environment steps, or updates if there are no actors.
    fn position(&self) -> u64 {
        self.acting.map_or(self.updates, |acting| acting.env_steps)
    }

    /// Formats the numbers as one line of at most `columns` columns. If they do not all fit, the less important ones
    /// are left out.
    fn line(&self, left: Option<Duration>, columns: usize) -> String {
        let mut parts: Vec<(u32, String)> = vec![(0, format!("{:>6}", clock(self.elapsed)))];
        if let Some(left) = left {
            parts.push((4, format!(" left {:>6}", clock(left))));
        }
        if let Some(ActorStats { env_steps, .. }) = self.acting {
            parts.push((1, format!("  steps {env_steps:>7}")));
            parts.push((3, format!("  train {}", number(self.train_return))));
        }
        parts.push((2, format!("  eval {}", number(self.eval_return))));
        if let Some((done, total)) = self.evaluating {
            parts.push((5, format!(" ({done}/{total})")));
        }
        parts.push((6, format!("  updates {:>7}", self.updates)));
        parts.push((7, format!(" {:>6.0}/s", self.updates_per_second)));
        if let Some(ActorStats { lag_versions, samples_per_insert, .. }) = self.acting {
            parts.push((8, format!("  lag {lag_versions:>4.1} versions")));
            parts.push((9, format!("  samples/insert {samples_per_insert:>5.1}")));
        }
        let width = |parts: &[(u32, String)]| -> usize {
            parts.iter().map(|(_, text)| text.chars().count()).sum()
        };
        while parts.len() > 1 && width(&parts) > columns {
            let last = parts.iter().map(|(rank, _)| *rank).max().unwrap_or(0);
            parts.retain(|(rank, _)| *rank < last);
        }
        parts.into_iter().map(|(_, text)| text).collect()
    }
}

/// Formats a time as `8.3s`, `12m05s`, `3h02m` or `4d03h`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", time.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| format!("{:>7}", "-"), |value| format!("{value:>7.1}"))
}

/// Measures the pace of a run to estimate its remaining time.
#[derive(Debug, Default)]
struct Pace {
    /// Pairs of time and position, oldest first.
    seen: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Returns the time until `limit` at the recent pace. `None` if the run has no limit or the pace is not known yet.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn left(&mut self, now: &RunStats, limit: u64) -> Option<Duration> {
        let (time, position) = (now.elapsed, now.position());
        let newest = self.seen.back().map(|(seen, _)| *seen);
        if newest.is_none_or(|newest| time >= newest + PACE_WINDOW / 30) {
            self.seen.push_back((time, position));
        }
        // Among the pairs that are at least one window old, keeps only the newest one.
        while self.seen.get(1).is_some_and(|(seen, _)| *seen + PACE_WINDOW <= time) {
            self.seen.pop_front();
        }
        let &(began, start) = self.seen.front()?;
        if limit == 0 || position <= start {
            return None;
        }
        let pace = (position - start) as f64 / time.saturating_sub(began).as_secs_f64();
        Duration::try_from_secs_f64(limit.saturating_sub(position) as f64 / pace).ok()
    }
}

/// Shows the numbers of a run while it trains.
#[derive(Debug)]
pub struct ProgressDisplay {
    /// Limit in environment steps, or in updates if there are no actors. 0 means no limit.
    limit: u64,
    pace: Pace,
    view: View,
}

/// The kind of display.
#[derive(Debug)]
enum View {
    /// A bar that is redrawn in place.
    Bar(ProgressBar),
    /// Lines that are printed at intervals.
    Plain {
        /// Time at which the next line is due.
        due: Duration,
    },
}

impl ProgressDisplay {
    /// Creates the display. On a terminal, the display is a bar that is full at `limit`, or a line without a bar if
    /// `limit` is 0. `limit` is in environment steps, or in updates if there are no actors. Without a terminal, the
    /// display prints plain lines.
    pub fn new(terminal: bool, limit: u64) -> Self {
        let view = if terminal {
            View::Bar(bar(limit, ProgressDrawTarget::stdout()))
        } else {
            View::Plain { due: Duration::ZERO }
        };
        Self { limit, pace: Pace::default(), view }
    }

    /// Shows the numbers, if an update of the display is due.
    pub fn show(&mut self, now: &RunStats) {
        let left = self.pace.left(now, self.limit);
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_position(now.position());
                bar.set_message(
                    now.line(left, columns(&Term::stdout()).saturating_sub(BAR_COLUMNS)),
                );
            }
            View::Plain { due } if now.elapsed >= *due => {
                *due = now.elapsed + PLAIN_EVERY;
                say(&now.line(left, COLUMNS));
            }
            View::Plain { .. } => {}
        }
    }

    /// Shows the final numbers and leaves the line on the screen. If the run is `complete` before its limit, because it
    /// is solved, the bar is full and no remaining time is shown.
    pub fn end(&mut self, now: &RunStats, complete: bool) {
        if let View::Plain { due } = &mut self.view
            && now.elapsed + PLAIN_EVERY > *due + WATCHED_AGAIN
        {
            *due = Duration::ZERO;
        }
        if complete {
            self.limit = self.limit.min(now.position());
        }
        if let View::Bar(bar) = &self.view
            && complete
            && self.limit > 0
        {
            bar.set_length(self.limit);
        }
        self.show(now);
        if let View::Bar(bar) = &self.view {
            bar.abandon();
        }
    }
}

fn bar(limit: u64, target: ProgressDrawTarget) -> ProgressBar {
    let (bar, template) = if limit == 0 {
        (ProgressBar::with_draw_target(None, target), "{spinner} {msg}")
    } else {
        (ProgressBar::with_draw_target(Some(limit), target), "{bar:10} {percent:>3}% {msg}")
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
}

/// Returns the width of the terminal in columns.
fn columns(terminal: &Term) -> usize {
    terminal.size_checked().map_or(COLUMNS, |(_, columns)| usize::from(columns))
}

/// Prints one line to standard output. A closed pipe is not an error: the reader may have read enough, as in
/// `sapex presets | head -1`.
///
/// # Panics
/// Panics if the line cannot be written for another reason, such as a full disk.
pub fn say(line: &str) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            panic!("standard output cannot be written: {error}")
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal of 80 columns that records each piece of text written to it.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<Vec<String>>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.to_owned());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn snapshot(seconds: u64, env_steps: u64) -> RunStats {
        let acting = ActorStats { env_steps, lag_versions: 1.25, samples_per_insert: 128.0 };
        RunStats {
            elapsed: Duration::from_secs(seconds),
            acting: Some(acting),
            updates: 7500,
            updates_per_second: 6531.0,
            train_return: Some(-210.44),
            eval_return: Some(-142.36),
            evaluating: None,
        }
    }

    #[test]
    fn a_line_fits_its_terminal_and_keeps_what_matters_most() {
        let now = snapshot(83, 8080);
        let left = Some(Duration::from_secs(130));
        for columns in [20, 40, 62, 80, 200] {
            let line = now.line(left, columns);
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
        assert_eq!(
            now.line(left, 62),
            " 1m23s left  2m10s  steps    8080  train  -210.4  eval  -142.4"
        );
        assert!(
            now.line(left, COLUMNS).ends_with("  updates    7500"),
            "{}",
            now.line(left, COLUMNS)
        );
        assert!(now.line(left, 200).ends_with("samples/insert 128.0"));
        let evaluating = RunStats { evaluating: Some((3, 10)), ..now };
        assert!(
            evaluating.line(left, 80).ends_with("  eval  -142.4 (3/10)"),
            "it says that it evaluates"
        );
        assert_eq!(now.line(left, 1), " 1m23s", "the time is always there");
        let offline = RunStats { acting: None, ..now };
        assert!(!offline.line(None, 200).contains("steps"), "nobody acts");
    }

    #[test]
    fn the_time_left_follows_the_pace_of_late() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(&snapshot(0, 0), 10_000), None, "nothing is known yet");
        assert_eq!(pace.left(&snapshot(10, 1000), 10_000), Some(Duration::from_secs(90)));
        for second in 11..=60 {
            let left = pace.left(&snapshot(second, 1000 + 200 * (second - 10)), 21_000);
            if second == 60 {
                assert_eq!(left, Some(Duration::from_secs(50)), "200 a second lately");
            }
        }
        assert_eq!(pace.left(&snapshot(61, 11_200), 0), None, "there is no end");
        let mut resumed = Pace::default();
        resumed.left(&snapshot(0, 5000), 10_000);
        let left = resumed.left(&snapshot(10, 6000), 10_000);
        assert_eq!(left, Some(Duration::from_secs(40)), "what was done before took no time");
    }

    #[test]
    fn a_run_that_is_solved_ends_with_a_full_bar_and_one_that_is_stopped_does_not() {
        for (complete, percent) in [(true, "100%"), (false, " 40%")] {
            let screen = Screen::default();
            let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
            let view = View::Bar(bar(20_000, target));
            let mut progress = ProgressDisplay { limit: 20_000, pace: Pace::default(), view };
            progress.show(&snapshot(1, 4000));
            progress.end(&snapshot(2, 8000), complete);
            let shown = screen.0.lock().unwrap().clone();
            let last = shown.iter().rev().find(|text| text.contains("steps")).unwrap();
            assert!(last.contains(percent), "{shown:?}");
            assert!(last.trim_end().chars().count() < 80, "{shown:?}");
        }
    }

    #[test]
    fn times_are_short() {
        let texts = [8.25, 725.0, 10_930.0, 360_000.0].map(|s| clock(Duration::from_secs_f64(s)));
        assert_eq!(texts, ["8.2s", "12m05s", "3h02m", "4d04h"]);
    }
}
