//! Pendulum-v1, with the dynamics of Gymnasium 1.x: swing a pendulum up and hold it there.
//!
//! - State: (theta, theta_dot), with theta = 0 upright.
//! - Step: semi-implicit Euler step of dt = 0.05 s with a torque u in `[-2, 2]`. Gravity g is 10 by default; mass m and
//!   length l are 1:
//!   theta_dot' = clip(theta_dot + (3g / 2l · sin theta + 3 / (m l²) · u) · dt, ±8), theta' = theta + theta_dot' · dt.
//! - Reward: −(θ² + 0.1 · theta_dot² + 0.001 · u²) of the state *before* the step. θ is theta, normalised to [−π, π).
//! - Observation: (cos theta, sin theta, theta_dot).
//! - Episode: 200 steps, never terminated.
//!
//! PendulumNoVelocity-v1 is the same task, but its observation lacks theta_dot. Only a policy with memory can infer the
//! velocity.

use super::helpers::{check_action, check_params, continuous, uniform, write_obs};
use super::{Env, EnvError, EnvParams, StateAccess, StepOutcome};
use crate::draw::{Frame, classic};
use common::spec::EnvSpec;
use rand_pcg::Pcg64;
use std::f64::consts::PI;

/// Name of the environment.
pub const NAME: &str = "Pendulum-v1";
/// Name of the environment whose observation lacks the velocity.
pub const NO_VELOCITY_NAME: &str = "PendulumNoVelocity-v1";

const SPEED_MAX: f64 = 8.0;
const TORQUE_MAX: f64 = 2.0;
const TIME_STEP: f64 = 0.05;
const MASS: f64 = 1.0;
const LENGTH: f64 = 1.0;
const GRAVITY: f64 = 10.0;
const EPISODE_STEPS: u32 = 200;

/// The pendulum, without its time limit.
#[derive(Debug)]
pub struct Pendulum {
    spec: EnvSpec,
    gravity: f64,
    theta: f64,
    theta_dot: f64,
    /// Torque of the last step, for drawing.
    torque: f64,
    rng: Pcg64,
}

/// Creates Pendulum-v1. Its parameter `g` is gravity in m/s², 10 by default.
pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    Ok(Box::new(Pendulum::new(gravity(NAME, params)?)))
}

/// Creates PendulumNoVelocity-v1, with the same parameter `g` as for [`make`].
pub(super) fn make_no_velocity(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    Ok(Box::new(Pendulum::without_velocity(gravity(NO_VELOCITY_NAME, params)?)))
}

fn gravity(env: &'static str, params: &EnvParams) -> Result<f64, EnvError> {
    check_params(env, params, &["g"])?;
    let Some(text) = params.get("g") else { return Ok(GRAVITY) };
    text.parse().ok().filter(|g: &f64| g.is_finite()).ok_or_else(|| EnvError::Parameter {
        env,
        key: "g".into(),
        value: text.clone(),
        expected: "expected a number".into(),
    })
}

impl Pendulum {
    /// Creates a pendulum that hangs still. It must be reset before its first step.
    pub fn new(gravity: f64) -> Self {
        Self::observed_as(NAME, 3, gravity)
    }

    /// Creates a pendulum whose observation is (cos theta, sin theta). It must be reset before its first step.
    pub fn without_velocity(gravity: f64) -> Self {
        Self::observed_as(NO_VELOCITY_NAME, 2, gravity)
    }

    fn observed_as(name: &str, obs_dim: usize, gravity: f64) -> Self {
        let spec = continuous(name, obs_dim, &[-TORQUE_MAX], &[TORQUE_MAX], EPISODE_STEPS);
        Self { spec, gravity, theta: PI, theta_dot: 0.0, torque: 0.0, rng: Pcg64::new(0, 0) }
    }

    fn observe(&self, obs: &mut [f32]) {
        let (sin, cos) = self.theta.sin_cos();
        write_obs(obs, &[cos, sin, self.theta_dot][..self.spec.obs_dim]);
    }
}

impl StateAccess for Pendulum {
    fn state(&self) -> Vec<f64> {
        vec![self.theta, self.theta_dot]
    }

    fn set_state(&mut self, state: &[f64]) {
        (self.theta, self.theta_dot) = (state[0], state[1]);
    }
}

impl Env for Pendulum {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        self.theta = uniform(&mut self.rng, -PI, PI);
        self.theta_dot = uniform(&mut self.rng, -1.0, 1.0);
        self.torque = 0.0;
        self.observe(obs);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        check_action(action)?;
        let torque = f64::from(action[0]).clamp(-TORQUE_MAX, TORQUE_MAX);
        let angle = (self.theta + PI).rem_euclid(2.0 * PI) - PI;
        let cost = angle * angle + 0.1 * self.theta_dot * self.theta_dot + 0.001 * torque * torque;
        let acceleration = 3.0 * self.gravity / (2.0 * LENGTH) * self.theta.sin()
            + 3.0 / (MASS * LENGTH * LENGTH) * torque;
        self.theta_dot = (self.theta_dot + acceleration * TIME_STEP).clamp(-SPEED_MAX, SPEED_MAX);
        self.theta += self.theta_dot * TIME_STEP;
        self.torque = torque;
        self.observe(obs);
        Ok(StepOutcome { reward: -cost, terminated: false, truncated: false })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        Ok(Some(classic::pendulum(self.theta, self.torque / TORQUE_MAX, TIME_STEP)))
    }
}
