//! InvertedPendulum-v5 and InvertedDoublePendulum-v5: one or two poles on a cart, kept upright by a continuous push.
//!
//! - InvertedPendulum: the reward is 1 per step, and 0 for the step that terminates. Terminates when the pole leans
//!   more than 0.2 rad or a number is not finite. Observation: positions and velocities. Start: uniform noise of
//!   ±`reset_noise_scale` (0.01). `frame_skip` is 2.
//! - InvertedDoublePendulum: the reward is `healthy_reward` (10) while the tip is higher than 1, minus two costs. With
//!   the tip at (x, y), the cost of the tip is 0.01 x² + (y − 2)². With angular velocities v₁ and v₂, the cost of the
//!   poles is 1e-3 v₁² + 5e-3 v₂². Terminates when the tip is at 1 or lower. Observation: x of the cart, sin and cos of
//!   the angles, velocities clipped to ±10, the constraint force on the cart clipped to ±10.
//!   Start: uniform noise on positions and Gaussian noise on velocities, both of scale `reset_noise_scale` (0.1).
//!   `frame_skip` is 5.
//!
//! Episodes have at most 1000 steps.

use super::options::Options;
use super::simulation::Simulation;
use super::task::{Mujoco, Task, TaskOutcome, Term, shake, shake_normally, simulate};
use super::{INVERTED_DOUBLE_PENDULUM, INVERTED_PENDULUM};
use crate::env::{EnvError, EnvParams};
use rand_pcg::Pcg64;

const STEPS_MAX: u32 = 1000;
const LEAN_MAX: f64 = 0.2;
/// Bound to which observed velocities and forces are clipped.
const SEEN_MAX: f64 = 10.0;
/// Height at or below which the double pendulum's tip counts as fallen.
const FALLEN: f64 = 1.0;

#[derive(Debug)]
struct Single {
    reset_noise_scale: f64,
}

/// Creates InvertedPendulum-v5.
pub(super) fn single(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(INVERTED_PENDULUM, params);
    let sim = simulate(&options, "inverted_pendulum.xml", 2, false, 2)?;
    let single = Single { reset_noise_scale: options.number("reset_noise_scale", 0.01)? };
    options.finish()?;
    Ok(Mujoco::new(INVERTED_PENDULUM, STEPS_MAX, sim, single))
}

impl Task for Single {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        shake(rng, self.reset_noise_scale, qpos);
        shake(rng, self.reset_noise_scale, qvel);
    }

    fn before(&mut self, _: &Simulation) {}

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        obs.extend_from_slice(sim.data().qpos());
        obs.extend_from_slice(sim.data().qvel());
    }

    fn outcome(&self, sim: &Simulation, _: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let (qpos, qvel) = (sim.data().qpos(), sim.data().qvel());
        let is_finite = qpos.iter().chain(qvel).all(|value| value.is_finite());
        let terminated = !is_finite || qpos[1].abs() > LEAN_MAX;
        let reward = if terminated { 0.0 } else { 1.0 };
        terms.push(("reward_survive", reward));
        TaskOutcome { reward, terminated }
    }
}

#[derive(Debug)]
struct Double {
    healthy_reward: f64,
    reset_noise_scale: f64,
}

/// Creates InvertedDoublePendulum-v5.
pub(super) fn double(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(INVERTED_DOUBLE_PENDULUM, params);
    let sim = simulate(&options, "inverted_double_pendulum.xml", 5, false, 3)?;
    if sim.data().site_xpos().is_empty() {
        return Err(options.refuse("xml_file", "expected a model with a site at the tip"));
    }
    let double = Double {
        healthy_reward: options.number("healthy_reward", 10.0)?,
        reset_noise_scale: options.number("reset_noise_scale", 0.1)?,
    };
    options.finish()?;
    Ok(Mujoco::new(INVERTED_DOUBLE_PENDULUM, STEPS_MAX, sim, double))
}

impl Task for Double {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        shake(rng, self.reset_noise_scale, qpos);
        shake_normally(rng, self.reset_noise_scale, qvel);
    }

    fn before(&mut self, _: &Simulation) {}

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        let data = sim.data();
        let (cart, angles) = data.qpos().split_at(1);
        let clip = |value: &f64| value.clamp(-SEEN_MAX, SEEN_MAX);
        obs.extend_from_slice(cart);
        obs.extend(angles.iter().map(|angle| angle.sin()));
        obs.extend(angles.iter().map(|angle| angle.cos()));
        obs.extend(data.qvel().iter().map(clip));
        obs.extend(data.qfrc_constraint().first().map(clip));
    }

    fn outcome(&self, sim: &Simulation, _: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let [x, _, y] = sim.data().site_xpos()[0];
        let qvel = sim.data().qvel();
        let terminated = y <= FALLEN;
        let distance_penalty = 0.01 * x.powi(2) + (y - 2.0).powi(2);
        let velocity_penalty = 0.001 * qvel[1].powi(2) + 0.005 * qvel[2].powi(2);
        let survive = if terminated { 0.0 } else { self.healthy_reward };
        terms.extend([
            ("reward_survive", survive),
            ("distance_penalty", -distance_penalty),
            ("velocity_penalty", -velocity_penalty),
        ]);
        TaskOutcome { reward: survive - distance_penalty - velocity_penalty, terminated }
    }
}
