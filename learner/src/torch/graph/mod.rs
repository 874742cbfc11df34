//! Every network and algorithm by autograd: what the hand-written perceptron path beside it does not cover.
//!
//! Bottom up:
//! - [`params`]: parameters as flat vectors; gradients, Adam and Polyak averaging on them.
//! - [`net`]: forward passes of every body, one step or a window.
//! - [`policy`]: from a network's numbers to distributions, samples and densities.
//! - [`critic`]: values of observations and actions.
//! - [`algorithm`]: what every learning rule is given and gives back; the rules are [`sac`], [`discrete_sac`],
//!   [`lac`] and [`bcq`], whose own networks are [`vae`] and [`perturbation`].
//! - `trainer`: batches in, statistics out; `inputs`: a batch on its way to the device.
//!
//! Shapes: B items of a batch, T steps of each (1 for transitions), O observation, A action, S recurrent state, C critics.
//!
//! Below the trainer, operations are written as equations: tch's operators, which panic where libtorch fails. The trainer
//! checks every shape beforehand, and turns the one failure that is left, that of a device, back into an error.

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

pub use trainer::GraphTrainer;
