//! The first lines of the report: the return of the policy, the key numbers of the run, and the origin of the run.

use super::page::{escape, put};
use super::records::{Records, number};
use common::config::Resolved;
use learner::run_log::Record;

/// Writes the newest result, the key numbers and the origin of the run.
pub(super) fn write(page: &mut String, records: &Records, resolved: Option<&Resolved>) {
    put(page, format_args!("{}", headline(records)));
    put(page, format_args!("<dl class=\"numbers\">"));
    for (term, value) in numbers(records) {
        put(page, format_args!("<div><dt>{term}</dt><dd>{value}</dd></div>"));
    }
    put(page, format_args!("</dl>"));
    let origin = origin(records, resolved);
    if origin.is_empty() {
        return;
    }
    put(page, format_args!("<dl class=\"origin\">"));
    for (term, value) in origin {
        put(page, format_args!("<div><dt>{term}</dt><dd>{}</dd></div>", escape(&value)));
    }
    put(page, format_args!("</dl>"));
}

/// Returns the newest result and the policy that was evaluated, as HTML.
fn headline(records: &Records) -> String {
    let result = |record: &Record, policy: &str, when: &str| {
        let mean = number(record, "return_mean")?;
        let version = number(record, "version").map(|it| format!(", version {it:.0}"));
        let episodes = number(record, "episodes").map(|it| format!(", {it:.0} episodes"));
        let ci = number(record, "return_ci95").map(|it| format!(" ± {it:.1}"));
        Some(format!(
            "<p class=\"result\"><strong>{mean:.1}{}</strong> mean return of the {policy} policy{} \
             <small>({when}, deterministic{}; ± is the 95% confidence interval)</small></p>",
            ci.unwrap_or_default(),
            version.unwrap_or_default(),
            episodes.unwrap_or_default(),
        ))
    };
    let is_best = |record: &Record| number(record, "best") == Some(1.0);
    let of_final = records.of("final").next_back().and_then(|record| {
        result(record, if is_best(record) { "best" } else { "newest" }, "final evaluation")
    });
    let of_latest = || {
        let latest = records.of("eval").next_back()?;
        result(latest, "evaluated", "latest evaluation, the run has no final one")
    };
    let none = || "<p class=\"result\">no evaluation yet</p>".to_owned();
    of_final.or_else(of_latest).unwrap_or_else(none)
}

fn numbers(records: &Records) -> Vec<(&'static str, String)> {
    let count = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), grouped);
    let steps = records.last_of_training("env_steps");
    let updates = records.last("final", "updates").or_else(|| records.last_of_training("updates"));
    // The rates are averages over the training time, which does not include the final evaluation.
    let trained = records.last_of_training("time_s").filter(|seconds| *seconds > 0.0);
    let rate = |count: Option<f64>| Some(count? / trained?);
    let ratio = records.last("actors", "samples_per_insert");
    let mut numbers = vec![
        ("environment steps", count(steps)),
        ("training episodes", count(records.last("actors", "episodes"))),
        ("updates", count(updates)),
        ("environment steps per second, average", count(rate(steps))),
        ("updates per second, average", count(rate(updates))),
        ("samples per insert", ratio.map_or_else(|| "–".to_owned(), |it| format!("{it:.1}"))),
        ("wall-clock time", duration(records.seconds())),
    ];
    let steps_are_there = steps.is_some_and(|steps| steps > 0.0);
    numbers.retain(|(term, _)| {
        steps_are_there
            || !["environment", "training", "samples"].iter().any(|it| term.starts_with(it))
    });
    numbers
}

