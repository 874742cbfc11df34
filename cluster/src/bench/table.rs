//! The results of the benchmarks as rows, and their formatting as tables.

use super::peers::PeerFigure;
use serde::Serialize;
use std::fmt::Write as _;

/// Our figure for one measurement, and the peer's figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// Description of the measurement.
    pub(super) name: String,
    /// Our figure.
    pub(super) ours: f64,
    /// Unit of both figures.
    pub(super) unit: &'static str,
    /// The peer's figure, or the reason why there is none.
    pub(super) peer: Result<PeerFigure, String>,
    /// Required ratio of our figure to the peer's: a minimum for rates, a maximum for times and sizes. `None` if
    /// nothing is required.
    pub(super) bar: Option<Bar>,
}

/// Requirement on a ratio.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bar {
    /// Minimum, for figures that should be large.
    AtLeast(f64),
    /// Maximum, for figures that should be small.
    AtMost(f64),
}

impl Row {
    /// Returns our figure divided by the peer's figure. `None` if the peer has no figure.
    fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().ok().map(|peer| self.ours / peer.figure)
    }

    fn verdict(&self) -> String {
        let (Some(ratio), Some(bar)) = (self.ratio(), self.bar) else { return String::new() };
        let (met, text) = match bar {
            Bar::AtLeast(bar) => (ratio >= bar, format!("≥ {bar}")),
            Bar::AtMost(bar) => (ratio <= bar, format!("≤ {bar:.2}")),
        };
        format!("{text} {}", if met { "met" } else { "missed" })
    }
}

/// Our figures for all combinations of two settings.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Grid {
    /// Description of the measurement, with its unit.
    pub(super) name: String,
    /// Heading of the column that holds the rows' labels.
    pub(super) corner: &'static str,
    pub(super) columns: Vec<String>,
    /// Each row's label, and one figure per column.
    pub(super) rows: Vec<(String, Vec<f64>)>,
}

impl Grid {
    /// Formats the name and a Markdown table.
    pub(super) fn render(&self) -> String {
        let Self { name, corner, columns, rows } = self;
        let mut text = format!("{name}\n\n| {corner} | {} |\n", columns.join(" | "));
        text += &format!("|--:|{}\n", "--:|".repeat(columns.len()));
        for (label, figures) in rows {
            let figures: Vec<_> = figures.iter().map(|&figure| number(figure)).collect();
            text += &format!("| {label} | {} |\n", figures.join(" | "));
        }
        text
    }
}

/// Formats the rows as a Markdown table, which is also legible as plain text.
pub(super) fn render(rows: &[Row]) -> String {
    let mut table = "| what | ours | peer | ratio | bar |\n|---|--:|--:|--:|---|\n".to_owned();
    for row in rows {
        let peer = match &row.peer {
            Ok(peer) => {
                let name = format!("{} {}", peer.peer, peer.version);
                format!("{} {} ({})", number(peer.figure), row.unit, name.trim_end())
            }
            Err(reason) => reason.clone(),
        };
        let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}×"));
        let ours = format!("{} {}", number(row.ours), row.unit);
        writeln!(table, "| {} | {ours} | {peer} | {ratio} | {} |", row.name, row.verdict())
            .expect("writing to a String cannot fail");
    }
    table
}

fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1e6 => format!("{:.2} M", value / 1e6),
        magnitude if magnitude >= 1e4 => format!("{:.0} k", value / 1e3),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, theirs: f64, bar: Bar) -> Row {
        let peer = PeerFigure { peer: "Other".into(), version: "1.0".into(), figure: theirs };
        Row { name: "thing".into(), ours, unit: "/s", peer: Ok(peer), bar: Some(bar) }
    }

    #[test]
    fn bars_are_met_from_the_right_side_and_missing_peers_are_said() {
        assert_eq!(row(40.0, 10.0, Bar::AtLeast(4.0)).verdict(), "≥ 4 met");
        assert_eq!(row(39.0, 10.0, Bar::AtLeast(4.0)).verdict(), "≥ 4 missed");
        assert_eq!(row(3.0, 10.0, Bar::AtMost(0.2)).verdict(), "≤ 0.20 missed");
        let missing = Row { peer: Err("not run".into()), ..row(1.0, 1.0, Bar::AtMost(1.0)) };
        assert!(render(&[missing]).contains("| thing | 1.00 /s | not run |  |  |"));
    }

    #[test]
    fn a_grid_has_a_column_per_setting_and_a_row_per_label() {
        let grid = Grid {
            name: "steps/s".into(),
            corner: "lanes",
            columns: vec!["1 actor".into(), "2 actors".into()],
            rows: vec![("8".into(), vec![43_210.0, 86_400.0])],
        };
        let table = "| lanes | 1 actor | 2 actors |\n|--:|--:|--:|\n| 8 | 43 k | 86 k |\n";
        assert_eq!(grid.render(), format!("steps/s\n\n{table}"));
    }
}
