//! Pendulum-v1, as Gymnasium 1.x steps it: swing a pendulum up and hold it there.
//!
//! State (theta, theta_dot), theta = 0 upright. One step of 0.05 s with torque u in [-2, 2], semi-implicit Euler:
//! theta_dot' = clip(theta_dot + (3g / 2l · sin theta + 3 / (m l²) · u) · dt, ±8), theta' = theta + theta_dot' · dt.
//! Reward −(θ² + 0.1 · theta_dot² + 0.001 · u²) of the state *before* the step, θ normalised to [−π, π). Observation
//! (cos theta, sin theta, theta_dot). 200 steps, never terminated.

use super::{Env, EnvError, Params, StepOutcome, check_action, check_params};
use common::spec::EnvSpec;
use rand::RngExt;
use rand_pcg::Pcg64;
use std::f64::consts::PI;

/// Its name.
pub const NAME: &str = "Pendulum-v1";

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
    rng: Pcg64,
}

/// Parameter `g`: gravity in m/s², 10 by default.
pub(super) fn make(params: &Params) -> Result<Box<dyn Env>, EnvError> {
    check_params(NAME, params, &["g"])?;
    let gravity = match params.get("g") {
        None => GRAVITY,
        Some(text) => text.parse().ok().filter(|g: &f64| g.is_finite()).ok_or_else(|| {
            EnvError::Parameter {
                env: NAME,
                key: "g".into(),
                value: text.clone(),
                expected: "expected a number".into(),
            }
        })?,
    };
    Ok(Box::new(Pendulum::new(gravity)))
}

impl Pendulum {
    /// A pendulum that hangs still until it is reset.
    #[expect(clippy::cast_possible_truncation, reason = "2 is 2 as f32")]
    pub fn new(gravity: f64) -> Self {
        let spec = EnvSpec {
            id: NAME.into(),
            obs_dim: 3,
            act_dim: 1,
            action_low: vec![-TORQUE_MAX as f32],
            action_high: vec![TORQUE_MAX as f32],
            episode_steps_max: Some(EPISODE_STEPS),
        };
        Self { spec, gravity, theta: PI, theta_dot: 0.0, rng: Pcg64::new(0, 0) }
    }

    /// (theta, theta_dot).
    pub fn state(&self) -> [f64; 2] {
        [self.theta, self.theta_dot]
    }

    /// Puts the pendulum there.
    pub fn set_state(&mut self, [theta, theta_dot]: [f64; 2]) {
        (self.theta, self.theta_dot) = (theta, theta_dot);
    }

    /// Writes the observation, shape (3).
    #[expect(clippy::cast_possible_truncation, reason = "observations are f32")]
    pub fn observe(&self, obs: &mut [f32]) {
        let (sin, cos) = self.theta.sin_cos();
        obs.copy_from_slice(&[cos as f32, sin as f32, self.theta_dot as f32]);
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
        self.theta = self.rng.random_range(-PI..PI);
        self.theta_dot = self.rng.random_range(-1.0..1.0);
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
        self.observe(obs);
        Ok(StepOutcome { reward: -cost, terminated: false, truncated: false })
    }
}
