//! The learner: samples prioritized batches, updates, sends priorities back and broadcasts weights.

pub mod trainer;
