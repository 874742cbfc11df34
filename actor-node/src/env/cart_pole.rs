//! A pole on a cart: CartPole-v1 with the dynamics of Gymnasium 1.x, and CartPoleCost-v1, whose reward is a cost
//! (docs/algorithms/environments.md §1).
//!
//! - State, which is also the observation: (x, x', θ, θ'), with θ = 0 upright. The cart has mass 1.0, the pole has mass
//!   m = 0.1 and half-length l = 0.5. The total mass is M = 1.1, and g = 9.8.
//! - Step: explicit Euler step of 0.02 s under a force F, with all terms from the old values:
//!   tmp = (F + m l θ'² sin θ) / M, θ'' = (g sin θ − cos θ · tmp) / (l (4/3 − m cos² θ / M)),
//!   x'' = tmp − m l θ'' cos θ / M.
//! - CartPole-v1: F is −10 or 10, and the reward is 1 per step. Terminates if |x| > 2.4 or |θ| > 12°. An episode has at
//!   most 500 steps. The numbers of the start state are drawn from U(±0.05).
//! - CartPoleCost-v1: F is in `[−20, 20]`, and the cost is (x/10)² + 20 (θ/20°)². Terminates if |x| > 10 or |θ| > 20°;
//!   the cost of that step is 100. An episode has at most 250 steps. The start value of x is drawn from U(±5), the
//!   other numbers of the start state from U(±0.2).

use super::helpers::{
    check_action, check_index, check_params, continuous, discrete, uniform, write_obs,
};
use super::{Env, EnvError, EnvParams, StateAccess, StepOutcome};
use crate::draw::{Frame, classic};
use common::spec::EnvSpec;
use rand_pcg::Pcg64;

/// Name of the environment with discrete actions.
pub const NAME: &str = "CartPole-v1";
/// Name of the environment with continuous actions and costs.
pub const COST_NAME: &str = "CartPoleCost-v1";

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = 1.1;
const HALF_LENGTH: f64 = 0.5;
const TIME_STEP: f64 = 0.02;

const FORCE: f64 = 10.0;
const X_MAX: f64 = 2.4;
const ANGLE_MAX: f64 = 12.0 * std::f64::consts::PI / 180.0;

const COST_FORCE_MAX: f64 = 20.0;
const COST_X_MAX: f64 = 10.0;
const COST_ANGLE_MAX: f64 = 20.0 * std::f64::consts::PI / 180.0;
const COST_MAX: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Balance,
    Cost,
}

/// A cart with a pole, without its time limit.
#[derive(Debug)]
pub struct CartPole {
    task: Task,
    spec: EnvSpec,
    state: [f64; 4],
    /// Force of the last step, for drawing.
    force: f64,
    rng: Pcg64,
}

pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(NAME, params, &[])?;
    Ok(Box::new(CartPole::new()))
}

pub(super) fn make_cost(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(COST_NAME, params, &[])?;
    Ok(Box::new(CartPole::with_costs()))
}

impl CartPole {
    /// Creates CartPole-v1. It must be reset before its first step.
    pub fn new() -> Self {
        Self::of(Task::Balance, discrete(NAME, 4, 2, 500))
    }

    /// Creates CartPoleCost-v1. It must be reset before its first step.
    pub fn with_costs() -> Self {
        let force = [COST_FORCE_MAX];
        Self::of(Task::Cost, continuous(COST_NAME, 4, &force.map(|f| -f), &force, 250))
    }

    fn of(task: Task, spec: EnvSpec) -> Self {
        Self { task, spec, state: [0.0; 4], force: 0.0, rng: Pcg64::new(0, 0) }
    }

    fn push(&mut self, force: f64) {
        self.force = force;
        let [x, x_dot, theta, theta_dot] = self.state;
        let (sin, cos) = theta.sin_cos();
        let pole_moment = POLE_MASS * HALF_LENGTH;
        let tmp = (force + pole_moment * theta_dot * theta_dot * sin) / TOTAL_MASS;
        let theta_acc = (GRAVITY * sin - cos * tmp)
            / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * cos * cos / TOTAL_MASS));
        let x_acc = tmp - pole_moment * theta_acc * cos / TOTAL_MASS;
        self.state = [
            x + TIME_STEP * x_dot,
            x_dot + TIME_STEP * x_acc,
            theta + TIME_STEP * theta_dot,
            theta_dot + TIME_STEP * theta_acc,
        ];
    }
}

impl Default for CartPole {
    fn default() -> Self {
        Self::new()
    }
}

impl StateAccess for CartPole {
    fn state(&self) -> Vec<f64> {
        self.state.to_vec()
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state.copy_from_slice(state);
    }
}

impl Env for CartPole {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        let bounds = match self.task {
            Task::Balance => [0.05; 4],
            Task::Cost => [5.0, 0.2, 0.2, 0.2],
        };
        self.force = 0.0;
        self.state = bounds.map(|bound| uniform(&mut self.rng, -bound, bound));
        write_obs(obs, &self.state);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let (reward, terminated) = match self.task {
            Task::Balance => {
                self.push(if check_index(action, 2)? == 1 { FORCE } else { -FORCE });
                let [x, _, theta, _] = self.state;
                (1.0, x.abs() > X_MAX || theta.abs() > ANGLE_MAX)
            }
            Task::Cost => {
                check_action(action)?;
                self.push(f64::from(action[0]).clamp(-COST_FORCE_MAX, COST_FORCE_MAX));
                let [x, _, theta, _] = self.state;
                let out = x.abs() > COST_X_MAX || theta.abs() > COST_ANGLE_MAX;
                let cost = (x / COST_X_MAX).powi(2) + 20.0 * (theta / COST_ANGLE_MAX).powi(2);
                (if out || cost > COST_MAX { COST_MAX } else { cost }, out || cost > COST_MAX)
            }
        };
        write_obs(obs, &self.state);
        Ok(StepOutcome { reward, terminated, truncated: false })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        let (force_max, x_max) = match self.task {
            Task::Balance => (FORCE, X_MAX),
            Task::Cost => (COST_FORCE_MAX, COST_X_MAX),
        };
        let [x, _, theta, _] = self.state;
        Ok(Some(classic::cart_pole(x, theta, self.force / force_max, x_max, TIME_STEP)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_that_of_the_new_state_and_a_fall_costs_a_hundred() {
        let mut env = CartPole::with_costs();
        let mut obs = [0.0; 4];
        env.set_state(&[2.0, 50.0, 0.1, 0.0]);
        let outcome = env.step(&[0.0], &mut obs).unwrap();
        // After the step x is 3, and the angle is unchanged.
        let expected = 0.09 + 20.0 * (0.1 / COST_ANGLE_MAX).powi(2);
        assert!((outcome.reward - expected).abs() < 1e-12 && !outcome.terminated);
        env.set_state(&[0.0, 0.0, 0.349, 1.0]);
        let outcome = env.step(&[0.0], &mut obs).unwrap();
        assert_eq!((outcome.reward, outcome.terminated), (100.0, true));
    }

    #[test]
    fn forces_beyond_the_bounds_are_clipped() {
        let after = |force| {
            let (mut env, mut obs) = (CartPole::with_costs(), [0.0; 4]);
            env.step(&[force], &mut obs).unwrap();
            obs
        };
        assert_eq!(after(20.0), after(1e6));
        assert_ne!(after(20.0), after(19.0));
    }
}
