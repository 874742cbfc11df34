//! The policy: its description, its weights, its inference in plain Rust and the squashing maths.
//!
//! - [`arch`]: [`PolicyArch`](arch::PolicyArch), body and head; [`body`]: the tensors of each body; [`layout`]: their
//!   names, shapes and order. Together the single source of truth for checkpoint keys and wire order.
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
pub mod infer;
pub mod kernels;
pub mod layout;
mod network;
pub mod snapshot;
pub mod squash;
pub mod wiring;
