//! Loads a policy and chooses actions, without Python and libtorch.
//!
//! `cargo run -p common --example act -- runs/NAME/best/policy.safetensors` prints the shapes of the policy, and its
//! deterministic action and a random action for an observation of zeros. Without a file, the policy has random weights.

#![expect(clippy::print_stdout, reason = "an example prints")]

use common::policy::arch::{Activation, PolicyArch};
use common::policy::infer::PolicyNet;
use common::policy::snapshot::PolicySnapshot;
use common::runtime::seed::SeedTree;
use rand::RngExt as _;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let mut rng = SeedTree::new(1).rng();
    let mut policy = match std::env::args().nth(1) {
        Some(path) => {
            let (snapshot, arch) = PolicySnapshot::load(Path::new(&path))?;
            let mut policy = PolicyNet::new(&arch)?;
            policy.set_weights(&snapshot.weights)?;
            policy
        }
        None => {
            let arch = PolicyArch::mlp_gaussian((3, 1), &[64, 64], Activation::Relu, (-20.0, 2.0));
            let parameters = arch.tensor_layout().parameters;
            let weights: Vec<f32> = (0..parameters).map(|_| rng.random_range(-0.1..0.1)).collect();
            let mut policy = PolicyNet::new(&arch)?;
            policy.set_weights(&weights)?;
            policy
        }
    };
    println!("{} observations, {} actions", policy.arch().obs_dim, policy.arch().act_dim);

    let obs = vec![0.0; policy.arch().obs_dim];
    let mut action = vec![0.0; policy.arch().action_width()];
    // A recurrent policy updates its state at every step. Other policies have none.
    let mut state = vec![0.0; policy.state_dim()];
    policy.mode(&obs, &mut state, &mut action);
    println!("deterministic: {action:?}");

    let mut noise = vec![0.0; policy.noise_width()];
    policy.draw_noise(&mut rng, &mut noise);
    policy.sample(&obs, &mut state, &noise, &mut action);
    println!("sampled:       {action:?}");
    Ok(())
}
