//! The MuJoCo tasks of Gymnasium, version 5, stepped from Rust.
//!
//! Observations, rewards, terminations, start states, frame skips and time limits are equal to those of Gymnasium 1.4
//! with MuJoCo 3.17.0 in every digit. Sapex and Gymnasium use the same library, and `tests/mujoco_golden.rs` compares
//! the tasks with recorded trajectories. Keyword arguments of the Python classes are parameters here, with the same
//! names and defaults (`--env-param key=value`). The module of each task lists them. All tasks have `xml_file` (the
//! name of a Gymnasium model, or a path that begins with `/`, `.` or `~`) and `frame_skip`.
//!
//! `make mujoco` downloads the library and the models, and a build with the feature `mujoco` links the library. Models
//! are read from the folder `models` next to the library's folder, or from the folder in `SAPEX_MUJOCO_MODELS`. Without
//! the feature, the tasks are listed, but creating one fails with an error that names the command to run.
//!
//! | module | tasks |
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

use super::{Env, EnvError, EnvParams};

#[cfg(feature = "mujoco")]
pub use simulation::SimulationState;
#[cfg(feature = "mujoco")]
pub use task::{Mujoco, Term};

pub(super) const ANT: &str = "Ant-v5";
pub(super) const HALF_CHEETAH: &str = "HalfCheetah-v5";
pub(super) const HOPPER: &str = "Hopper-v5";
pub(super) const HUMANOID: &str = "Humanoid-v5";
pub(super) const HUMANOID_STANDUP: &str = "HumanoidStandup-v5";
pub(super) const INVERTED_DOUBLE_PENDULUM: &str = "InvertedDoublePendulum-v5";
pub(super) const INVERTED_PENDULUM: &str = "InvertedPendulum-v5";
pub(super) const PUSHER: &str = "Pusher-v5";
pub(super) const REACHER: &str = "Reacher-v5";
pub(super) const SWIMMER: &str = "Swimmer-v5";
pub(super) const WALKER: &str = "Walker2d-v5";

/// Creates a task without its time limit.
#[cfg(feature = "mujoco")]
pub(super) fn make(name: &'static str, params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    Ok(Box::new(new(name, params)?))
}

/// Refuses to create a task, because this build lacks MuJoCo.
#[cfg(not(feature = "mujoco"))]
pub(super) fn make(name: &'static str, _: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    Err(EnvError::NotBuilt { name, needs: "MuJoCo", run: "make mujoco" })
}

/// Creates a task without its time limit. The concrete return type gives tests access to the simulator's state.
///
/// # Errors
/// Returns an error if there is no such task, if it cannot use a parameter, or if the library or the model is missing.
#[cfg(feature = "mujoco")]
pub fn new(name: &str, params: &EnvParams) -> Result<Mujoco, EnvError> {
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
        let error = super::make(super::HALF_CHEETAH, &super::EnvParams::new()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "HalfCheetah-v5 needs MuJoCo, which this program was built without: run `make mujoco`"
        );
    }
}
