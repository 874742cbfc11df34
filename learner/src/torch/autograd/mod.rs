//! Training of all networks and algorithms by autograd, including those that the hand-written updates do not support.
//!
//! The modules, from the lowest level up:
//! - [`params`]: parameters as flat vectors, with gradients, Adam and Polyak averaging.
//! - [`net`]: forward passes of all bodies, over one step or over a window of steps.
//! - [`policy`]: distributions over actions, samples from them, and the densities of the samples.
//! - [`critic`]: forward passes of critics.
//! - [`algorithm`]: the interface of every learning rule. The rules are [`sac`], [`discrete_sac`], [`lac`] and [`bcq`].
//!   Only BCQ uses the networks in [`vae`] and [`perturbation`].
//! - `inputs`: copies a batch to the device; `trainer`: runs updates and collects statistics.
//!
//! Letters in shapes: B items of a batch, T steps of an item (1 for transitions), O observation elements, A action
//! elements, S elements of the recurrent state, C critics.
//!
//! All modules except the trainer write operations as equations with tch's operators, which panic if libtorch fails.
//! The trainer checks every shape beforehand. Then only the device can fail, and the trainer converts this panic to an
//! error.

pub mod algorithm;
pub mod bcq;
pub mod critic;
pub mod discrete_sac;
mod inputs;
pub mod lac;
pub mod net;
pub mod params;
pub mod perturbation;
pub mod policy;
pub mod sac;
mod trainer;
pub mod vae;

pub use trainer::{AutogradTrainer, serves};
