//! Ant-v5: a torso with four legs. The task rewards speed along x and staying upright, and penalises large actions and
//! contact forces.
//!
//! - Reward: `forward_reward_weight` · Δx / dt + (`healthy_reward` while healthy) − `ctrl_cost_weight` · |action|² −
//!   `contact_cost_weight` · |contact forces|². Δx is the movement of `main_body` along x in one step, and dt is the
//!   duration of a step. Contact forces are clipped to `contact_force_range`.
//! - Healthy: all positions and velocities are finite, and the height is within `healthy_z_range`.
//! - Observation: positions without x and y, velocities, and the clipped contact forces on every body except the world.
//! - Start: uniform noise on positions and Gaussian noise on velocities, both of scale `reset_noise_scale`.
//! - Episode: at most 1000 steps.
//!
//! | parameter | default |
//! |---|---|
//! | `frame_skip` | 5 |
//! | `forward_reward_weight`, `healthy_reward` | 1, 1 |
//! | `ctrl_cost_weight`, `contact_cost_weight` | 0.5, 5e-4 |
//! | `main_body` (number or name) | 1 |
//! | `terminate_when_unhealthy` | true |
//! | `healthy_z_range`, `contact_force_range` | 0.2,1 and -1,1 |
//! | `reset_noise_scale` | 0.1 |
//! | `exclude_current_positions_from_observation` | true |
//! | `include_cfrc_ext_in_observation` | true |

use super::ANT;
use super::options::Options;
use super::simulation::Simulation;
use super::sums::{norm, squares, sum};
use super::task::{Mujoco, Task, TaskOutcome, Term, shake, shake_normally, simulate};
use crate::env::{EnvError, EnvParams};
use rand_pcg::Pcg64;

#[derive(Debug)]
struct Ant {
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    contact_cost_weight: f64,
    healthy_reward: f64,
    main_body: usize,
    terminates: bool,
    healthy_z_range: (f64, f64),
    contact_force_range: (f64, f64),
    reset_noise_scale: f64,
    hidden: usize,
    sees_contact: bool,
    /// x and y of the main body before the step.
    before: [f64; 2],
}

/// Creates Ant-v5.
pub(super) fn ant(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(ANT, params);
    let sim = simulate(&options, "ant.xml", 5, true, 3)?;
    let main_body = options.text("main_body", "1");
    let bodies = sim.data().xpos().len();
    let named = || sim.body(&main_body);
    let main_body = main_body.parse().ok().filter(|&body| body < bodies).or_else(named);
    let excludes = options.switch("exclude_current_positions_from_observation", true)?;
    let ant = Ant {
        forward_reward_weight: options.number("forward_reward_weight", 1.0)?,
        ctrl_cost_weight: options.number("ctrl_cost_weight", 0.5)?,
        contact_cost_weight: options.number("contact_cost_weight", 5e-4)?,
        healthy_reward: options.number("healthy_reward", 1.0)?,
        main_body: main_body.ok_or_else(|| {
            options.refuse("main_body", format!("expected a body's name or number below {bodies}"))
        })?,
        terminates: options.switch("terminate_when_unhealthy", true)?,
        healthy_z_range: options.range("healthy_z_range", (0.2, 1.0))?,
        contact_force_range: options.range("contact_force_range", (-1.0, 1.0))?,
        reset_noise_scale: options.number("reset_noise_scale", 0.1)?,
        hidden: if excludes { 2 } else { 0 },
        sees_contact: options.switch("include_cfrc_ext_in_observation", true)?,
        before: [0.0; 2],
    };
    options.finish()?;
    Ok(Mujoco::new(ANT, 1000, sim, ant))
}

impl Ant {
    fn position(&self, sim: &Simulation) -> [f64; 2] {
        let [x, y, _] = sim.data().xpos()[self.main_body];
        [x, y]
    }

    fn clip(&self, force: f64) -> f64 {
        let (low, high) = self.contact_force_range;
        force.clamp(low, high)
    }

    fn is_healthy(&self, qpos: &[f64], qvel: &[f64]) -> bool {
        let (low, high) = self.healthy_z_range;
        qpos.iter().chain(qvel).all(|value| value.is_finite()) && (low..=high).contains(&qpos[2])
    }
}

impl Task for Ant {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        shake(rng, self.reset_noise_scale, qpos);
        shake_normally(rng, self.reset_noise_scale, qvel);
    }

    fn before(&mut self, sim: &Simulation) {
        self.before = self.position(sim);
    }

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        let data = sim.data();
        obs.extend_from_slice(&data.qpos()[self.hidden..]);
        obs.extend_from_slice(data.qvel());
        if self.sees_contact {
            obs.extend(data.cfrc_ext()[1..].iter().flatten().map(|&force| self.clip(force)));
        }
    }

    fn outcome(&self, sim: &Simulation, action: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let (qpos, qvel) = (sim.data().qpos(), sim.data().qvel());
        let after = self.position(sim);
        let [x_velocity, y_velocity] = [0, 1].map(|i| (after[i] - self.before[i]) / sim.dt());
        let is_healthy = self.is_healthy(qpos, qvel);
        let forward = x_velocity * self.forward_reward_weight;
        let survive = if is_healthy { self.healthy_reward } else { 0.0 };
        let ctrl_cost = self.ctrl_cost_weight * squares(action);
        let forces = sim.data().cfrc_ext().as_flattened();
        let contact_cost = self.contact_cost_weight * sum(forces, |force| self.clip(force).powi(2));
        terms.extend([
            ("x_position", qpos[0]),
            ("y_position", qpos[1]),
            ("distance_from_origin", norm(&qpos[..2])),
            ("x_velocity", x_velocity),
            ("y_velocity", y_velocity),
            ("reward_forward", forward),
            ("reward_ctrl", -ctrl_cost),
            ("reward_contact", -contact_cost),
            ("reward_survive", survive),
        ]);
        let reward = forward + survive - (ctrl_cost + contact_cost);
        TaskOutcome { reward, terminated: !is_healthy && self.terminates }
    }
}
