//! Humanoid-v5 is rewarded for the speed of its centre of mass along x and for staying upright. HumanoidStandup-v5
//! starts on its back and is rewarded for its height.
//!
//! - Observation: positions without x and y; velocities; inertia and mass of the bodies (10 numbers per body);
//!   velocities of the bodies (6 per body); actuator forces; contact forces on the bodies (6 per body). The world does
//!   not count as a body.
//! - Start: uniform noise of ±`reset_noise_scale`.
//! - Episode: at most 1000 steps.
//! - Reward of Humanoid: `forward_reward_weight` · Δx / dt + (`healthy_reward` while the height is within
//!   `healthy_z_range`) − `ctrl_cost_weight` · |control|² − `contact_cost_weight` · |contact forces|². The last term is
//!   clipped to `contact_cost_range`.
//! - Reward of HumanoidStandup: z / h − `ctrl_cost_weight` · |control|² − `impact_cost_weight` · |contact forces|² + 1.
//!   z is the height, and h is the duration of one simulator step in seconds. The impact term is clipped to
//!   `impact_cost_range`. `uph_cost_weight` is accepted and unused, as in Gymnasium.
//!
//! | parameter | Humanoid | HumanoidStandup |
//! |---|---|---|
//! | `frame_skip` | 5 | 5 |
//! | `forward_reward_weight`, `uph_cost_weight` | 1.25, – | –, 1 |
//! | `ctrl_cost_weight` | 0.1 | 0.1 |
//! | `contact_cost_weight`, `impact_cost_weight` | 5e-7, – | –, 5e-7 |
//! | `contact_cost_range`, `impact_cost_range` | -inf,10 and – | – and -inf,10 |
//! | `healthy_reward`, `terminate_when_unhealthy`, `healthy_z_range` | 5, true, 1,2 | – |
//! | `reset_noise_scale` | 0.01 | 0.01 |
//! | `exclude_current_positions_from_observation` | true | true |
//! | `include_{cinert,cvel,qfrc_actuator,cfrc_ext}_in_observation` | true | true |

use super::options::Options;
use super::simulation::Simulation;
use super::sums::{norm, squares, sum};
use super::task::{Mujoco, Task, TaskOutcome, Term, shake, simulate};
use super::{HUMANOID, HUMANOID_STANDUP};
use crate::env::{EnvError, EnvParams};
use rand_pcg::Pcg64;

const STEPS_MAX: u32 = 1000;
/// Number of velocities of the root's free joint, which has no actuators.
const ROOT: usize = 6;

/// Observation and start state of both tasks.
#[derive(Debug)]
struct Body {
    hidden: usize,
    sees_inertia: bool,
    sees_velocity: bool,
    sees_actuators: bool,
    sees_contact: bool,
    reset_noise_scale: f64,
}

impl Body {
    fn new(options: &Options<'_>) -> Result<Self, EnvError> {
        let excludes = options.switch("exclude_current_positions_from_observation", true)?;
        Ok(Self {
            hidden: if excludes { 2 } else { 0 },
            sees_inertia: options.switch("include_cinert_in_observation", true)?,
            sees_velocity: options.switch("include_cvel_in_observation", true)?,
            sees_actuators: options.switch("include_qfrc_actuator_in_observation", true)?,
            sees_contact: options.switch("include_cfrc_ext_in_observation", true)?,
            reset_noise_scale: options.number("reset_noise_scale", 0.01)?,
        })
    }

    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        shake(rng, self.reset_noise_scale, qpos);
        shake(rng, self.reset_noise_scale, qvel);
    }

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        let data = sim.data();
        obs.extend_from_slice(&data.qpos()[self.hidden..]);
        obs.extend_from_slice(data.qvel());
        if self.sees_inertia {
            obs.extend_from_slice(data.cinert()[1..].as_flattened());
        }
        if self.sees_velocity {
            obs.extend_from_slice(data.cvel()[1..].as_flattened());
        }
        if self.sees_actuators {
            obs.extend_from_slice(&data.qfrc_actuator()[ROOT..]);
        }
        if self.sees_contact {
            obs.extend_from_slice(data.cfrc_ext()[1..].as_flattened());
        }
    }
}

/// Appends the terms that both tasks report.
fn positions(sim: &Simulation, terms: &mut Vec<Term>) {
    let (qpos, data) = (sim.data().qpos(), sim.data());
    terms.push(("x_position", qpos[0]));
    terms.push(("y_position", qpos[1]));
    terms.extend(data.ten_length().iter().map(|&length| ("tendon_length", length)));
    terms.extend(data.ten_velocity().iter().map(|&velocity| ("tendon_velocity", velocity)));
}

/// Returns the weighted cost of contact forces, clipped to a range.
fn contact_cost(sim: &Simulation, weight: f64, (low, high): (f64, f64)) -> f64 {
    (weight * squares(sim.data().cfrc_ext().as_flattened())).clamp(low, high)
}

