//! `report.html`: the results of a run on one self-contained page.
//!
//! - `process_logs`: merges the records of separate processes into the run's log.
//! - `records`: the run's log, in which each record has a value for every x axis.
//! - `facts`: the result, the key numbers and the origin of the run.
//! - `charts`: the list of charts. `svg`: their drawing. `page`: HTML helpers.

mod charts;
mod facts;
mod page;
mod process_logs;
mod records;
mod svg;

use charts::Figure;
use common::config::Resolved;
use common::run_dir::{REPORT, RunDir};
use fs_err as fs;
use learner::run_log::{self, Record};
use page::{escape, put};
use records::{Axis, Records, without_undone};
use std::path::{Path, PathBuf};

const STYLE: &str = include_str!("style.css");

/// Writes `report.html` into the run directory and returns its path. The file is replaced atomically.
///
/// # Errors
/// Returns an error if the directory holds no run, its log is damaged, or the page cannot be written.
pub fn write(run_dir: &Path) -> anyhow::Result<PathBuf> {
    let run = RunDir::open(run_dir)?;
    let own = without_undone(run_log::read(run_dir)?);
    let records = process_logs::join(own, process_logs::read(run_dir)?);
    let page = render(&title(run_dir), &run.config()?, records);
    let (partial, target) = (run_dir.join(".report.html.partial"), run_dir.join(REPORT));
    fs::write(&partial, page)?;
    fs::rename(&partial, &target)?;
    Ok(target)
}

/// Returns the name of the directory without its path, because the path would be wrong after the directory is moved.
fn title(run_dir: &Path) -> String {
    let whole = fs::canonicalize(run_dir).unwrap_or_else(|_| run_dir.to_owned());
    whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned()
}

fn render(name: &str, resolved: &Resolved, records: Vec<Record>) -> String {
    let records = Records::new(records);
    let mut page = String::new();
    let title = escape(name);
    put(
        &mut page,
        format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title} · Sapex</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>"
        ),
    );
    facts::write(&mut page, &records, Some(resolved));
    let figures = charts::all(&records);
    choice(&mut page, &figures);
    let (drawn, empty): (Vec<_>, Vec<_>) = figures.iter().partition(|figure| figure.has_data());
    for figure in drawn {
        section(&mut page, figure);
    }
    if !empty.is_empty() {
        let names: Vec<_> = empty.iter().map(|figure| escape(&figure.heading)).collect();
        put(&mut page, format_args!("<p class=\"none\">No data: {}.</p>", names.join(", ")));
    }
    let config = escape(&resolved.to_toml());
    put(
        &mut page,
        format_args!(
            "<details>\n<summary>Settings</summary>\n<pre>{config}</pre>\n</details>\n</main>\n</body>\n</html>"
        ),
    );
    page
}

/// Writes the buttons that choose the x axis of all charts. They must come before the charts, because the style sheet
/// uses sibling selectors that start at the buttons.
fn choice(page: &mut String, figures: &[Figure]) {
    let axes: Vec<Axis> = figures
        .first()
        .into_iter()
        .flat_map(|figure| &figure.charts)
        .map(|(axis, _)| *axis)
        .collect();
    if axes.len() < 2 {
        return;
    }
    for (number, axis) in axes.iter().enumerate() {
        let (id, checked) = (axis.id(), if number == 0 { " checked" } else { "" });
        put(page, format_args!("<input type=\"radio\" name=\"axis\" id=\"axis-{id}\"{checked}>"));
    }
    put(page, format_args!("<p class=\"axis-choice\">charts over"));
    for axis in axes {
        put(page, format_args!("<label for=\"axis-{}\">{}</label>", axis.id(), axis.title()));
    }
    put(page, format_args!("</p>"));
}

