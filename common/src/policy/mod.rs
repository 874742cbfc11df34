//! The policy: its description, its weights, its inference in plain Rust, and the squashing functions.
//!
//! - [`arch`]: [`PolicyArch`](arch::PolicyArch), a head on a body. [`body`]: the kinds of bodies and their tensors.
//!   [`layout`]: names, shapes and order of tensors. These modules alone define checkpoint keys and wire order.
//!   `bounds`: the largest sizes.
//! - [`wiring`]: the synapses of a wired body.
//! - [`snapshot`]: [`PolicySnapshot`](snapshot::PolicySnapshot), one version of the weights, on the wire and on disk.
//! - [`infer`]: [`PolicyNet`](infer::PolicyNet), the forward pass for actors.
//! - [`squash`]: the tanh-Gaussian distribution of actions.
//!
//! The arithmetic per instruction set is in the crate `kernels`.
//!
//! [`PolicyArch::hash`](arch::PolicyArch::hash) identifies an architecture. A weight vector carries the hash of its
//! architecture, and is used only with that architecture.

pub mod arch;
pub mod body;
mod bounds;
pub mod infer;
pub mod layout;
mod network;
pub mod snapshot;
pub mod squash;
pub mod wiring;
