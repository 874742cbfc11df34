//! `report.html`: what happened in a run, on one page that needs nothing else.

mod svg;

use crate::run_dir::RunDir;
use fs_err as fs;
use learner::run_log::{self, Record};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use svg::{Chart, Series};

const STYLE: &str = include_str!("style.css");

/// Writes `report.html` into the run directory, whole or not at all, and returns its path.
///
/// # Errors
/// The directory holds no run, its log is damaged, or the page cannot be written.
pub fn write(run_dir: &Path) -> anyhow::Result<PathBuf> {
    let run = RunDir::open(run_dir)?;
    let records = continuous(run_log::read(run_dir)?);
    let page = render(&run_dir.display().to_string(), &run.config()?.to_toml(), &records);
    let (partial, target) = (run_dir.join(".report.html.partial"), run_dir.join("report.html"));
    fs::write(&partial, page)?;
    fs::rename(&partial, &target)?;
    Ok(target)
}

/// A resumed run starts its clock anew: later stretches are put behind the earlier ones.
fn continuous(mut records: Vec<Record>) -> Vec<Record> {
    let (mut shift, mut last) = (0.0, 0.0);
    for record in &mut records {
        let Some(time) = number(record, "time_s") else { continue };
        if time + shift < last - 1.0 {
            shift = last - time;
        }
        last = time + shift;
        record.insert("time_s".into(), last.into());
    }
    records
}

fn number(record: &Record, field: &str) -> Option<f64> {
    record.get(field)?.as_f64()
}

/// (x, y) of all records of a kind that have both.
fn points(records: &[Record], kind: &str, x: &str, y: &str) -> Vec<(f64, f64)> {
    let of_kind =
        records.iter().filter(|record| record.get("kind").is_some_and(|value| value == kind));
    of_kind.filter_map(|record| Some((number(record, x)?, number(record, y)?))).collect()
}

fn render(name: &str, config: &str, records: &[Record]) -> String {
    let mut page = String::new();
    let title = escape(name);
    put(
        &mut page,
        format_args!("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">"),
    );
    put(
        &mut page,
        format_args!("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"),
    );
    put(
        &mut page,
        format_args!(
            "<title>{title} · Sapex</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>"
        ),
    );
    put(&mut page, format_args!("<h1>{title}</h1>"));
    facts(&mut page, records);
    for (heading, chart) in charts(records) {
        let legend = chart
            .series
            .iter()
            .filter(|series| !series.name.is_empty() && !series.points.is_empty());
        let legend: String = legend
            .map(|s| format!("<span class=\"{}\">{}</span>", s.class, escape(s.name)))
            .collect();
        let drawn = chart.render().unwrap_or_else(|| "<p class=\"none\">no data</p>".to_owned());
        put(
            &mut page,
            format_args!(
                "<section>\n<h2>{heading}</h2>\n<p class=\"legend\">{legend}</p>\n{drawn}\n</section>"
            ),
        );
    }
    let config = escape(config);
    put(
        &mut page,
        format_args!("<details>\n<summary>Settings</summary>\n<pre>{config}</pre>\n</details>"),
    );
    put(&mut page, format_args!("</main>\n</body>\n</html>"));
    page
}

/// The numbers that people look for first.
fn facts(page: &mut String, records: &[Record]) {
    let last = |kind: &str, field: &str| {
        points(records, kind, "time_s", field).last().map(|(_, value)| *value)
    };
    let whole = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.0}"));
    let kind = if last("final", "return_mean").is_some() { "final" } else { "eval" };
    let result =
        match (last(kind, "return_mean"), last(kind, "return_ci95"), last(kind, "episodes")) {
            (Some(mean), Some(ci), Some(n)) => {
                format!("{mean:.1} ± {ci:.1} <small>95%, {n:.0} episodes</small>")
            }
            _ => "no data".to_owned(),
        };
    let seconds = records.iter().filter_map(|record| number(record, "time_s")).fold(0.0, f64::max);
    let ratio = last("actors", "samples_per_insert")
        .map_or("–".to_owned(), |ratio| format!("{ratio:.1}"));
    put(page, format_args!("<dl>"));
    for (term, value) in [
        ("deterministic return", result),
        ("environment steps", whole(last("actors", "env_steps"))),
        ("updates", whole(last("final", "updates").or_else(|| last("train", "updates")))),
        ("updates per second", whole(last("train", "updates_per_second"))),
        ("samples per insert", ratio),
        ("wall clock", format!("{seconds:.1} s")),
    ] {
        put(page, format_args!("<div><dt>{term}</dt><dd>{value}</dd></div>"));
    }
    put(page, format_args!("</dl>"));
}

