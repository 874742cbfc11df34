//! Where a table's rows live, and what a row must fulfil to get there.
//!
//! - [`ring`]: fixed-size rows in one block, the oldest overwritten first.
//! - [`value_check`]: finds the number in a row that would end learning.

pub mod ring;
pub mod value_check;
