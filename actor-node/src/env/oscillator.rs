//! Oscillator-v1: control a ring of three genes so that a protein follows a wave. The reward is a cost
//! (docs/algorithms/environments.md §2).
//!
//! - State: m1..3 (messengers) and p1..3 (proteins). Actions are u in `[0, 1]³`.
//! - Step: explicit Euler step of 1 from the old values, then max(0, ·):
//!   m_i += −0.16 m_i + 1.6 / (1 + p_j²) + 5 u_i; p_i += −0.06 p_i + 0.16 m_i. For i = 1, 2, 3, the index j is 3, 1, 2.
//! - Cost: (p1 − r)² after the step. The reference is r(t) = 8 + 7 sin(2πt / 200), where t is the number of steps so
//!   far. Terminates when the cost exceeds 100.
//! - Observation: (m1..3, p1..3, r, p1 − r).
//! - Episode: at most 400 steps. All numbers of the start state are drawn from U(0, 5).

use super::helpers::{check_action, check_params, continuous, uniform, write_obs};
use super::{Env, EnvError, EnvParams, StepOutcome};
use crate::draw::{Frame, classic};
use common::spec::EnvSpec;
use rand_pcg::Pcg64;
use std::f64::consts::PI;

/// Name of the environment.
pub const NAME: &str = "Oscillator-v1";

const STEPS: u32 = 400;
const COST_MAX: f64 = 100.0;

#[derive(Debug)]
struct Oscillator {
    spec: EnvSpec,
    messengers: [f64; 3],
    proteins: [f64; 3],
    time: f64,
    /// Concentration of the first protein at the start and after each step of the episode, for drawing.
    past: Vec<f64>,
    rng: Pcg64,
}

pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    check_params(NAME, params, &[])?;
    Ok(Box::new(Oscillator::new()))
}

/// Returns the reference value of the first protein.
fn reference(time: f64) -> f64 {
    8.0 + 7.0 * (2.0 * PI * time / 200.0).sin()
}

impl Oscillator {
    fn new() -> Self {
        let spec = continuous(NAME, 8, &[0.0; 3], &[1.0; 3], STEPS);
        let rng = Pcg64::new(0, 0);
        Self { spec, messengers: [0.0; 3], proteins: [0.0; 3], time: 0.0, past: Vec::new(), rng }
    }

    fn reference(&self) -> f64 {
        reference(self.time)
    }

    fn observe(&self, obs: &mut [f32]) {
        let ([m1, m2, m3], [p1, p2, p3]) = (self.messengers, self.proteins);
        let reference = self.reference();
        write_obs(obs, &[m1, m2, m3, p1, p2, p3, reference, p1 - reference]);
    }
}

impl Env for Oscillator {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        if let Some(seed) = seed {
            self.rng = Pcg64::new(seed.into(), 0);
        }
        self.messengers = std::array::from_fn(|_| uniform(&mut self.rng, 0.0, 5.0));
        self.proteins = std::array::from_fn(|_| uniform(&mut self.rng, 0.0, 5.0));
        self.time = 0.0;
        self.past.clear();
        self.past.push(self.proteins[0]);
        self.observe(obs);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        check_action(action)?;
        let (m, p) = (self.messengers, self.proteins);
        self.messengers = std::array::from_fn(|i| {
            let light = f64::from(action[i]).clamp(0.0, 1.0);
            let repressor = p[(i + 2) % 3];
            let rate = -0.16 * m[i] + 1.6 / (1.0 + repressor * repressor) + 5.0 * light;
            (m[i] + rate).max(0.0)
        });
        self.proteins = std::array::from_fn(|i| (p[i] - 0.06 * p[i] + 0.16 * m[i]).max(0.0));
        self.time += 1.0;
        self.past.push(self.proteins[0]);
        let cost = (self.proteins[0] - self.reference()).powi(2);
        self.observe(obs);
        Ok(StepOutcome { reward: cost, terminated: cost > COST_MAX, truncated: false })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        Ok(Some(classic::oscillator(&self.past, reference, STEPS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_is_that_of_the_equations() {
        let mut env = Oscillator::new();
        env.messengers = [1.0, 2.0, 3.0];
        env.proteins = [4.0, 0.0, 2.0];
        let mut obs = [0.0; 8];
        let outcome = env.step(&[0.5, 2.0, -1.0], &mut obs).unwrap();
        let r = 8.0 + 7.0 * (PI / 100.0).sin();
        let expected = [
            1.0 - 0.16 + 1.6 / 5.0 + 2.5,
            2.0 - 0.32 + 1.6 / 17.0 + 5.0,
            3.0 - 0.48 + 1.6,
            4.0 - 0.24 + 0.16,
            0.32,
            2.0 - 0.12 + 0.48,
            r,
            3.92 - r,
        ];
        for (i, expected) in expected.into_iter().enumerate() {
            assert!((f64::from(obs[i]) - expected).abs() < 1e-6, "{i}: {}, {expected}", obs[i]);
        }
        assert!((outcome.reward - (3.92 - r) * (3.92 - r)).abs() < 1e-12);
        assert!(!outcome.terminated);
    }

    #[test]
    fn it_ends_where_the_protein_is_too_far_off() {
        let (mut env, mut obs) = (Oscillator::new(), [0.0; 8]);
        env.proteins[0] = 30.0;
        assert!(env.step(&[0.0; 3], &mut obs).unwrap().terminated);
    }
}
