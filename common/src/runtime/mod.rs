//! Shutdown, clock, seeds and backoff.