/// Returns the origin of the run: first the settings that distinguish the run from other runs, then all starts of the
/// run, oldest first.
fn origin(records: &Records, resolved: Option<&Resolved>) -> Vec<(String, String)> {
    let mut origin = Vec::new();
    if let Some(resolved) = resolved {
        let config = &resolved.config;
        let algorithm = format!("{:?}", config.learner.algorithm).to_uppercase();
        origin.push(("environment".to_owned(), config.cluster.env.clone()));
        origin.push(("algorithm".to_owned(), algorithm));
        origin.push(("seed".to_owned(), config.run.seed.to_string()));
    }
    let starts: Vec<_> = records.of("start").collect();
    for (number, start) in starts.iter().enumerate() {
        for (field, term) in [
            ("command", "command"),
            ("started", "started"),
            ("version", "sapex"),
            ("machine", "machine"),
        ] {
            let text = start.get(field).and_then(|value| value.as_str());
            let before =
                number.checked_sub(1).and_then(|before| starts[before].get(field)?.as_str());
            // A later start lists only the facts that differ from the start before it.
            let Some(text) = text.filter(|text| before != Some(*text)) else { continue };
            let again = if number == 0 { String::new() } else { format!(", start {}", number + 1) };
            origin.push((format!("{term}{again}"), text.to_owned()));
        }
    }
    origin
}

/// Formats a count such as 1 234 567, with narrow spaces. A fractional value below 10 gets one decimal.
fn grouped(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len() - at;
        if at > 0 && left.is_multiple_of(3) && digits.len() > 4 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a time as `8.3 s`, `12 min 5 s` or `3 h 2 min`.
fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time of a run")]
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{hours} h {minutes} min")
    } else {
        format!("{minutes} min {seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn records(values: Value) -> Records {
        let values = values.as_array().unwrap().clone();
        Records::new(values.iter().map(|value| value.as_object().unwrap().clone()).collect())
    }

    #[test]
    fn rates_are_averages_over_the_run_and_not_those_of_the_last_moment() {
        let records = records(json!([
            {"kind": "actors", "time_s": 10.0, "env_steps": 2000.0, "env_steps_per_second": 3.0},
            {"kind": "train", "time_s": 10.0, "updates": 3400.0, "updates_per_second": 18.0},
            {"kind": "final", "time_s": 40.0, "updates": 3400.0, "return_mean": 1.0},
        ]));
        let numbers = numbers(&records);
        let value =
            |term: &str| &numbers.iter().find(|(name, _)| name.starts_with(term)).unwrap().1;
        assert_eq!(value("updates per second"), "340");
        assert_eq!(value("environment steps per second"), "200");
        assert_eq!(value("wall-clock time"), "40.0 s");
    }

    #[test]
    fn the_headline_says_which_policy_it_is_of() {
        for (best, policy) in
            [(1.0, "best policy, version 2952"), (0.0, "newest policy, version 2952")]
        {
            let headline = headline(&records(json!([
                {"kind": "eval", "time_s": 1.0, "version": 3.0, "return_mean": -1.0},
                {"kind": "final", "time_s": 2.0, "version": 2952.0, "return_mean": -142.25, "return_ci95": 7.5,
                 "episodes": 20.0, "best": best},
            ])));
            assert!(headline.contains(policy) && headline.contains("± 7.5"), "{headline}");
        }
        let unfinished = headline(&records(
            json!([{"kind": "eval", "time_s": 1.0, "version": 3.0, "return_mean": -1.0}]),
        ));
        assert!(unfinished.contains("evaluated policy, version 3"), "{unfinished}");
        assert!(headline(&Records::default()).contains("no evaluation yet"));
    }

    #[test]
    fn a_second_start_says_what_is_different_about_it() {
        let records = records(json!([
            {"kind": "start", "time_s": 0.0, "command": "sapex train", "version": "1", "machine": "m"},
            {"kind": "start", "time_s": 9.0, "command": "sapex train --resume", "version": "1", "machine": "m"},
        ]));
        let expected = [
            ("command", "sapex train"),
            ("sapex", "1"),
            ("machine", "m"),
            ("command, start 2", "sapex train --resume"),
        ];
        assert_eq!(origin(&records, None), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!([0.0, 0.25, 340.4, 1234.0].map(grouped), ["0", "0.2", "340", "1234"]);
        assert_eq!(grouped(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!([8.25, 725.0, 10_920.0].map(duration), ["8.2 s", "12 min 5 s", "3 h 2 min"]);
    }
}