fn section(page: &mut String, figure: &Figure) {
    let heading = escape(&figure.heading);
    put(page, format_args!("<section>\n<h2>{heading}</h2>\n<p class=\"note\">{}</p>", figure.note));
    let legend: String = figure.charts[0]
        .1
        .series
        .iter()
        .filter(|series| !series.points.is_empty())
        .map(|series| format!("<span class=\"{}\">{}</span>", series.class, escape(series.name)))
        .collect();
    put(page, format_args!("<p class=\"legend\">{legend}</p>"));
    for (axis, chart) in &figure.charts {
        let drawn = chart.render(&heading).unwrap_or_default();
        put(page, format_args!("<div class=\"by-{}\">{drawn}</div>", axis.id()));
    }
    put(page, format_args!("</section>"));
}

impl Figure {
    fn has_data(&self) -> bool {
        self.charts.iter().any(|(_, chart)| chart.has_data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{Layers, load};
    use serde_json::{Value, json};

    fn page(records: Value) -> String {
        let records = records.as_array().unwrap().clone();
        let records = records.iter().map(|record| record.as_object().unwrap().clone());
        let set = vec!["actor.python=\"a<b\"".to_owned()];
        let resolved = load(&Layers { set, ..Layers::default() }).unwrap();
        render("<x>", &resolved, records.collect())
    }

    #[test]
    fn a_page_shows_the_final_return_the_charts_on_every_axis_and_the_settings_escaped() {
        let page = page(json!([
            {"kind": "start", "time_s": 0.0, "command": "sapex train --env X", "version": "0.1.0 (commit abc)",
             "machine": "a processor, 2 cores"},
            {"kind": "eval", "time_s": 1.0, "env_steps": 100.0, "return_mean": -900.0, "return_ci95": 9.0},
            {"kind": "eval", "time_s": 2.0, "env_steps": 200.0, "return_mean": -150.0, "return_ci95": 9.0,
             "length_mean": 20.0, "is_success": 0.5},
            {"kind": "train", "time_s": 2.0, "updates": 10.0, "actor_loss": null, "alpha": 0.5, "q_mean": 3.5},
            {"kind": "final", "time_s": 3.0, "return_mean": -142.25, "return_ci95": 7.5, "episodes": 20.0,
             "version": 5.0, "best": 1.0},
        ]));
        assert!(page.contains("-142.2 ± 7.5") || page.contains("-142.3 ± 7.5"), "{page}");
        assert!(page.contains("a&lt;b") && page.contains("<h1>&lt;x&gt;</h1>"), "{page}");
        for said in ["sapex train --env X", "0.1.0 (commit abc)", "a processor, 2 cores"] {
            assert!(page.contains(said), "{said} is missing");
        }
        for heading in ["Return", "Episode length", "is success", "Q values", "Temperature"] {
            assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading} is missing");
        }
        assert_eq!(page.matches("<svg").count(), 5 * 3, "five figures on three axes");
        assert!(page.contains("<p class=\"none\">No data: Critic losses, Actor loss"), "{page}");
        assert!(page.contains("name=\"viewport\""), "phones show a page of their own width");
    }

    #[test]
    fn a_run_without_records_gives_a_page_that_says_so() {
        let page = page(json!([]));
        assert!(page.contains("no evaluation yet") && page.contains("No data: Return, "), "{page}");
        assert!(!page.contains("<svg") && !page.contains("type=\"radio\""));
    }

    #[test]
    fn a_run_from_recorded_data_has_no_axis_of_steps_and_no_numbers_about_them() {
        let page = page(json!([
            {"kind": "train", "time_s": 2.0, "updates": 10.0, "alpha": 0.5},
            {"kind": "eval", "time_s": 2.0, "env_steps": 0.0, "updates": 10.0, "return_mean": 1.0},
        ]));
        assert!(
            !page.contains("id=\"axis-steps\"") && page.contains("id=\"axis-updates\""),
            "{page}"
        );
        assert!(!page.contains("environment steps"), "{page}");
    }
}
