//! Drawings of the classic control tasks and of the Oscillator. Lengths are in the tasks' own units. The policy's
//! action is drawn in blue.

use super::Frame;
use super::canvas::{Canvas, Colour, Point};
use std::f64::consts::{FRAC_PI_2, PI};

/// Display time of a frame in seconds, for environments that have no time step.
const SECONDS: f64 = 1.0 / 30.0;

/// Rotates the point (x, y) counter-clockwise around (0, 0) by `angle`, then adds the vector `by`.
fn placed((x, y): Point, angle: f64, by: Point) -> Point {
    let (sin, cos) = angle.sin_cos();
    (by.0 + x * cos - y * sin, by.1 + x * sin + y * cos)
}

/// Returns the corners of a rectangle that is centred at (0, 0), rotated by `angle` and then moved by the vector `by`.
fn rectangle(half_width: f64, half_height: f64, angle: f64, by: Point) -> [Point; 4] {
    let (w, h) = (half_width, half_height);
    [(-w, -h), (w, -h), (w, h), (-w, h)].map(|corner| placed(corner, angle, by))
}

/// Draws a pendulum at angle `theta`, which is 0 upright and grows counter-clockwise. `torque` is a fraction of the
/// largest torque.
pub(crate) fn pendulum(theta: f64, torque: f64, seconds: f64) -> Frame {
    let mut canvas = Canvas::new((400, 400), (-1.4, -1.4), 400.0 / 2.8);
    let tip = placed((0.0, 1.0), theta, (0.0, 0.0));
    canvas.line(&[(0.0, 0.0), tip], 0.18, Colour::RED);
    canvas.disc((0.0, 0.0), 0.05, Colour::BLACK);
    canvas.arc_arrow((0.0, 0.0), 0.4, (FRAC_PI_2, 0.75 * PI * torque), 0.035, Colour::BLUE);
    canvas.into_frame(seconds)
}

/// Draws a cart at `x` within ±`x_max`, with a pole at angle `theta`, which is 0 upright and grows clockwise. `push` is
/// a fraction of the largest force.
pub(crate) fn cart_pole(x: f64, theta: f64, push: f64, x_max: f64, seconds: f64) -> Frame {
    let half_width = 1.1 * x_max;
    let (width, height) = (600, if x_max > 5.0 { 150 } else { 300 });
    let unit = f64::from(width) / (2.0 * half_width);
    let thin = 2.0 / unit;
    // In a wide view the cart and its pole would be too small, so they are drawn larger than they are.
    let size = (x_max / 4.0).max(1.0);
    let mut canvas = Canvas::new((width, height), (-half_width, -0.2 * half_width), unit);
    canvas.line(&[(-half_width, 0.0), (half_width, 0.0)], thin, Colour::GREY);
    for end in [-x_max, x_max] {
        canvas.line(&[(end, -0.1 * size), (end, 0.1 * size)], thin, Colour::GREY);
    }
    canvas.polygon(&rectangle(0.25 * size, 0.15 * size, 0.0, (x, 0.0)), Colour::BLACK);
    let axle = (x, 0.08 * size);
    canvas.line(&[axle, placed((0.0, size), -theta, axle)], 0.08 * size, Colour::SAND);
    canvas.disc(axle, 0.04 * size, Colour::GREY);
    let bumper = x + 0.35 * size * push.signum();
    canvas.arrow((bumper, 0.0), (bumper + 0.5 * size * push, 0.0), 1.5 * thin, Colour::BLUE);
    canvas.into_frame(seconds)
}

