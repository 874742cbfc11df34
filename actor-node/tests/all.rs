//! The tests of `actor-node`, in one program because each program is linked anew.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod actor;
mod bridge;
mod env_golden;
mod evaluation;
mod exploration;
mod golden;
mod lanes;
#[cfg(feature = "mujoco")]
mod mujoco_env;
#[cfg(feature = "mujoco")]
mod mujoco_golden;
#[cfg(feature = "mujoco")]
mod mujoco_render;
mod recording;
mod rows;
mod shapes;
mod wrappers;
