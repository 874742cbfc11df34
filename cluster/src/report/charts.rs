//! Defines the charts of the report: its figures and the lines of each figure.

use super::records::{Axis, Records};
use super::svg::{Chart, Series};

/// A figure: a heading, a sentence below it (empty if none is needed), and one chart for each x axis that the run has.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) heading: String,
    pub(super) note: &'static str,
    pub(super) charts: Vec<(Axis, Chart)>,
}

/// A line of a figure, before the x axis is chosen, as (name, CSS class, kind of record, field of the record).
type Line<'a> = (&'static str, &'static str, &'static str, &'a str);

const ALPHA: &str = "alpha";

/// Returns all figures, ordered by how often readers look for them.
pub(super) fn all(records: &Records) -> Vec<Figure> {
    let axes: Vec<Axis> = Axis::ALL.into_iter().filter(|axis| records.has(*axis)).collect();
    let axes = if axes.is_empty() { vec![Axis::Time] } else { axes };
    let figure = |heading: &str, note, lines: &[Line<'_>], log_if_wide| {
        let charts = axes.iter().map(|axis| (*axis, chart(records, *axis, lines, log_if_wide)));
        Figure { heading: heading.to_owned(), note, charts: charts.collect() }
    };
    let episodes =
        |field| [("training", "faint", "actors", field), ("evaluation", "a", "eval", field)];
    let mut figures = vec![
        figure(
            "Return",
            "Mean of the latest training episodes, and of deterministic evaluations ± 95%.",
            &[
                ("training", "faint", "actors", "return_mean"),
                ("evaluation", "a", "eval", "return_mean"),
                ("final, of the policy that was kept", "b", "final", "return_mean"),
            ],
            false,
        ),
        figure("Episode length", "Steps per episode.", &episodes("length_mean"), false),
    ];
    for term in records.terms() {
        let note = "As the environment says in its info, mean over episodes.";
        figures.push(figure(&term.replace('_', " "), note, &episodes(term), false));
    }
    let train = |name, class, field| (name, class, "train", field);
    let actors = |name, field| [(name, "a", "actors", field)];
    let learner = |name, field| [train(name, "a", field)];
    figures.extend([
        figure("Q values", "Mean over the sampled batches.", &learner("mean Q", "q_mean"), false),
        figure(
            "Critic losses",
            "",
            &[train("critic 1", "a", "critic1_loss"), train("critic 2", "b", "critic2_loss")],
            true,
        ),
        figure("Actor loss", "", &learner("actor", "actor_loss"), false),
        figure("Temperature", "Weight of the policy's entropy.", &learner(ALPHA, ALPHA), true),
        figure("Policy entropy", "In nats.", &learner("entropy", "entropy"), false),
        figure(
            "Age of policies",
            "In versions behind the newest weights.",
            &[
                ("in use by actors", "a", "actors", "lag_versions"),
                ("behind sampled items", "b", "train", "item_age_versions"),
            ],
            false,
        ),
        figure(
            "Environment steps per second",
            "",
            &actors("all actors", "env_steps_per_second"),
            false,
        ),
        figure("Updates per second", "", &learner("learner", "updates_per_second"), false),
        figure(
            "Waiting for batches",
            "Share of the learner's time.",
            &learner("learner", "wait_ratio"),
            false,
        ),
    ]);
    figures
}

fn chart(records: &Records, axis: Axis, lines: &[Line<'_>], log_if_wide: bool) -> Chart {
    let (unit, scale) = unit(axis, records.seconds());
    let scaled = |points: Vec<(f64, f64)>| points.into_iter().map(|(x, y)| (x / scale, y));
    let series = lines.iter().map(|(name, class, kind, field)| Series {
        name,
        class,
        points: scaled(records.points(kind, axis.field(), field)).collect(),
        band: if *field == "return_mean" { band(records, kind, axis) } else { Vec::new() },
    });
    Chart { x_label: unit, series: series.collect(), log_if_wide }
}

/// Returns the half widths of the confidence intervals. The result is empty unless every record has a confidence
/// interval.
fn band(records: &Records, kind: &str, axis: Axis) -> Vec<f64> {
    let means = records.points(kind, axis.field(), "return_mean").len();
    let widths = records.points(kind, axis.field(), "return_ci95");
    if widths.len() == means {
        widths.into_iter().map(|(_, half)| half).collect()
    } else {
        Vec::new()
    }
}

/// Returns the label of an axis, and the divisor that converts the values to the unit in the label.
fn unit(axis: Axis, seconds: f64) -> (&'static str, f64) {
    match axis {
        Axis::Time if seconds >= 3.0 * 3600.0 => ("hours", 3600.0),
        Axis::Time if seconds >= 180.0 => ("minutes", 60.0),
        Axis::Time => ("seconds", 1.0),
        Axis::Steps | Axis::Updates => (axis.title(), 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_in_what_fits() {
        let units = [12.0, 600.0, 90_000.0].map(|seconds| unit(Axis::Time, seconds).0);
        assert_eq!(units, ["seconds", "minutes", "hours"]);
        assert_eq!(unit(Axis::Steps, 90_000.0), ("environment steps", 1.0));
    }
}
