//! Upload: the delivery of rows to the replay servers, exactly once.
//!
//! - `spool`: the bounded queue between environments and uploaders ([`Spool`]).
//! - `uploader`: the delivery of batches to one replay server ([`Uploader`]).

mod spool;
mod uploader;

pub use spool::{RowBatch, Spool};
pub use uploader::Uploader;
