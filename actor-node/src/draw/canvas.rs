//! [`Canvas`]: a white picture to draw on, in the environment's coordinates: x to the right, y up.

use super::Frame;
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform,
};

/// Half the angle between an arrow's barbs, in radians.
const BARB_ANGLE: f64 = 0.5;
/// Number of line segments that approximate a full circle.
const ARC_STEPS: f64 = 60.0;

/// An RGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// Colour of lines.
    pub const BLACK: Self = Self(0x20, 0x24, 0x28);
    /// Colour of ground, tracks and axes.
    pub const GREY: Self = Self(0xa0, 0xa6, 0xac);
    /// Colour of passive parts.
    pub const SAND: Self = Self(0xca, 0x98, 0x65);
    /// Colour of the part that the task is about.
    pub const RED: Self = Self(0xcc, 0x4d, 0x4d);
    /// Colour of the policy's actions.
    pub const BLUE: Self = Self(0x2b, 0x6c, 0xb0);
    /// Colour of goals.
    pub const GREEN: Self = Self(0x2f, 0x9e, 0x5b);
}

/// A position (x, y) in the environment's units.
pub type Point = (f64, f64);

/// A picture that is being drawn.
#[derive(Debug)]
pub struct Canvas {
    pixels: Pixmap,
    view: Transform,
}

impl Canvas {
    /// Creates a white picture of `width` by `height` pixels. Its lower left corner is at (`left`, `bottom`), and each
    /// unit of x or y is `unit` pixels long.
    ///
    /// # Panics
    /// Panics if `width` or `height` is 0.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred pixels")]
    pub fn new((width, height): (u32, u32), (left, bottom): Point, unit: f64) -> Self {
        let mut pixels = Pixmap::new(width, height).expect("a picture has pixels");
        pixels.fill(Color::WHITE);
        let (left, bottom, unit) = (single(left), single(bottom), single(unit));
        let view =
            Transform::from_row(unit, 0.0, 0.0, -unit, -left * unit, height as f32 + bottom * unit);
        Self { pixels, view }
    }

    /// Draws a filled polygon.
    pub fn polygon(&mut self, points: &[Point], colour: Colour) {
        if let Some(path) = path(points, true) {
            self.fill(&path, colour);
        }
    }

    /// Draws a filled disc.
    pub fn disc(&mut self, (x, y): Point, radius: f64, colour: Colour) {
        if let Some(path) = PathBuilder::from_circle(single(x), single(y), single(radius)) {
            self.fill(&path, colour);
        }
    }

