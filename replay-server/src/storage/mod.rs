//! Where a table's rows live, and what a row must fulfil to get there.
//!
//! - [`ring`]: fixed-size rows in one block, the oldest overwritten first.
//! - [`finite`]: finds the field of a row that is not a finite number.

pub mod finite;
pub mod ring;
