//! HalfCheetah, Hopper, Walker2d, Swimmer: planar bodies that are rewarded for their speed along x.
//!
//! - Reward: `forward_reward_weight` · Δx / dt + (`healthy_reward` while healthy) − `ctrl_cost_weight` · |action|².
//! - Observation: positions, then velocities. `exclude_current_positions_from_observation` leaves out the first
//!   position, for Swimmer the first two. For Hopper and Walker2d, velocities are clipped to ±10.
//! - Start: the model's start state with uniform noise of ±`reset_noise_scale`. In HalfCheetah, the noise on velocities
//!   is Gaussian.
//! - Episode: at most 1000 steps.
//!
//! | parameter | HalfCheetah | Hopper | Walker2d | Swimmer |
//! |---|---|---|---|---|
//! | `frame_skip` | 5 | 4 | 4 | 4 |
//! | `forward_reward_weight` | 1 | 1 | 1 | 1 |
//! | `ctrl_cost_weight` | 0.1 | 1e-3 | 1e-3 | 1e-4 |
//! | `reset_noise_scale` | 0.1 | 5e-3 | 5e-3 | 0.1 |
//! | `exclude_current_positions_from_observation` | true | true | true | true |
//! | `healthy_reward`, `terminate_when_unhealthy` | – | 1, true | 1, true | – |
//! | `healthy_z_range` | – | 0.7,inf | 0.8,2 | – |
//! | `healthy_angle_range` | – | -0.2,0.2 | -1,1 | – |
//! | `healthy_state_range` (all but x and z) | – | -100,100 | – | – |

use super::options::Options;
use super::simulation::Simulation;
use super::sums::{norm, squares};
use super::task::{Mujoco, Task, TaskOutcome, Term, shake, shake_normally, simulate};
use super::{HALF_CHEETAH, HOPPER, SWIMMER, WALKER};
use crate::env::{EnvError, EnvParams};
use rand_pcg::Pcg64;

const STEPS_MAX: u32 = 1000;
const SPEED_SEEN_MAX: f64 = 10.0;

/// Any of the four tasks.
#[derive(Debug)]
struct Runner {
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    reset_noise_scale: f64,
    /// Whether the noise on start velocities is Gaussian.
    normal_velocities: bool,
    /// Number of leading positions that the observation excludes.
    hidden: usize,
    /// Whether the first two positions are x and y (Swimmer). Otherwise they are x and the height.
    swims: bool,
    health: Option<Health>,
    /// Height in the model's start state.
    initial_z: f64,
    /// The first two positions before the step: x and y, or x and z.
    before: [f64; 2],
}

/// Conditions of being healthy, for Hopper and Walker2d.
#[derive(Debug)]
struct Health {
    reward: f64,
    terminates: bool,
    z: (f64, f64),
    angle: (f64, f64),
    state: (f64, f64),
}

const ANYTHING: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

/// Returns whether `value` is strictly between the bounds. Returns `false` for NaN.
fn within((low, high): (f64, f64), value: f64) -> bool {
    low < value && value < high
}

impl Health {
    fn holds(&self, qpos: &[f64], qvel: &[f64]) -> bool {
        within(self.z, qpos[1])
            && within(self.angle, qpos[2])
            && (self.state == ANYTHING
                || qpos[2..].iter().chain(qvel).all(|&value| within(self.state, value)))
    }
}

/// Creates HalfCheetah-v5.
pub(super) fn half_cheetah(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(HALF_CHEETAH, params);
    let sim = simulate(&options, "half_cheetah.xml", 5, false, 3)?;
    let runner = Runner { normal_velocities: true, ..Runner::new(&options, &sim, 0.1, 0.1, 1)? };
    options.finish()?;
    Ok(Mujoco::new(HALF_CHEETAH, STEPS_MAX, sim, runner))
}

/// Creates Swimmer-v5.
pub(super) fn swimmer(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(SWIMMER, params);
    let sim = simulate(&options, "swimmer.xml", 4, false, 3)?;
    let runner = Runner { swims: true, ..Runner::new(&options, &sim, 1e-4, 0.1, 2)? };
    options.finish()?;
    Ok(Mujoco::new(SWIMMER, STEPS_MAX, sim, runner))
}

