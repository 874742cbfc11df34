//! Steps of an environment per second and core, actions drawn beforehand, episodes restarted as they end:
//! `cargo run --release -p actor-node --features mujoco --example env_steps -- HalfCheetah-v5 5`.

#![expect(clippy::print_stdout, reason = "prints what it measures")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use actor_node::env::{self, Params};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use std::time::{Duration, Instant};

/// Steps between two looks at the clock.
const BATCH: u32 = 1000;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "HalfCheetah-v5".into());
    let seconds = args.next().map_or(Ok(5), |text| text.parse())?;
    let mut env = env::make(&name, &Params::new())?;
    let spec = env.spec().clone();
    let mut rng = Pcg64::seed_from_u64(1);
    let actions: Vec<Vec<f32>> = (0..BATCH)
        .map(|_| {
            let bounds = spec.action_low.iter().zip(&spec.action_high);
            bounds.map(|(&low, &high)| rng.random_range(low..=high)).collect()
        })
        .collect();
    let mut obs = vec![0.0; spec.obs_dim];
    env.reset(Some(1), &mut obs)?;
    let (begin, mut steps, mut episodes) = (Instant::now(), 0_u32, 0_u32);
    while begin.elapsed() < Duration::from_secs(seconds) {
        for action in &actions {
            let outcome = env.step(action, &mut obs)?;
            if outcome.terminated || outcome.truncated {
                episodes += 1;
                env.reset(None, &mut obs)?;
            }
        }
        steps += BATCH;
    }
    let rate = f64::from(steps) / begin.elapsed().as_secs_f64();
    println!("{name}: {rate:.0} steps/s, {steps} steps, {episodes} episodes");
    Ok(())
}
