//! Draws line charts as SVG, with axes, a light grid and at most two points per pixel column.

use std::fmt::Write as _;

/// Width of a chart. It is small, so that the labels are legible when a phone shows the chart at two thirds of its
/// size.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;
/// A line with at most this many points also shows them as dots.
const DOTS_MAX: usize = 30;

/// One line of a chart.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    /// Name in the legend.
    pub(super) name: &'static str,
    /// CSS class that sets the colour: `a`, `b` or `faint`.
    pub(super) class: &'static str,
    /// Points (x, y), with x ascending. Points that are not finite are left out.
    pub(super) points: Vec<(f64, f64)>,
    /// Half widths of a band around the points. Empty if there is no band.
    pub(super) band: Vec<f64>,
}

/// A chart of several lines over one x axis.
#[derive(Debug, Clone, Default)]
pub(super) struct Chart {
    /// Label of the x axis.
    pub(super) x_label: &'static str,
    /// Lines, in drawing order.
    pub(super) series: Vec<Series>,
    /// If true, the y axis is logarithmic when all values are positive and span more than two decades.
    pub(super) log_if_wide: bool,
}

struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    log: bool,
}

impl Chart {
    /// Returns whether any point is finite, so that there is something to draw.
    pub(super) fn has_data(&self) -> bool {
        self.series.iter().any(|series| series.finite().next().is_some())
    }

    /// Returns the chart as an `<svg>` element with the accessible name `label`, which must be escaped HTML. `None` if
    /// there is nothing to draw.
    pub(super) fn render(&self, label: &str) -> Option<String> {
        let axes = self.axes()?;
        let x_label = self.x_label;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label} over {x_label}\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n"
        );
        axes.grid(&mut svg, self.x_label);
        for series in &self.series {
            series.draw(&mut svg, &axes);
        }
        svg.push_str("</svg>");
        Some(svg)
    }

    fn axes(&self) -> Option<Axes> {
        let points = || self.series.iter().flat_map(Series::finite);
        let span = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)))
        };
        let x = span(&mut points().map(|(x, ..)| x));
        let mut y = span(&mut points().flat_map(|(_, y, band)| [y - band, y + band]));
        if !(x.0.is_finite() && y.0.is_finite()) {
            return None;
        }
        let log = self.log_if_wide && y.0 > 0.0 && y.1 / y.0 > 100.0;
        if log {
            y = (y.0.log10(), y.1.log10());
        }
        let widen = |(lo, hi): (f64, f64)| if hi > lo { (lo, hi) } else { (lo - 0.5, hi + 0.5) };
        let (x, y) = (widen(x), widen(y));
        let margin = 0.04 * (y.1 - y.0);
        Some(Axes { x, y: (y.0 - margin, y.1 + margin), log })
    }
}

impl Axes {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let y = if self.log { y.log10() } else { y };
        let across = (x - self.x.0) / (self.x.1 - self.x.0);
        let up = (y - self.y.0) / (self.y.1 - self.y.0);
        (LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))
    }

    fn grid(&self, svg: &mut String, x_label: &str) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let (y_ticks, y_step) =
            if self.log { decades(self.y.0, self.y.1) } else { ticks(self.y.0, self.y.1, 5) };
        for tick in y_ticks {
            let value = if self.log { 10_f64.powf(tick) } else { tick };
            let (_, y) = self.at(self.x.0, value);
            let label = number(value, if self.log { value } else { y_step });
            put(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n\
                     <text x=\"{:.1}\" y=\"{:.1}\" class=\"y\">{label}</text>",
                    LEFT - 6.0,
                    y + 4.0
                ),
            );
        }
        let (x_ticks, x_step) = ticks(self.x.0, self.x.1, 5);
        for tick in x_ticks {
            let (x, _) = self.at(tick, if self.log { 1.0 } else { 0.0 });
            let label = number(tick, x_step);
            put(
                svg,
                format_args!(
                    "<text x=\"{x:.1}\" y=\"{:.1}\" class=\"x\">{label}</text>",
                    bottom + 16.0
                ),
            );
        }
        let middle = f64::midpoint(LEFT, right);
        put(
            svg,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\n\
                 <text x=\"{middle:.1}\" y=\"{:.1}\" class=\"x\">{x_label}</text>",
                bottom + 34.0
            ),
        );
    }
}

impl Series {
    fn finite(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let band = self.band.iter().copied().chain(std::iter::repeat(0.0));
        let points = self.points.iter().zip(band).map(|(&(x, y), band)| (x, y, band));
        points.filter(|(x, y, band)| x.is_finite() && y.is_finite() && band.is_finite())
    }

    fn draw(&self, svg: &mut String, axes: &Axes) {
        let class = self.class;
        if !self.band.is_empty() {
            let upper = self.finite().map(|(x, y, band)| (x, y + band));
            let lower: Vec<_> = self.finite().map(|(x, y, band)| (x, y - band)).collect();
            // A single point has a vertical bar instead of a band.
            let kind = if lower.len() == 1 { "bar" } else { "band" };
            let outline = path(upper.chain(lower.into_iter().rev()), axes);
            put(svg, format_args!("<path class=\"{kind} {class}\" d=\"{outline}Z\"/>"));
        }
        let line = path(thin(self.finite().map(|(x, y, _)| (x, y)), axes), axes);
        put(svg, format_args!("<path class=\"line {class}\" d=\"{line}\"/>"));
        if self.finite().count() > DOTS_MAX {
            return;
        }
        for (x, y, _) in self.finite() {
            let (x, y) = axes.at(x, y);
            put(
                svg,
                format_args!(
                    "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>"
                ),
            );
        }
    }
}

