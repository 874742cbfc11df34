//! The tests of `cluster`, in one program because each program is linked anew.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod arlbench;
mod certs;
mod counting;
mod docs;
mod env_params;
mod evaluation;
#[cfg(feature = "formats")]
mod export;
mod front_door;
mod goldens;
mod learning;
mod lockstep;
mod presets;
mod processes;
#[cfg(feature = "formats")]
mod record;
mod run_directory;
mod sapex;
mod scaled_actors;
mod small_run;
mod space;
mod wire;
mod wrappers;
