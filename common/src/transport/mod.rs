//! Moving messages between processes.
