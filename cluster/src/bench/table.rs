//! Rows of figures, and how they are shown.

use super::peers::PeerFigure;
use serde::Serialize;
use std::fmt::Write as _;

/// One figure beside its peer.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// What was measured.
    pub(super) name: String,
    /// Our figure.
    pub(super) ours: f64,
    /// Of both figures.
    pub(super) unit: &'static str,
    /// The peer's, or why there is none.
    pub(super) peer: Result<PeerFigure, String>,
    /// The bar: for rates, ours over theirs at least; for times and sizes, ours over theirs at most.
    pub(super) bar: Option<Bar>,
}

/// What a ratio is held against.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bar {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Row {
    /// Ours over the peer's.
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

/// Figures of ours over two settings.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Grid {
    /// What was measured, with its unit.
    pub(super) name: String,
    /// What the rows' labels are.
    pub(super) corner: &'static str,
    pub(super) columns: Vec<String>,
    /// Label and a figure per column.
    pub(super) rows: Vec<(String, Vec<f64>)>,
}

impl Grid {
    /// A Markdown table below its name.
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

/// A Markdown table, which reads well as text too.
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