#[derive(Debug)]
struct Humanoid {
    body: Body,
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    contact_cost_weight: f64,
    contact_cost_range: (f64, f64),
    healthy_reward: f64,
    terminates: bool,
    healthy_z_range: (f64, f64),
    /// x and y of the centre of mass before the step.
    before: [f64; 2],
}

/// Creates Humanoid-v5.
pub(super) fn humanoid(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(HUMANOID, params);
    let sim = simulate(&options, "humanoid.xml", 5, true, ROOT)?;
    let humanoid = Humanoid {
        body: Body::new(&options)?,
        forward_reward_weight: options.number("forward_reward_weight", 1.25)?,
        ctrl_cost_weight: options.number("ctrl_cost_weight", 0.1)?,
        contact_cost_weight: options.number("contact_cost_weight", 5e-7)?,
        contact_cost_range: options.range("contact_cost_range", (f64::NEG_INFINITY, 10.0))?,
        healthy_reward: options.number("healthy_reward", 5.0)?,
        terminates: options.switch("terminate_when_unhealthy", true)?,
        healthy_z_range: options.range("healthy_z_range", (1.0, 2.0))?,
        before: [0.0; 2],
    };
    options.finish()?;
    Ok(Mujoco::new(HUMANOID, STEPS_MAX, sim, humanoid))
}

/// Returns x and y of the centre of mass.
fn mass_centre(sim: &Simulation) -> [f64; 2] {
    let masses = sim.model().body_mass();
    let total = sum(masses, |mass| mass);
    [0, 1].map(|axis| {
        let moments = masses.iter().zip(sim.data().xipos());
        moments.fold(0.0, |moment, (mass, centre)| moment + mass * centre[axis]) / total
    })
}

impl Task for Humanoid {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        self.body.start(rng, qpos, qvel);
    }

    fn before(&mut self, sim: &Simulation) {
        self.before = mass_centre(sim);
    }

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        self.body.observe(sim, obs);
    }

    fn outcome(&self, sim: &Simulation, _: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let after = mass_centre(sim);
        let [x_velocity, y_velocity] = [0, 1].map(|i| (after[i] - self.before[i]) / sim.dt());
        let qpos = sim.data().qpos();
        let (low, high) = self.healthy_z_range;
        let is_healthy = low < qpos[2] && qpos[2] < high;
        let forward = self.forward_reward_weight * x_velocity;
        let survive = if is_healthy { self.healthy_reward } else { 0.0 };
        let ctrl_cost = self.ctrl_cost_weight * squares(sim.data().ctrl());
        let contact_cost = contact_cost(sim, self.contact_cost_weight, self.contact_cost_range);
        positions(sim, terms);
        terms.extend([
            ("distance_from_origin", norm(&qpos[..2])),
            ("x_velocity", x_velocity),
            ("y_velocity", y_velocity),
            ("reward_survive", survive),
            ("reward_forward", forward),
            ("reward_ctrl", -ctrl_cost),
            ("reward_contact", -contact_cost),
        ]);
        let reward = forward + survive - (ctrl_cost + contact_cost);
        TaskOutcome { reward, terminated: !is_healthy && self.terminates }
    }
}

#[derive(Debug)]
struct Standup {
    body: Body,
    ctrl_cost_weight: f64,
    impact_cost_weight: f64,
    impact_cost_range: (f64, f64),
    /// Height in the model's start state.
    initial_z: f64,
}

/// Creates HumanoidStandup-v5.
pub(super) fn standup(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(HUMANOID_STANDUP, params);
    let sim = simulate(&options, "humanoidstandup.xml", 5, true, ROOT)?;
    options.number("uph_cost_weight", 1.0)?;
    let standup = Standup {
        body: Body::new(&options)?,
        ctrl_cost_weight: options.number("ctrl_cost_weight", 0.1)?,
        impact_cost_weight: options.number("impact_cost_weight", 5e-7)?,
        impact_cost_range: options.range("impact_cost_range", (f64::NEG_INFINITY, 10.0))?,
        initial_z: sim.model().qpos0()[2],
    };
    options.finish()?;
    Ok(Mujoco::new(HUMANOID_STANDUP, STEPS_MAX, sim, standup))
}

impl Task for Standup {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        self.body.start(rng, qpos, qvel);
    }

    fn before(&mut self, _: &Simulation) {}

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        self.body.observe(sim, obs);
    }

    fn outcome(&self, sim: &Simulation, _: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let z = sim.data().qpos()[2];
        let up = z / sim.timestep();
        let ctrl_cost = self.ctrl_cost_weight * squares(sim.data().ctrl());
        let impact_cost = contact_cost(sim, self.impact_cost_weight, self.impact_cost_range);
        positions(sim, terms);
        terms.extend([
            ("z_distance_from_origin", z - self.initial_z),
            ("reward_linup", up),
            ("reward_quadctrl", -ctrl_cost),
            ("reward_impact", -impact_cost),
        ]);
        TaskOutcome { reward: up - ctrl_cost - impact_cost + 1.0, terminated: false }
    }
}