/// Creates Hopper-v5.
pub(super) fn hopper(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(HOPPER, params);
    let sim = simulate(&options, "hopper.xml", 4, false, 3)?;
    let state = options.range("healthy_state_range", (-100.0, 100.0))?;
    let health = health(&options, (0.7, f64::INFINITY), (-0.2, 0.2))?;
    let health = Some(Health { state, ..health });
    let runner = Runner { health, ..Runner::new(&options, &sim, 1e-3, 5e-3, 1)? };
    options.finish()?;
    Ok(Mujoco::new(HOPPER, STEPS_MAX, sim, runner))
}

/// Creates Walker2d-v5.
pub(super) fn walker(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(WALKER, params);
    let sim = simulate(&options, "walker2d_v5.xml", 4, false, 3)?;
    let health = Some(health(&options, (0.8, 2.0), (-1.0, 1.0))?);
    let runner = Runner { health, ..Runner::new(&options, &sim, 1e-3, 5e-3, 1)? };
    options.finish()?;
    Ok(Mujoco::new(WALKER, STEPS_MAX, sim, runner))
}

fn health(options: &Options<'_>, z: (f64, f64), angle: (f64, f64)) -> Result<Health, EnvError> {
    Ok(Health {
        reward: options.number("healthy_reward", 1.0)?,
        terminates: options.switch("terminate_when_unhealthy", true)?,
        z: options.range("healthy_z_range", z)?,
        angle: options.range("healthy_angle_range", angle)?,
        state: ANYTHING,
    })
}

impl Runner {
    /// Creates the common part of the four tasks. The last three arguments are the default values of one task.
    fn new(
        options: &Options<'_>,
        sim: &Simulation,
        ctrl_cost_weight: f64,
        reset_noise_scale: f64,
        hidden: usize,
    ) -> Result<Self, EnvError> {
        let excludes = options.switch("exclude_current_positions_from_observation", true)?;
        Ok(Self {
            forward_reward_weight: options.number("forward_reward_weight", 1.0)?,
            ctrl_cost_weight: options.number("ctrl_cost_weight", ctrl_cost_weight)?,
            reset_noise_scale: options.number("reset_noise_scale", reset_noise_scale)?,
            normal_velocities: false,
            hidden: if excludes { hidden } else { 0 },
            swims: false,
            health: None,
            initial_z: sim.model().qpos0()[1],
            before: [0.0; 2],
        })
    }
}

impl Task for Runner {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        shake(rng, self.reset_noise_scale, qpos);
        if self.normal_velocities {
            shake_normally(rng, self.reset_noise_scale, qvel);
        } else {
            shake(rng, self.reset_noise_scale, qvel);
        }
    }

    fn before(&mut self, sim: &Simulation) {
        let qpos = sim.data().qpos();
        self.before = [qpos[0], qpos[1]];
    }

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        obs.extend_from_slice(&sim.data().qpos()[self.hidden..]);
        let clips = self.health.is_some();
        obs.extend(sim.data().qvel().iter().map(|&speed| {
            if clips { speed.clamp(-SPEED_SEEN_MAX, SPEED_SEEN_MAX) } else { speed }
        }));
    }

    fn outcome(&self, sim: &Simulation, action: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let (qpos, qvel) = (sim.data().qpos(), sim.data().qvel());
        let speed = (qpos[0] - self.before[0]) / sim.dt();
        terms.push(("x_position", qpos[0]));
        terms.push(("x_velocity", speed));
        if self.swims {
            terms.push(("y_position", qpos[1]));
            terms.push(("y_velocity", (qpos[1] - self.before[1]) / sim.dt()));
            terms.push(("distance_from_origin", norm(&qpos[..2])));
        } else if self.health.is_some() {
            terms.push(("z_distance_from_origin", qpos[1] - self.initial_z));
        }
        let forward = self.forward_reward_weight * speed;
        let ctrl_cost = self.ctrl_cost_weight * squares(action);
        terms.push(("reward_forward", forward));
        terms.push(("reward_ctrl", -ctrl_cost));
        let Some(health) = &self.health else {
            return TaskOutcome { reward: forward - ctrl_cost, terminated: false };
        };
        let is_healthy = health.holds(qpos, qvel);
        let survive = if is_healthy { health.reward } else { 0.0 };
        terms.push(("reward_survive", survive));
        let terminated = !is_healthy && health.terminates;
        TaskOutcome { reward: forward + survive - ctrl_cost, terminated }
    }
}
