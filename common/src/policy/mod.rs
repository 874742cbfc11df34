//! The policy: its description, its weights, its inference in plain Rust and the squashing maths.
//!
//! - [`arch`]: [`PolicyArch`](arch::PolicyArch) and its tensor layout, the single source of truth for names, shapes,
//!   checkpoint keys and wire order.

pub mod arch;