type Point = (f64, f64);

/// Keeps the lowest and the highest point of each pixel column, in their original order.
fn thin(points: impl Iterator<Item = Point>, axes: &Axes) -> impl Iterator<Item = Point> {
    let mut columns: Vec<(i64, Point, Point)> = Vec::new();
    for point in points {
        #[expect(clippy::cast_possible_truncation, reason = "a pixel column")]
        let column = axes.at(point.0, 1.0).0 as i64;
        match columns.last_mut() {
            Some((last, low, high)) if *last == column => {
                if point.1 < low.1 {
                    *low = point;
                }
                if point.1 > high.1 {
                    *high = point;
                }
            }
            _ => columns.push((column, point, point)),
        }
    }
    columns
        .into_iter()
        .flat_map(|(_, low, high)| if low.0 <= high.0 { [low, high] } else { [high, low] })
}

fn path(points: impl Iterator<Item = (f64, f64)>, axes: &Axes) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.enumerate() {
        let (x, y) = axes.at(x, y);
        let command = if i == 0 { 'M' } else { 'L' };
        write!(path, "{command}{x:.1} {y:.1}").expect("writing to a String cannot fail");
    }
    path
}

/// Returns about `count` round numbers within [low, high], and the distance between neighbours.
fn ticks(low: f64, high: f64, count: u32) -> (Vec<f64>, f64) {
    let rough = (high - low) / f64::from(count);
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * magnitude)
        .into_iter()
        .find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * magnitude);
    let first = (low / step).ceil();
    let ticks = (0..100)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|tick| *tick <= high + step * 1e-9)
        .collect();
    (ticks, step)
}

/// Returns the tick positions of a logarithmic axis, and the distance between neighbours. Each tick is an integer
/// within [low, high]; it is the exponent of a power of ten. If the axis spans many decades, the distance is larger
/// than 1.
fn decades(low: f64, high: f64) -> (Vec<f64>, f64) {
    let step = ((high - low) / 5.0).ceil().max(1.0);
    let first = (low / step).ceil();
    let ticks = (0..100).map(|i| (first + f64::from(i)) * step);
    (ticks.take_while(|tick| *tick <= high).collect(), step)
}

/// Formats a value with a unit suffix, such as 12k for 12000. There are enough decimals to distinguish the value from a
/// number that differs by `step`.
fn number(value: f64, step: f64) -> String {
    let scale = value.abs().max(step);
    if value != 0.0 && !(1e-4..1e12).contains(&scale) {
        return format!("{value:.0e}");
    }
    let (unit, suffix) = match scale {
        scale if scale >= 1e9 => (1e9, "G"),
        scale if scale >= 1e6 => (1e6, "M"),
        scale if scale >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
    let digits = (-(step / unit).log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    let text = format!("{:.digits$}", value / unit);
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    match text {
        "0" | "-0" => "0".to_owned(),
        text => format!("{text}{suffix}"),
    }
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0, 5), (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], 2.0));
        assert_eq!(ticks(-1500.0, -100.0, 5).0, [-1500.0, -1000.0, -500.0]);
        assert_eq!(decades(-4.2, 0.3).0, [-4.0, -3.0, -2.0, -1.0, 0.0]);
        assert_eq!(decades(-12.0, 3.5).0, [-12.0, -8.0, -4.0, 0.0]);
        for (value, step, text) in [
            (0.0, 500.0, "0"),
            (-1500.0, 500.0, "-1500"),
            (12_000.0, 2000.0, "12k"),
            (12_500.0, 500.0, "12.5k"),
            (0.25, 0.05, "0.25"),
            (2_500_000.0, 5e5, "2.5M"),
            (1234.25, 0.05, "1234.25"),
            (0.001, 0.001, "0.001"),
            (1e-7, 1e-7, "1e-7"),
            (0.0, 1e-7, "0"),
        ] {
            assert_eq!(number(value, step), text);
        }
    }

    #[test]
    fn many_points_are_thinned_without_losing_the_extremes_and_bad_ones_are_left_out() {
        let mut points: Vec<_> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[50_000].1 = 9.0;
        points.push((f64::NAN, 1.0));
        let chart = Chart {
            series: vec![Series { points, class: "a", ..Series::default() }],
            ..Chart::default()
        };
        let svg = chart.render("x").unwrap();
        assert!(svg.len() < 40_000, "{}", svg.len());
        let axes = chart.axes().unwrap();
        let (x, y) = axes.at(50_000.0, 9.0);
        assert!(svg.contains(&format!("{x:.1} {y:.1}")) && !svg.contains("NaN"));
        assert!(Chart::default().render("x").is_none());
    }
}
