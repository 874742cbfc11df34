//! Environments in other processes, tested with the real Gymnasium (`SAPEX_GYMNASIUM_PYTHON`) and with servers in these
//! tests.

#![expect(clippy::print_stdout, reason = "helpers of tests")]

mod gymnasium;
mod servers;
mod unlucky;

use actor_node::env::EnvParams;
use actor_node::env::registry::Setup;

/// Returns a setup with these parameters.
fn with(pairs: &[(&str, &str)]) -> Setup {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect::<EnvParams>().into()
}
