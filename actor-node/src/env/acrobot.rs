//! Acrobot-v1, with the dynamics of Gymnasium 1.x. A torque on the elbow must swing the tip of a two-link arm above a
//! line.
//!
//! - State: (θ1, θ2, θ1', θ2'). Both angles are 0 when the arm hangs down. Each link has mass 1, length 1, moment of
//!   inertia 1 and its centre of mass in the middle.
//! - Step: one Runge–Kutta step of 0.2 s under a torque of −1, 0 or 1. Then angles are wrapped to `[−π, π]`, θ1' is
//!   clipped to ±4π, and θ2' to ±9π.
//! - Termination: −cos θ1 − cos(θ1 + θ2) > 1.
//! - Reward: −1 per step, and 0 for the step that terminates.
//! - Observation: (cos θ1, sin θ1, cos θ2, sin θ2, θ1', θ2').
//! - Episode: at most 500 steps. The numbers of the start state are drawn from U(±0.1).

use super::helpers::{check_index, check_params, discrete, uniform, write_obs};
use super::{Env, EnvError, EnvParams, StateAccess, StepOutcome};
use crate::draw::{Frame, classic};
use common::spec::EnvSpec;
use rand_pcg::Pcg64;
use std::f64::consts::PI;

/// Name of the environment.
pub const NAME: &str = "Acrobot-v1";

const GRAVITY: f64 = 9.8;
/// Distance from a joint to its link's centre of mass. All lengths, masses and moments of inertia are 1.
const CENTRE: f64 = 0.5;
const TIME_STEP: f64 = 0.2;
const SPEED_MAX: [f64; 2] = [4.0 * PI, 9.0 * PI];
const TORQUES: [f64; 3] = [-1.0, 0.0, 1.0];

/// The arm, without its time limit.
#[derive(Debug)]
pub struct Acrobot {
    spec: EnvSpec,
    state: [f64; 4],
    /// Torque of the last step, for drawing.
    torque: f64,
    rng: Pcg64,
}

pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(NAME, params, &[])?;
    Ok(Box::new(Acrobot::new()))
}

impl Acrobot {
    /// Creates an arm that hangs still. It must be reset before its first step.
    pub fn new() -> Self {
        let spec = discrete(NAME, 6, TORQUES.len(), 500);
        Self { spec, state: [0.0; 4], torque: 0.0, rng: Pcg64::new(0, 0) }
    }

    fn observe(&self, obs: &mut [f32]) {
        let [theta1, theta2, speed1, speed2] = self.state;
        let ((sin1, cos1), (sin2, cos2)) = (theta1.sin_cos(), theta2.sin_cos());
        write_obs(obs, &[cos1, sin1, cos2, sin2, speed1, speed2]);
    }
}

impl Default for Acrobot {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns d(state)/dt, from Sutton & Barto's form of the equations of motion.
fn derivative([theta1, theta2, speed1, speed2]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin2, cos2) = theta2.sin_cos();
    let elbow = CENTRE * CENTRE + 1.0;
    let d1 = CENTRE * CENTRE + (1.0 + CENTRE * CENTRE + 2.0 * CENTRE * cos2) + 2.0;
    let d2 = (CENTRE * CENTRE + CENTRE * cos2) + 1.0;
    let phi2 = CENTRE * GRAVITY * (theta1 + theta2 - PI / 2.0).cos();
    let phi1 = -CENTRE * speed2 * speed2 * sin2 - 2.0 * CENTRE * speed2 * speed1 * sin2
        + (CENTRE + 1.0) * GRAVITY * (theta1 - PI / 2.0).cos()
        + phi2;
    let acceleration2 =
        (torque + d2 / d1 * phi1 - CENTRE * speed1 * speed1 * sin2 - phi2) / (elbow - d2 * d2 / d1);
    let acceleration1 = -(d2 * acceleration2 + phi1) / d1;
    [speed1, speed2, acceleration1, acceleration2]
}

fn runge_kutta(y: [f64; 4], torque: f64) -> [f64; 4] {
    let ahead =
        |by: f64, k: [f64; 4]| derivative(std::array::from_fn(|i| y[i] + by * k[i]), torque);
    let k1 = derivative(y, torque);
    let k2 = ahead(TIME_STEP / 2.0, k1);
    let k3 = ahead(TIME_STEP / 2.0, k2);
    let k4 = ahead(TIME_STEP, k3);
    std::array::from_fn(|i| y[i] + TIME_STEP / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

/// Wraps an angle to `[−π, π]` by adding full turns.
fn wrap(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

impl StateAccess for Acrobot {
    fn state(&self) -> Vec<f64> {
        self.state.to_vec()
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state.copy_from_slice(state);
    }
}

impl Env for Acrobot {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        self.torque = 0.0;
        self.state = std::array::from_fn(|_| uniform(&mut self.rng, -0.1, 0.1));
        self.observe(obs);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let torque = TORQUES[check_index(action, TORQUES.len())?];
        self.torque = torque;
        let [theta1, theta2, speed1, speed2] = runge_kutta(self.state, torque);
        let clipped = |speed: f64, i: usize| speed.clamp(-SPEED_MAX[i], SPEED_MAX[i]);
        self.state = [wrap(theta1), wrap(theta2), clipped(speed1, 0), clipped(speed2, 1)];
        let [theta1, theta2, ..] = self.state;
        let terminated = -theta1.cos() - (theta2 + theta1).cos() > 1.0;
        self.observe(obs);
        let reward = if terminated { 0.0 } else { -1.0 };
        Ok(StepOutcome { reward, terminated, truncated: false })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        let [theta1, theta2, ..] = self.state;
        Ok(Some(classic::acrobot(theta1, theta2, self.torque, TIME_STEP)))
    }
}
