//! replay-server
