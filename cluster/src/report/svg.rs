//! Line charts as SVG: clean axes, a light grid, at most one point per pixel column.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 36.0;

/// One line of a chart.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    /// In the legend.
    pub(super) name: &'static str,
    /// CSS class that carries the colour: `a`, `b` or `faint`.
    pub(super) class: &'static str,
    /// (x, y), x ascending; what is not finite is left out.
    pub(super) points: Vec<(f64, f64)>,
    /// Half widths of a band around the points; empty for none.
    pub(super) band: Vec<f64>,
}

/// A chart of series over one x axis.
#[derive(Debug, Clone, Default)]
pub(super) struct Chart {
    /// Under the x axis.
    pub(super) x_label: &'static str,
    /// Lines, drawn in order.
    pub(super) series: Vec<Series>,
    /// Logarithmic y axis where all values are positive and span more than two decades.
    pub(super) log_if_wide: bool,
}

struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    log: bool,
}

impl Chart {
    /// The chart as an `<svg>` element; `None` where there is nothing to draw.
    pub(super) fn render(&self) -> Option<String> {
        let axes = self.axes()?;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n"
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
        for tick in ticks(self.y.0, self.y.1, 5) {
            let value = if self.log { 10_f64.powf(tick) } else { tick };
            let (_, y) = self.at(self.x.0, value);
            put(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                ),
            );
            let label = number(value);
            put(
                svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" class=\"y\">{label}</text>",
                    LEFT - 6.0,
                    y + 4.0
                ),
            );
        }
        for tick in ticks(self.x.0, self.x.1, 6) {
            let (x, _) = self.at(tick, if self.log { 1.0 } else { 0.0 });
            let label = number(tick);
            put(
                svg,
                format_args!(
                    "<text x=\"{x:.1}\" y=\"{:.1}\" class=\"x\">{label}</text>",
                    bottom + 15.0
                ),
            );
        }
        put(
            svg,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
            ),
        );
        let middle = f64::midpoint(LEFT, right);
        put(
            svg,
            format_args!(
                "<text x=\"{middle:.1}\" y=\"{:.1}\" class=\"x\">{x_label}</text>",
                bottom + 30.0
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
        if !self.band.is_empty() {
            let upper = self.finite().map(|(x, y, band)| (x, y + band));
            let lower: Vec<_> = self.finite().map(|(x, y, band)| (x, y - band)).collect();
            let outline = path(upper.chain(lower.into_iter().rev()), axes);
            put(svg, format_args!("<path class=\"band {}\" d=\"{outline}Z\"/>", self.class));
        }
        let line = path(thin(self.finite().map(|(x, y, _)| (x, y)), axes), axes);
        put(svg, format_args!("<path class=\"line {}\" d=\"{line}\"/>", self.class));
        if self.points.len() == 1 {
            let (x, y) = axes.at(self.points[0].0, self.points[0].1);
            put(
                svg,
                format_args!(
                    "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>",
                    self.class
                ),
            );
        }
    }
}

type Point = (f64, f64);

/// The lowest and the highest point of every pixel column, in the order in which they came.
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

/// About `count` round numbers within [low, high].
fn ticks(low: f64, high: f64, count: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(count);
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * magnitude)
        .into_iter()
        .find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * magnitude);
    let first = (low / step).ceil();
    (0..100)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|tick| *tick <= high + step * 1e-9)
        .collect()
}

/// 12k rather than 12000, no trailing zeros.
fn number(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        magnitude if magnitude >= 1e6 => (value / 1e6, "M"),
        magnitude if magnitude >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if scaled.abs() >= 100.0 || scaled == scaled.round() {
        0
    } else if scaled.abs() >= 1.0 {
        1
    } else {
        3
    };
    let text = format!("{scaled:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{}{suffix}", if text == "-0" { "0" } else { text })
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-1500.0, -100.0, 5), [-1500.0, -1000.0, -500.0]);
        assert_eq!(
            [0.0, -1500.0, 12_000.0, 0.25, 2_500_000.0].map(number),
            ["0", "-1500", "12k", "0.25", "2.5M"]
        );
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
        let svg = chart.render().unwrap();
        assert!(svg.len() < 40_000, "{}", svg.len());
        let axes = chart.axes().unwrap();
        let (x, y) = axes.at(50_000.0, 9.0);
        assert!(svg.contains(&format!("{x:.1} {y:.1}")) && !svg.contains("NaN"));
        assert!(Chart::default().render().is_none());
    }
}