fn charts(records: &[Record]) -> Vec<(&'static str, Chart)> {
    let series = |name, class, kind: &str, x: &str, y: &str| Series {
        name,
        class,
        points: points(records, kind, x, y),
        band: Vec::new(),
    };
    let train = |name, class, field: &str| series(name, class, "train", "updates", field);
    let actors = |name, class, field: &str| series(name, class, "actors", "time_s", field);
    let mut evaluations = series("evaluation ± 95%", "a", "eval", "env_steps", "return_mean");
    let band = points(records, "eval", "env_steps", "return_ci95");
    evaluations.band = band.into_iter().map(|(_, half)| half).collect();
    let chart = |x_label, series, log_if_wide| Chart { x_label, series, log_if_wide };
    let training = series("training episodes", "faint", "actors", "env_steps", "return_mean");
    let critics =
        vec![train("critic 1", "a", "critic1_loss"), train("critic 2", "b", "critic2_loss")];
    vec![
        ("Return", chart("environment steps", vec![training, evaluations], false)),
        ("Critic losses", chart("updates", critics, true)),
        ("Actor loss", chart("updates", vec![train("actor", "a", "actor_loss")], false)),
        ("Temperature", chart("updates", vec![train("alpha", "a", "alpha")], true)),
        ("Policy entropy, nats", chart("updates", vec![train("entropy", "a", "entropy")], false)),
        (
            "Policy lag of the actors, versions",
            chart("seconds", vec![actors("lag", "a", "lag_versions")], false),
        ),
        (
            "Environment steps per second",
            chart("seconds", vec![actors("all actors", "a", "env_steps_per_second")], false),
        ),
        (
            "Updates per second",
            chart("updates", vec![train("learner", "a", "updates_per_second")], false),
        ),
        (
            "Share of time waiting for batches",
            chart("updates", vec![train("learner", "a", "wait_ratio")], false),
        ),
    ]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn put(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(value: &serde_json::Value) -> Record {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_page_shows_the_final_return_the_charts_and_the_settings_escaped() {
        let records = [
            record(
                &json!({"kind": "eval", "time_s": 1.0, "env_steps": 100.0, "return_mean": -900.0, "return_ci95": 9.0}),
            ),
            record(
                &json!({"kind": "eval", "time_s": 2.0, "env_steps": 200.0, "return_mean": -150.0, "return_ci95": 9.0}),
            ),
            record(
                &json!({"kind": "train", "time_s": 2.0, "updates": 10.0, "actor_loss": null, "alpha": 0.5}),
            ),
            record(
                &json!({"kind": "final", "time_s": 3.0, "return_mean": -142.25, "return_ci95": 7.5, "episodes": 20.0}),
            ),
        ];
        let page = render("runs/<x>", "name = \"a<b\"", &records);
        assert!(page.contains("-142.2 ± 7.5") || page.contains("-142.3 ± 7.5"), "{page}");
        assert!(
            page.contains("name = &quot;a&lt;b&quot;") && page.contains("<h1>runs/&lt;x&gt;</h1>")
        );
        assert!(
            page.matches("<svg").count() == 2 && page.matches("no data").count() == 7,
            "{page}"
        );
    }

    #[test]
    fn a_run_without_records_gives_a_page_that_says_so() {
        let page = render("run", "", &[]);
        assert_eq!(page.matches("no data").count(), 10);
    }

    #[test]
    fn a_resumed_run_goes_on_where_the_first_part_ended() {
        let times =
            [0.0, 5.0, 0.5, 1.5].map(|time| record(&json!({"kind": "train", "time_s": time})));
        let shifted: Vec<f64> =
            continuous(times.to_vec()).iter().filter_map(|r| number(r, "time_s")).collect();
        assert_eq!(shifted, [0.0, 5.0, 5.0, 6.0]);
    }
}
