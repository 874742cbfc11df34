//! All networks and algorithms by autograd, including those that the hand-written perceptron path does not support.
//!
//! The modules, from the lowest level up:
//! - [`params`]: parameters as flat vectors; gradients, Adam and Polyak averaging on them.
//! - [`net`]: forward passes of every body, over one step or a window of steps.
//! - [`policy`]: distributions from the network's outputs, samples and densities.
//! - [`critic`]: values of observations and actions.
//! - [`algorithm`]: the interface of every learning rule. The rules are [`sac`], [`discrete_sac`], [`lac`] and [`bcq`];
//!   BCQ has networks of its own, [`vae`] and [`perturbation`].
//! - `inputs`: copies a batch to the device; `trainer`: runs updates and collects statistics.
//!
//! Shapes: B items of a batch, T steps of each (1 for transitions), O observation, A action, S recurrent state, C
//! critics.
//!
//! Below the trainer, operations are written as equations with tch's operators, which panic if libtorch fails. The
//! trainer checks every shape beforehand. It converts the one remaining failure, a device failure, from a panic to an
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
