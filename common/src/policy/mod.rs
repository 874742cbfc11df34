//! The policy: its description, its weights, its inference in plain Rust and the squashing maths.
//!
//! - [`arch`]: [`PolicyArch`](arch::PolicyArch), head on body; [`body`]: what bodies there are, and their tensors;
//!   [`layout`]: names, shapes and order of tensors. Together the single source of truth for checkpoint keys and wire
//!   order. `bounds`: what is too large for them.
//! - [`wiring`]: which synapses of a wired body exist.
//! - [`snapshot`]: [`PolicySnapshot`](snapshot::PolicySnapshot), one version of the weights, on the wire and on disk.
//! - [`infer`]: [`PolicyNet`](infer::PolicyNet), the forward pass for actors.
//! - [`squash`]: the tanh-Gaussian on top of it.
//! - [`kernels`]: dense layers and tanh, per instruction set.
//!
//! [`PolicyArch::hash`](arch::PolicyArch::hash) ties them together: a weight vector is only ever used under the
//! architecture whose hash it carries.

pub mod arch;
pub mod body;
mod bounds;
pub mod infer;
pub mod kernels;
pub mod layout;
mod network;
pub mod snapshot;
pub mod squash;
pub mod wiring;
