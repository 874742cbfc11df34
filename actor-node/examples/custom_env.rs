//! Runs a policy in an environment of your own, written in Rust.
//!
//! `cargo run -p actor-node --example custom_env` prints the mean return of five episodes of an untrained policy.

#![expect(clippy::print_stdout, reason = "an example prints")]

use actor_node::env::wrappers::TimeLimit;
use actor_node::env::{Env, EnvError, StepOutcome};
use actor_node::evaluation::{ActionMode, EpisodeRunner, Episodes, Plan};
use actor_node::lanes::Maker;
use common::config::{self, Layers};
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::runtime::seed::SeedTree;
use common::spec::{ActionKind, EnvSpec};

/// A point on a line, which actions move by up to 0.1. The reward is −|x|.
struct Line(EnvSpec, f32);

impl Env for Line {
    fn spec(&self) -> &EnvSpec {
        &self.0
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.1 = if seed.unwrap_or(0).is_multiple_of(2) { 1.0 } else { -1.0 };
        obs[0] = self.1;
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        self.1 += 0.1 * action[0].clamp(-1.0, 1.0);
        obs[0] = self.1;
        Ok(StepOutcome { reward: -f64::from(self.1.abs()), terminated: false, truncated: false })
    }
}

fn main() -> anyhow::Result<()> {
    let spec = EnvSpec {
        id: "Line-v0".into(),
        obs_dim: 1,
        obs_image: None,
        actions: ActionKind::Continuous,
        act_dim: 1,
        action_low: vec![-1.0],
        action_high: vec![1.0],
        episode_steps_max: None,
    };
    let config = config::load(&Layers::default())?.config;
    let mut policy = PolicyNet::new(&config.policy_arch(&spec))?;
    let line = move |_lane| Ok(Box::new(Line(spec.clone(), 0.0)) as Box<dyn Env>);
    let maker = Maker::of("Line-v0", move |lane| Ok(Box::new(TimeLimit::new(line(lane)?, 50))));
    let mut runner = EpisodeRunner::with_maker(Plan::without_stop(&config), maker);
    let (version, seeds, acting) = (PolicyVersion(0), SeedTree::new(1), ActionMode::Sampled);
    let episodes = Episodes { policy: &mut policy, version, count: 5, seeds, acting };
    let evaluation = runner.run(episodes, &mut ())?;
    println!("mean return {:.1} over {} episodes", evaluation.mean, evaluation.returns.len());
    Ok(())
}
