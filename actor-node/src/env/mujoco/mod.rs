//! The MuJoCo tasks of Gymnasium, version 5, stepped from Rust.
//!
//! Observations, rewards, terminations, start states, frame skips and time limits are equal to those of Gymnasium 1.4
//! with MuJoCo 3.17.0 in every digit. Both use the same library, and `tests/mujoco_golden.rs` compares the tasks with
//! recorded trajectories. Keyword arguments of the Python classes are parameters here, with the same names and defaults
//! (`--env-param key=value`); the page of each family lists them. All tasks have `xml_file` (the name of a Gymnasium
//! model, or a path that begins with `/`, `.` or `~`) and `frame_skip`.
//!
//! `make mujoco` fetches the library and the models; the feature `mujoco` builds against them. Models are read from the
//! folder `models` next to the library's folder, or from the folder in `SAPEX_MUJOCO_MODELS`. Without the feature, the
//! tasks are listed, but creating one fails with an error that names the command to run.
//!
//! | page | tasks |
//! |---|---|
//! | `runners` | HalfCheetah, Hopper, Walker2d, Swimmer: planar, rewarded for speed |
//! | `ant` | Ant |
//! | `humanoid` | Humanoid, HumanoidStandup |
//! | `arms` | Reacher, Pusher |
//! | `poles` | InvertedPendulum, InvertedDoublePendulum |

#[cfg(feature = "mujoco")]
mod ant;
#[cfg(feature = "mujoco")]
mod arms;
#[cfg(feature = "mujoco")]
mod humanoid;
#[cfg(feature = "mujoco")]
mod lean;
#[cfg(feature = "mujoco")]
mod messages;
#[cfg(feature = "mujoco")]
mod options;
#[cfg(feature = "mujoco")]
mod poles;
#[cfg(feature = "mujoco")]
mod render;
#[cfg(feature = "mujoco")]
mod runners;
#[cfg(feature = "mujoco")]
mod simulation;
#[cfg(feature = "mujoco")]
mod sums;
#[cfg(feature = "mujoco")]
mod task;

use super::{Entry, Env, EnvError, Params};

#[cfg(feature = "mujoco")]
pub use simulation::Snapshot;
#[cfg(feature = "mujoco")]
pub use task::{Mujoco, Term};

const ANT: &str = "Ant-v5";
const HALF_CHEETAH: &str = "HalfCheetah-v5";
const HOPPER: &str = "Hopper-v5";
const HUMANOID: &str = "Humanoid-v5";
const HUMANOID_STANDUP: &str = "HumanoidStandup-v5";
const INVERTED_DOUBLE_PENDULUM: &str = "InvertedDoublePendulum-v5";
const INVERTED_PENDULUM: &str = "InvertedPendulum-v5";
const PUSHER: &str = "Pusher-v5";
const REACHER: &str = "Reacher-v5";
const SWIMMER: &str = "Swimmer-v5";
const WALKER: &str = "Walker2d-v5";

/// All MuJoCo tasks, including those that this build lacks.
pub(super) const ENVIRONMENTS: &[Entry] = &[
    Entry {
        name: HALF_CHEETAH,
        about: "run forward on two legs in a plane (Gymnasium, MuJoCo)",
        make: |params| make(HALF_CHEETAH, params),
    },
    Entry {
        name: HOPPER,
        about: "hop forward on one leg (Gymnasium, MuJoCo)",
        make: |params| make(HOPPER, params),
    },
    Entry {
        name: WALKER,
        about: "walk forward on two legs in a plane (Gymnasium, MuJoCo)",
        make: |params| make(WALKER, params),
    },
    Entry {
        name: ANT,
        about: "walk forward on four legs (Gymnasium, MuJoCo)",
        make: |params| make(ANT, params),
    },
    Entry {
        name: HUMANOID,
        about: "walk forward on two legs (Gymnasium, MuJoCo)",
        make: |params| make(HUMANOID, params),
    },
    Entry {
        name: HUMANOID_STANDUP,
        about: "stand up (Gymnasium, MuJoCo)",
        make: |params| make(HUMANOID_STANDUP, params),
    },
    Entry {
        name: SWIMMER,
        about: "swim forward with two joints (Gymnasium, MuJoCo)",
        make: |params| make(SWIMMER, params),
    },
    Entry {
        name: REACHER,
        about: "reach a point with a two-link arm (Gymnasium, MuJoCo)",
        make: |params| make(REACHER, params),
    },
    Entry {
        name: PUSHER,
        about: "push a cylinder to a goal with an arm (Gymnasium, MuJoCo)",
        make: |params| make(PUSHER, params),
    },
    Entry {
        name: INVERTED_PENDULUM,
        about: "balance a pole on a cart, a continuous push (Gymnasium, MuJoCo)",
        make: |params| make(INVERTED_PENDULUM, params),
    },
    Entry {
        name: INVERTED_DOUBLE_PENDULUM,
        about: "balance two poles on a cart (Gymnasium, MuJoCo)",
        make: |params| make(INVERTED_DOUBLE_PENDULUM, params),
    },
];

#[cfg(feature = "mujoco")]
fn make(name: &'static str, params: &Params) -> Result<Box<dyn Env>, EnvError> {
    Ok(Box::new(new(name, params)?))
}

#[cfg(not(feature = "mujoco"))]
fn make(name: &'static str, _: &Params) -> Result<Box<dyn Env>, EnvError> {
    Err(EnvError::NotBuilt { name, needs: "MuJoCo", run: "make mujoco" })
}

/// Creates a task without its time limit. Its type gives tests access to the simulator's state.
///
/// # Errors
/// Returns an error if there is no such task, if it cannot use a parameter, or if the library or the model is missing.
#[cfg(feature = "mujoco")]
pub fn new(name: &str, params: &Params) -> Result<Mujoco, EnvError> {
    match name {
        HALF_CHEETAH => runners::half_cheetah(params),
        HOPPER => runners::hopper(params),
        WALKER => runners::walker(params),
        SWIMMER => runners::swimmer(params),
        ANT => ant::ant(params),
        HUMANOID => humanoid::humanoid(params),
        HUMANOID_STANDUP => humanoid::standup(params),
        REACHER => arms::reacher(params),
        PUSHER => arms::pusher(params),
        INVERTED_PENDULUM => poles::single(params),
        INVERTED_DOUBLE_PENDULUM => poles::double(params),
        _ => Err(EnvError::Unknown { name: name.to_owned(), nearest: None }),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "mujoco"))]
    #[test]
    fn a_build_without_mujoco_says_what_to_run() {
        let error = super::make(super::HALF_CHEETAH, &super::Params::new()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "HalfCheetah-v5 needs MuJoCo, which this program was built without: run `make mujoco`"
        );
    }

    #[cfg(feature = "mujoco")]
    #[test]
    fn every_listed_task_can_be_made() {
        for entry in super::ENVIRONMENTS {
            super::new(entry.name, &super::Params::new()).unwrap();
        }
        assert!(super::new("Ant-v4", &super::Params::new()).is_err());
    }
}