    /// Draws a line through `points`. The line has round ends and a width of `width` units.
    pub fn line(&mut self, points: &[Point], width: f64, colour: Colour) {
        let Some(path) = path(points, false) else { return };
        let stroke = Stroke {
            width: single(width),
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.pixels.stroke_path(&path, &paint(colour), &stroke, self.view, None);
    }

    /// Draws an arrow from `from` to `to` with lines that are `width` units wide. Draws nothing if the two points are
    /// equal.
    pub fn arrow(&mut self, from: Point, to: Point, width: f64, colour: Colour) {
        let direction = (to.1 - from.1).atan2(to.0 - from.0);
        if from != to {
            self.line(&[from, to], width, colour);
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            self.barbs(to, direction, (length, width), colour);
        }
    }

    /// Draws an arrow along a circular arc. The arc begins at the angle `from` and spans `turn` radians,
    /// counter-clockwise if `turn` is positive.
    pub fn arc_arrow(
        &mut self,
        centre: Point,
        radius: f64,
        (from, turn): (f64, f64),
        width: f64,
        colour: Colour,
    ) {
        if turn == 0.0 {
            return;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few steps")]
        let steps = (turn.abs() / std::f64::consts::TAU * ARC_STEPS).ceil() as u32;
        let at = |step: u32| {
            let (sin, cos) = (from + turn * f64::from(step) / f64::from(steps)).sin_cos();
            (centre.0 + radius * cos, centre.1 + radius * sin)
        };
        let points: Vec<_> = (0..=steps).map(at).collect();
        self.line(&points, width, colour);
        let ahead = from + turn + std::f64::consts::FRAC_PI_2 * turn.signum();
        self.barbs(at(steps), ahead, (radius * turn.abs(), width), colour);
    }

    /// Draws the head of an arrow. A short arrow has a smaller head.
    fn barbs(
        &mut self,
        (x, y): Point,
        direction: f64,
        (length, width): (f64, f64),
        colour: Colour,
    ) {
        let barb_length = (4.0 * width).min(0.6 * length);
        let barb = |angle: f64| {
            let (sin, cos) = (direction + angle).sin_cos();
            (x - barb_length * cos, y - barb_length * sin)
        };
        self.line(&[barb(BARB_ANGLE), (x, y), barb(-BARB_ANGLE)], width, colour);
    }

    fn fill(&mut self, path: &Path, colour: Colour) {
        self.pixels.fill_path(path, &paint(colour), FillRule::Winding, self.view, None);
    }

    /// Converts the picture to a frame that is shown for `seconds`.
    pub fn into_frame(self, seconds: f64) -> Frame {
        let (width, height) = (self.pixels.width(), self.pixels.height());
        // All pixels are opaque, so premultiplied values are the colours themselves.
        let rgb = self.pixels.data().chunks_exact(4).flat_map(|rgba| [rgba[0], rgba[1], rgba[2]]);
        Frame { width, height, rgb: rgb.collect(), seconds }
    }
}

fn path(points: &[Point], closed: bool) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut builder = PathBuilder::new();
    builder.move_to(single(first.0), single(first.1));
    rest.iter().for_each(|&(x, y)| builder.line_to(single(x), single(y)));
    if closed {
        builder.close();
    }
    builder.finish()
}

fn paint(Colour(red, green, blue): Colour) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 255);
    paint
}

#[expect(clippy::cast_possible_truncation, reason = "pixels need no more")]
fn single(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(frame: &Frame, x: u32, y: u32) -> &[u8] {
        &frame.rgb[3 * (y * frame.width + x) as usize..][..3]
    }

    #[test]
    fn x_runs_to_the_right_and_y_up_from_the_lower_left_corner() {
        let mut canvas = Canvas::new((40, 20), (-1.0, 2.0), 10.0);
        canvas.disc((0.0, 3.5), 0.3, Colour(255, 0, 0));
        canvas.polygon(&[(2.0, 2.0), (3.0, 2.0), (3.0, 3.0), (2.0, 3.0)], Colour(0, 0, 255));
        let frame = canvas.into_frame(0.5);
        assert_eq!((frame.width, frame.height, frame.rgb.len()), (40, 20, 2400));
        assert_eq!(pixel(&frame, 10, 5), [255, 0, 0], "10 to the right, 15 up");
        assert_eq!(pixel(&frame, 35, 15), [0, 0, 255]);
        assert_eq!(pixel(&frame, 35, 5), [255; 3]);
        assert_eq!(pixel(&frame, 5, 15), [255; 3]);
    }

    #[test]
    fn an_arc_turns_counter_clockwise_and_what_has_no_length_is_not_drawn() {
        let drawn = |turn| {
            let mut canvas = Canvas::new((40, 40), (-2.0, -2.0), 10.0);
            canvas.arc_arrow((0.0, 0.0), 1.0, (0.0, turn), 0.1, Colour(0, 0, 0));
            canvas.arrow((1.0, 1.0), (1.0, 1.0), 0.1, Colour(0, 0, 0));
            let frame = canvas.into_frame(1.0);
            let dark = |rows: std::ops::Range<u32>| {
                rows.flat_map(|y| (0..40).map(move |x| (x, y)))
                    .filter(|&(x, y)| pixel(&frame, x, y)[0] < 128)
                    .count()
            };
            (dark(0..18), dark(22..40))
        };
        let ((above, none), (also_none, below)) = (drawn(2.5), drawn(-2.5));
        assert!(above > 20 && below > 20, "{above} {below}");
        assert_eq!((none, also_none, drawn(0.0)), (0, 0, (0, 0)));
    }
}
