//! MountainCar-v0 and MountainCarContinuous-v0, with the dynamics of Gymnasium 1.x: a weak car gains speed in a valley.
//!
//! - State, which is also the observation: position x and velocity v.
//! - Step: v' = clip(v + push − 0.0025 cos(3x), ±0.07), x' = clip(x + v', −1.2, 0.6). The left wall stops the car.
//! - Start: at rest, with x from U(−0.6, −0.4).
//! - MountainCar-v0: the push is −0.001, 0 or 0.001, and the reward is −1 per step. Terminates at x ≥ 0.5 with v ≥ 0.
//!   At most 200 steps.
//! - MountainCarContinuous-v0: the action is a, and the push is 0.0015 · clip(a, ±1). The reward is −0.1 a², plus 100
//!   at the goal; a is not clipped in the reward. Terminates at x ≥ 0.45 with v ≥ 0. At most 999 steps. The state is
//!   rounded to f32 after each step, as in Gymnasium.

use super::helpers::{
    check_action, check_index, check_params, continuous, discrete, uniform, write_obs,
};
use super::{Env, EnvError, EnvParams, StateAccess, StepOutcome};
use crate::draw::{Frame, classic};
use common::spec::EnvSpec;
use rand_pcg::Pcg64;

/// Name of the environment with discrete actions.
pub const NAME: &str = "MountainCar-v0";
/// Name of the environment with continuous actions.
pub const CONTINUOUS_NAME: &str = "MountainCarContinuous-v0";

const SPEED_MAX: f64 = 0.07;
const POSITION_MIN: f64 = -1.2;
const POSITION_MAX: f64 = 0.6;
const GRAVITY: f64 = 0.0025;
const FORCE: f64 = 0.001;
const POWER: f64 = 0.0015;
const GOAL: f64 = 0.5;
const CONTINUOUS_GOAL: f64 = 0.45;

/// The car, without its time limit.
#[derive(Debug)]
pub struct MountainCar {
    is_continuous: bool,
    spec: EnvSpec,
    /// Position and velocity.
    state: [f64; 2],
    /// Push of the last step, for drawing.
    push: f64,
    rng: Pcg64,
}

pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(NAME, params, &[])?;
    Ok(Box::new(MountainCar::discrete()))
}

pub(super) fn make_continuous(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(CONTINUOUS_NAME, params, &[])?;
    Ok(Box::new(MountainCar::continuous()))
}

impl MountainCar {
    /// Creates MountainCar-v0. It must be reset before its first step.
    pub fn discrete() -> Self {
        Self::of(false, discrete(NAME, 2, 3, 200))
    }

    /// Creates MountainCarContinuous-v0. It must be reset before its first step.
    pub fn continuous() -> Self {
        Self::of(true, continuous(CONTINUOUS_NAME, 2, &[-1.0], &[1.0], 999))
    }

    fn of(is_continuous: bool, spec: EnvSpec) -> Self {
        Self { is_continuous, spec, state: [-0.5, 0.0], push: 0.0, rng: Pcg64::new(0, 0) }
    }

    fn roll(&mut self, push: f64) {
        self.push = push;
        let [position, velocity] = self.state;
        let velocity = velocity + push - GRAVITY * (3.0 * position).cos();
        let velocity = velocity.clamp(-SPEED_MAX, SPEED_MAX);
        let position = (position + velocity).clamp(POSITION_MIN, POSITION_MAX);
        let at_wall = position <= POSITION_MIN && velocity < 0.0;
        self.state = [position, if at_wall { 0.0 } else { velocity }];
    }
}

impl StateAccess for MountainCar {
    fn state(&self) -> Vec<f64> {
        self.state.to_vec()
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state.copy_from_slice(state);
    }
}

impl Env for MountainCar {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        self.push = 0.0;
        self.state = [uniform(&mut self.rng, -0.6, -0.4), 0.0];
        write_obs(obs, &self.state);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let (reward, terminated) = if self.is_continuous {
            check_action(action)?;
            let push = f64::from(action[0]);
            self.roll(push.clamp(-1.0, 1.0) * POWER);
            let terminated = self.state[0] >= CONTINUOUS_GOAL && self.state[1] >= 0.0;
            #[expect(clippy::cast_possible_truncation, reason = "the original keeps f32")]
            let kept = self.state.map(|value| f64::from(value as f32));
            self.state = kept;
            (if terminated { 100.0 } else { 0.0 } - 0.1 * push * push, terminated)
        } else {
            let push = [-FORCE, 0.0, FORCE][check_index(action, 3)?];
            self.roll(push);
            (-1.0, self.state[0] >= GOAL && self.state[1] >= 0.0)
        };
        write_obs(obs, &self.state);
        Ok(StepOutcome { reward, terminated, truncated: false })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        let (power, goal) =
            if self.is_continuous { (POWER, CONTINUOUS_GOAL) } else { (FORCE, GOAL) };
        Ok(Some(classic::mountain_car(self.state[0], self.push / power, goal)))
    }
}
