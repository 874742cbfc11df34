//! The tests of `learner`, in one program because each program is linked anew. `native_allocation` has a program of
//! its own, because it counts allocations.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod adam_goldens;
#[cfg(feature = "torch")]
mod autograd_bcq;
#[cfg(feature = "torch")]
mod autograd_bodies;
#[cfg(feature = "torch")]
mod autograd_drawn;
#[cfg(feature = "torch")]
mod autograd_heads;
#[cfg(feature = "torch")]
mod autograd_lac;
#[cfg(feature = "torch")]
mod autograd_sequences;
#[cfg(feature = "torch")]
mod autograd_support;
#[cfg(feature = "torch")]
mod autograd_trainer;
#[cfg(feature = "torch")]
mod autograd_updates;
mod checkpoint_files;
mod configured;
mod discrete_goldens;
mod divergence;
mod drawn;
mod fresh_parameters;
mod full_disk;
mod golden;
mod native_configs;
mod native_determinism;
mod native_gradients;
mod normaliser_goldens;
#[cfg(feature = "minari")]
mod offline_arrow;
#[cfg(feature = "minari")]
mod offline_made;
#[cfg(feature = "minari")]
mod offline_minari;
mod offline_source;
mod offline_support;
mod resume;
mod sac_goldens;
mod schedule_goldens;
mod temperature;
#[cfg(feature = "torch")]
mod torch_vs_native;
mod updates;
