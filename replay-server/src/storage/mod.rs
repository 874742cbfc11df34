//! Storage of a table's rows, and the check that a row must pass.
//!
//! - [`ring`]: fixed-size rows in one block, of which the oldest is overwritten first.
//! - [`value_check`]: finds numbers in a row that would ruin the training.

pub mod ring;
pub mod value_check;
