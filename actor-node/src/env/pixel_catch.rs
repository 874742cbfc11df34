//! PixelCatch-v1: catch falling dots with a paddle, from an image observation. A convolutional policy learns this task
//! in a minute.
//!
//! The observation is one channel of 16 by 16 bytes. The dot (2 by 2 pixels) and the paddle (4 pixels wide, in the
//! lowest row) are 255, all other pixels are 0. The action in `[−1, 1]` moves the paddle by up to 3 columns per step;
//! the dot falls 2 rows. In every eighth step the dot reaches the ground. The reward is then 1 if the paddle is under
//! the whole dot, and −1 otherwise, and the next dot starts in a random column. The episode is truncated after 10 dots.
//! The picture does not show how many dots are left.

use super::helpers::{check_action, check_params, continuous, uniform};
use super::{Env, EnvError, EnvParams, StepOutcome};
use crate::draw::Frame;
use common::spec::EnvSpec;
use rand::RngExt;
use rand_pcg::Pcg64;

/// Name of the environment.
pub const NAME: &str = "PixelCatch-v1";

const SIDE: usize = 16;
const DOT: usize = 2;
const PADDLE: usize = 4;
const PADDLE_SPEED: f64 = 3.0;
/// Number of steps in which a dot falls to the ground.
const FALL_STEPS: usize = SIDE / DOT;
const DROPS: u32 = 10;
const WHITE: f32 = 255.0;
/// Side length of the square that shows one pixel of the observation in a rendered picture, in pixels.
const ZOOM: usize = 16;
/// Display time of a step, in seconds.
const SECONDS: f64 = 0.1;

#[derive(Debug)]
struct PixelCatch {
    spec: EnvSpec,
    /// Left column of the paddle. It is drawn at the nearest whole column.
    paddle: f64,
    /// Left column of the dot.
    column: usize,
    /// Number of steps for which the dot has fallen.
    fallen: usize,
    rng: Pcg64,
}

#[expect(clippy::cast_possible_truncation, reason = "80 steps")]
pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(NAME, params, &[])?;
    let steps = DROPS * FALL_STEPS as u32;
    let mut spec = continuous(NAME, SIDE * SIDE, &[-1.0], &[1.0], steps);
    spec.obs_image = Some([1, SIDE, SIDE]);
    Ok(Box::new(PixelCatch { spec, paddle: 0.0, column: 0, fallen: 0, rng: Pcg64::new(0, 0) }))
}

/// Returns the largest left column of an object of this width.
#[expect(clippy::cast_precision_loss, reason = "16 columns")]
fn columns(width: usize) -> f64 {
    (SIDE - width) as f64
}

impl PixelCatch {
    fn drop_another(&mut self) {
        self.column = self.rng.random_range(0..=SIDE - DOT);
        self.fallen = 0;
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a column of the image"
    )]
    fn paddle_column(&self) -> usize {
        self.paddle.round() as usize
    }

    fn observe(&self, obs: &mut [f32]) {
        obs.fill(0.0);
        for row in 0..DOT {
            let start = (self.fallen * DOT + row) * SIDE + self.column;
            obs[start..start + DOT].fill(WHITE);
        }
        let start = (SIDE - 1) * SIDE + self.paddle_column();
        obs[start..start + PADDLE].fill(WHITE);
    }
}

impl Env for PixelCatch {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        self.paddle = uniform(&mut self.rng, 0.0, columns(PADDLE));
        self.drop_another();
        self.observe(obs);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        check_action(action)?;
        let speed = f64::from(action[0]).clamp(-1.0, 1.0) * PADDLE_SPEED;
        self.paddle = (self.paddle + speed).clamp(0.0, columns(PADDLE));
        self.fallen += 1;
        let mut reward = 0.0;
        if self.fallen == FALL_STEPS {
            let left = self.paddle_column();
            let caught = left <= self.column && self.column + DOT <= left + PADDLE;
            reward = if caught { 1.0 } else { -1.0 };
            self.drop_another();
        }
        self.observe(obs);
        Ok(StepOutcome { reward, terminated: false, truncated: false })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        let mut image = vec![0.0; SIDE * SIDE];
        self.observe(&mut image);
        Ok(Some(Frame::of_pixels(&image, SIDE, ZOOM, SECONDS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the left columns of the dot and of the paddle from the image.
    fn see(obs: &[f32]) -> (usize, usize) {
        let (dot, paddle) = obs.split_at((SIDE - 1) * SIDE);
        let white = |pixels: &[f32]| pixels.iter().position(|&pixel| pixel == WHITE);
        (white(dot).unwrap() % SIDE, white(paddle).unwrap())
    }

    #[test]
    fn who_reads_the_image_and_follows_the_dot_catches_every_one() {
        let mut env = make(&EnvParams::new()).unwrap();
        assert_eq!(env.spec().episode_steps_max, Some(80));
        let mut obs = [0.0; SIDE * SIDE];
        for seed in 0..20 {
            env.reset(Some(seed), &mut obs).unwrap();
            let mut total = 0.0;
            for _ in 0..80 {
                let (dot, paddle) = see(&obs);
                let target = (dot as f32 - 1.0).clamp(0.0, (SIDE - PADDLE) as f32);
                let action = (target - paddle as f32) / 3.0;
                total += env.step(&[action.clamp(-1.0, 1.0)], &mut obs).unwrap().reward;
            }
            assert_eq!(total, 10.0, "seed {seed}");
        }
    }

    #[test]
    fn who_stands_still_misses_most() {
        let mut env = make(&EnvParams::new()).unwrap();
        let mut obs = [0.0; SIDE * SIDE];
        let mut total = 0.0;
        for seed in 0..50 {
            env.reset(Some(seed), &mut obs).unwrap();
            for _ in 0..80 {
                total += env.step(&[0.0], &mut obs).unwrap().reward;
            }
        }
        assert!((-8.0..-3.0).contains(&(total / 50.0)), "{}", total / 50.0);
    }

    #[test]
    fn every_pixel_is_black_or_white() {
        let mut env = make(&EnvParams::new()).unwrap();
        let mut obs = [0.5; SIDE * SIDE];
        env.reset(Some(1), &mut obs).unwrap();
        let white = obs.iter().filter(|&&pixel| pixel == WHITE).count();
        assert_eq!(white, DOT * DOT + PADDLE);
        assert!(obs.iter().all(|&pixel| pixel == WHITE || pixel == 0.0));
    }
}
