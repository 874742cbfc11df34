//! Reacher-v5: a two-link arm must touch a target. Pusher-v5: an arm must push a cylinder to a goal.
//!
//! - Reacher: the reward is −`reward_dist_weight` · |fingertip − target| − `reward_control_weight` · |action|².
//!   Observation: cos and sin of the two angles, the target, the two angular velocities, x and y of fingertip − target.
//!   Start: uniform noise of ±0.1 on the angles and ±0.005 on their velocities, and a target within 0.2 of the centre.
//!   At most 50 steps.
//! - Pusher: the reward is −`reward_dist_weight` · |cylinder − goal| − `reward_control_weight` · |action|² −
//!   `reward_near_weight` · |cylinder − fingertip|. Observation: the arm's 7 angles and 7 angular velocities, then the
//!   3D positions of fingertip, cylinder and goal. Start: the arm is at the model's start position, with uniform noise
//!   of ±0.005 on its velocities. The start position of the cylinder relative to the goal has x in [−0.3, 0) and y in
//!   [−0.2, 0.2), and is more than 0.17 from the goal. At most 100 steps.
//!
//! | parameter | Reacher | Pusher |
//! |---|---|---|
//! | `frame_skip` | 2 | 5 |
//! | `reward_dist_weight` | 1 | 1 |
//! | `reward_control_weight` | 1 | 0.1 |
//! | `reward_near_weight` | – | 0.5 |

use super::options::Options;
use super::simulation::Simulation;
use super::sums::{norm, squares};
use super::task::{Mujoco, Task, TaskOutcome, Term, shake, simulate};
use super::{PUSHER, REACHER};
use crate::env::helpers::uniform;
use crate::env::{EnvError, EnvParams};
use rand_pcg::Pcg64;

/// Number of angles of the Pusher's arm.
const PUSHER_ANGLES: usize = 7;
/// Largest distance of Reacher's targets from the centre.
const TARGET_RADIUS: f64 = 0.2;
/// Smallest start distance of Pusher's cylinder from the goal.
const CYLINDER_DISTANCE: f64 = 0.17;
const SPEED_NOISE: f64 = 0.005;

/// Returns the number of the body `name`, which the task needs.
fn body(options: &Options<'_>, sim: &Simulation, name: &str) -> Result<usize, EnvError> {
    let missing = || options.refuse("xml_file", format!("expected a model with a body {name}"));
    sim.body(name).ok_or_else(missing)
}

/// Returns the vector from body `to` to body `from`.
fn difference(sim: &Simulation, from: usize, to: usize) -> [f64; 3] {
    let positions = sim.data().xpos();
    std::array::from_fn(|axis| positions[from][axis] - positions[to][axis])
}

#[derive(Debug)]
struct Reacher {
    distance_weight: f64,
    control_weight: f64,
    fingertip: usize,
    target: usize,
}

/// Creates Reacher-v5.
pub(super) fn reacher(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(REACHER, params);
    let sim = simulate(&options, "reacher.xml", 2, false, 4)?;
    let reacher = Reacher {
        distance_weight: options.number("reward_dist_weight", 1.0)?,
        control_weight: options.number("reward_control_weight", 1.0)?,
        fingertip: body(&options, &sim, "fingertip")?,
        target: body(&options, &sim, "target")?,
    };
    options.finish()?;
    Ok(Mujoco::new(REACHER, 50, sim, reacher))
}