/// Draws two links and the line that the tip must reach. `theta1` is the angle between the first link and the downward
/// vertical, and `theta2` is the angle between the second link and the first. Both grow counter-clockwise. `torque` on
/// the elbow is −1, 0 or 1.
pub(crate) fn acrobot(theta1: f64, theta2: f64, torque: f64, seconds: f64) -> Frame {
    let mut canvas = Canvas::new((400, 400), (-2.3, -2.3), 400.0 / 4.6);
    canvas.line(&[(-2.3, 1.0), (2.3, 1.0)], 0.02, Colour::GREEN);
    let elbow = placed((0.0, -1.0), theta1, (0.0, 0.0));
    let tip = placed((0.0, -1.0), theta1 + theta2, elbow);
    canvas.line(&[(0.0, 0.0), elbow], 0.16, Colour::SAND);
    canvas.line(&[elbow, tip], 0.16, Colour::RED);
    canvas.disc((0.0, 0.0), 0.06, Colour::BLACK);
    canvas.disc(elbow, 0.06, Colour::BLACK);
    canvas.arc_arrow(elbow, 0.35, (FRAC_PI_2, 0.5 * PI * torque), 0.045, Colour::BLUE);
    canvas.into_frame(seconds)
}

/// Returns the height of MountainCar's track.
fn track(x: f64) -> f64 {
    (3.0 * x).sin() * 0.45 + 0.55
}

/// Draws a car at `x` on its track from −1.2 to 0.6, and the flag at `goal`. `push` is a fraction of the largest force.
pub(crate) fn mountain_car(x: f64, push: f64, goal: f64) -> Frame {
    const LEFT: f64 = -1.2;
    const RIGHT: f64 = 0.6;
    const WHEEL: f64 = 0.025;
    let mut canvas = Canvas::new((600, 400), (LEFT, 0.0), 600.0 / (RIGHT - LEFT));
    let ground = (0..=90).map(|i| LEFT + (RIGHT - LEFT) * f64::from(i) / 90.0);
    let ground: Vec<_> = ground.map(|x| (x, track(x))).collect();
    canvas.line(&ground, 0.008, Colour::GREY);
    let foot = (goal, track(goal));
    canvas.line(&[foot, (goal, foot.1 + 0.15)], 0.006, Colour::BLACK);
    let cloth = [(0.0, 0.15), (0.07, 0.125), (0.0, 0.1)].map(|point| placed(point, 0.0, foot));
    canvas.polygon(&cloth, Colour::GREEN);
    let slope = (1.35 * (3.0 * x).cos()).atan();
    let on_track = |point: Point| placed(point, slope, (x, track(x)));
    canvas.polygon(&rectangle(0.06, 0.022, slope, on_track((0.0, 2.0 * WHEEL))), Colour::RED);
    for side in [-0.035, 0.035] {
        canvas.disc(on_track((side, WHEEL)), WHEEL, Colour::BLACK);
    }
    let bumper = 0.08 * push.signum();
    let (from, to) = ((bumper, 2.0 * WHEEL), (bumper + 0.12 * push, 2.0 * WHEEL));
    canvas.arrow(on_track(from), on_track(to), 0.008, Colour::BLUE);
    canvas.into_frame(SECONDS)
}

/// Plots the Oscillator's protein concentration and the reference wave over time. `protein` has one number per step so
/// far; the reference wave covers all `steps`.
#[expect(clippy::cast_precision_loss, reason = "a few hundred steps")]
pub(crate) fn oscillator(protein: &[f64], reference: impl Fn(f64) -> f64, steps: u32) -> Frame {
    const TOP: f64 = 30.0;
    // A step is 1.5 pixels wide, and a unit of concentration is 10 pixels high.
    const STEP: f64 = 0.15;
    let mut canvas = Canvas::new((640, 340), (-2.0, -2.0), 10.0);
    let right = STEP * f64::from(steps);
    canvas.line(&[(0.0, TOP), (0.0, 0.0), (right, 0.0)], 0.15, Colour::GREY);
    for tick in [10.0, 20.0, 30.0] {
        canvas.line(&[(-0.5, tick), (0.0, tick)], 0.15, Colour::GREY);
    }
    let wave: Vec<_> =
        (0..=steps).map(|t| (STEP * f64::from(t), reference(f64::from(t)))).collect();
    canvas.line(&wave, 0.2, Colour::GREEN);
    let points = protein.iter().enumerate();
    let points: Vec<_> = points.map(|(t, &p)| (STEP * t as f64, p.min(TOP))).collect();
    canvas.line(&points, 0.25, Colour::RED);
    if let Some(&now) = points.last() {
        canvas.disc(now, 0.5, Colour::RED);
    }
    canvas.into_frame(SECONDS)
}
