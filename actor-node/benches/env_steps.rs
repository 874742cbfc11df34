//! Measures steps per second of an environment on one core, with lanes. Actions are drawn beforehand, and ended
//! episodes are restarted. Arguments are the environment, the seconds to run and the number of lanes:
//! `cargo bench -p actor-node --features mujoco --bench env_steps -- HalfCheetah-v5 5 8`.

#![expect(clippy::print_stdout, reason = "prints what it measures")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use actor_node::env::EnvParams;
use actor_node::env::registry::Setup;
use actor_node::lanes::Lanes;
use common::runtime::seed::SeedTree;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::time::{Duration, Instant};

/// Turns between two readings of the clock.
const BATCH: usize = 500;

fn main() -> anyhow::Result<()> {
    // Cargo adds the argument `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let name = args.next().unwrap_or_else(|| "HalfCheetah-v5".into());
    let seconds = args.next().map_or(Ok(5), |text| text.parse())?;
    let lanes = args.next().map_or(Ok(1), |text| text.parse())?;
    let setup = Setup::from(EnvParams::new());
    let (mut group, mut turn) = Lanes::new(&name, &setup, lanes, SeedTree::new(1))?;
    let width = lanes * group.spec().action_width();
    let mut rng = Pcg64::seed_from_u64(1);
    let actions: Vec<f32> = (0..BATCH * width).map(|_| rng.random_range(-1.0..=1.0)).collect();
    let (begin, mut turns, mut episodes) = (Instant::now(), 0_usize, 0_usize);
    while begin.elapsed() < Duration::from_secs(seconds) {
        for actions in actions.chunks_exact(width) {
            group.step(actions, &mut turn)?;
            episodes += turn.ended.len();
        }
        turns += BATCH;
    }
    let steps = turns * lanes;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let rate = steps as f64 / begin.elapsed().as_secs_f64();
    println!("{name}, {lanes} lanes: {rate:.0} steps/s, {steps} steps, {episodes} episodes");
    Ok(())
}