impl Task for Reacher {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        let target = loop {
            let target = [(); 2].map(|()| uniform(rng, -TARGET_RADIUS, TARGET_RADIUS));
            if norm(&target) < TARGET_RADIUS {
                break target;
            }
        };
        let angles = qpos.len() - target.len();
        shake(rng, 0.1, &mut qpos[..angles]);
        qpos[angles..].copy_from_slice(&target);
        let angles = qvel.len() - target.len();
        shake(rng, SPEED_NOISE, &mut qvel[..angles]);
    }

    fn before(&mut self, _: &Simulation) {}

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        let (qpos, qvel) = (sim.data().qpos(), sim.data().qvel());
        let (angles, rest) = qpos.split_at(2);
        obs.extend(angles.iter().map(|angle| angle.cos()));
        obs.extend(angles.iter().map(|angle| angle.sin()));
        obs.extend_from_slice(rest);
        obs.extend_from_slice(&qvel[..2]);
        obs.extend_from_slice(&difference(sim, self.fingertip, self.target)[..2]);
    }

    fn outcome(&self, sim: &Simulation, action: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let distance = norm(&difference(sim, self.fingertip, self.target));
        let reward_dist = -distance * self.distance_weight;
        let reward_ctrl = -squares(action) * self.control_weight;
        terms.extend([("reward_dist", reward_dist), ("reward_ctrl", reward_ctrl)]);
        TaskOutcome { reward: reward_dist + reward_ctrl, terminated: false }
    }
}

#[derive(Debug)]
struct Pusher {
    near_weight: f64,
    distance_weight: f64,
    control_weight: f64,
    fingertip: usize,
    cylinder: usize,
    goal: usize,
}

/// Creates Pusher-v5.
pub(super) fn pusher(params: &EnvParams) -> Result<Mujoco, EnvError> {
    let options = Options::new(PUSHER, params);
    let sim = simulate(&options, "pusher_v5.xml", 5, false, PUSHER_ANGLES)?;
    let pusher = Pusher {
        near_weight: options.number("reward_near_weight", 0.5)?,
        distance_weight: options.number("reward_dist_weight", 1.0)?,
        control_weight: options.number("reward_control_weight", 0.1)?,
        fingertip: body(&options, &sim, "tips_arm")?,
        cylinder: body(&options, &sim, "object")?,
        goal: body(&options, &sim, "goal")?,
    };
    options.finish()?;
    Ok(Mujoco::new(PUSHER, 100, sim, pusher))
}

impl Task for Pusher {
    fn start(&self, rng: &mut Pcg64, qpos: &mut [f64], qvel: &mut [f64]) {
        // The cylinder's position is relative to the goal, which stays at the model's position.
        let cylinder = loop {
            let cylinder = [uniform(rng, -0.3, 0.0), uniform(rng, -0.2, 0.2)];
            if norm(&cylinder) > CYLINDER_DISTANCE {
                break cylinder;
            }
        };
        let arm = qpos.len() - 4;
        qpos[arm..arm + 2].copy_from_slice(&cylinder);
        qpos[arm + 2..].fill(0.0);
        let arm = qvel.len() - 4;
        shake(rng, SPEED_NOISE, &mut qvel[..arm]);
    }

    fn before(&mut self, _: &Simulation) {}

    fn observe(&self, sim: &Simulation, obs: &mut Vec<f64>) {
        obs.extend_from_slice(&sim.data().qpos()[..PUSHER_ANGLES]);
        obs.extend_from_slice(&sim.data().qvel()[..PUSHER_ANGLES]);
        for body in [self.fingertip, self.cylinder, self.goal] {
            obs.extend_from_slice(&sim.data().xpos()[body]);
        }
    }

    fn outcome(&self, sim: &Simulation, action: &[f64], terms: &mut Vec<Term>) -> TaskOutcome {
        let near = norm(&difference(sim, self.cylinder, self.fingertip));
        let distance = norm(&difference(sim, self.cylinder, self.goal));
        let reward_near = -near * self.near_weight;
        let reward_dist = -distance * self.distance_weight;
        let reward_ctrl = -squares(action) * self.control_weight;
        terms.extend([
            ("reward_dist", reward_dist),
            ("reward_ctrl", reward_ctrl),
            ("reward_near", reward_near),
        ]);
        TaskOutcome { reward: reward_dist + reward_ctrl + reward_near, terminated: false }
    }
}
