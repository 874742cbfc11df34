//! `sapex record RUN`: records episodes of a run's policy as a dataset for the Python library Minari ([`minari`]).
//! `sapex train --dataset` reads such datasets as well.

pub mod minari;

use crate::cli::RecordArgs;
use crate::run_policy;
use actor_node::env::{Env, EnvError};
use actor_node::evaluation::{ActionMode, Episodes, Evaluation, ObservedStep, Observer, Plan};
use common::process::Usage;
use common::run_dir::RunDir;
use common::runtime::seed::SeedTree;
use common::spec::EnvSpec;
use minari::{Dataset, MinariEpisode};
use serde_json::json;

/// Records the episodes, writes the dataset and returns the evaluation of the recorded episodes.
///
/// # Errors
/// Returns an error if there is no policy, the environment fails, or the dataset exists already or cannot be written.
pub fn record(options: &RecordArgs) -> anyhow::Result<Evaluation> {
    let out = &options.out;
    let data = out.join("data");
    if data.exists() {
        let out = out.display();
        return Err(Usage(format!("--out {out}: there is a dataset already")).into());
    }
    if options.episodes == 0 {
        return Err(Usage("--episodes 0: expected at least 1".to_owned()).into());
    }
    let run = RunDir::open(&options.run)?;
    let resolved = options.settings.of_run(&run)?;
    let cluster = &resolved.config.cluster;
    let (mut policy, version) = run_policy::load(&run_policy::folder(&run, options.newest)?)?;
    let plan = Plan::without_stop(&resolved.config);
    let mut runner = run_policy::runner(&resolved, plan, &policy)?;
    let spec = runner.env()?.spec().clone();
    let id = options.dataset_id.clone().unwrap_or_else(|| minari::default_id(&cluster.env));
    minari::check_id(&id).map_err(|expected| Usage(format!("--dataset-id {id}: {expected}")))?;

    let acting = if options.sample { ActionMode::Sampled } else { ActionMode::Deterministic };
    let dataset = Dataset::new(spec.clone(), runner.env()?.origin())?;
    let mut recorder = Recorder { dataset, episode: None };
    // The same seed role as in `sapex eval`: the same seed gives the same start states.
    let seeds = SeedTree::new(options.seed).role("eval");
    let count = options.episodes;
    let episodes = Episodes { policy: &mut policy, version, count, seeds, acting };
    let evaluation = runner.run(episodes, &mut recorder).map_err(run_policy::blame)?;
    let about = minari::About {
        id,
        algorithm: format!("{:?}", resolved.config.learner.algorithm).to_uppercase(),
        description: describe(&spec, options, &evaluation),
        sapex: json!({
            "env": cluster.env,
            "env_params": cluster.env_params,
            "wrappers": cluster.wrappers,
            "policy_version": version.0,
            "sampled": options.sample,
            "seed": options.seed,
        }),
    };
    recorder.dataset.write(&data, &about)?;
    Ok(evaluation)
}

fn describe(spec: &EnvSpec, options: &RecordArgs, evaluation: &Evaluation) -> String {
    let acting = if options.sample { "sampled" } else { "deterministic" };
    let Evaluation { mean, version, .. } = evaluation;
    format!(
        "{} episodes of {} with the {acting} actions of policy version {}, mean return {mean:.1}",
        options.episodes, spec.id, version.0
    )
}

/// Observer that collects episodes while they run.
struct Recorder {
    dataset: Dataset,
    /// The episode in progress.
    episode: Option<MinariEpisode>,
}

impl Observer for Recorder {
    fn started(&mut self, _: &mut dyn Env, seed: u64, obs: &[f32]) -> Result<(), EnvError> {
        self.episode = Some(MinariEpisode { seed, obs: obs.to_vec(), ..MinariEpisode::default() });
        Ok(())
    }

    fn stepped(&mut self, _: &mut dyn Env, step: &ObservedStep<'_>) -> Result<(), EnvError> {
        let episode = self.episode.as_mut().expect("an episode starts before its first step");
        episode.obs.extend_from_slice(step.obs);
        episode.actions.extend_from_slice(step.env_action);
        episode.rewards.push(step.outcome.reward);
        episode.terminated.push(step.outcome.terminated);
        episode.truncated.push(step.outcome.truncated);
        if step.outcome.terminated || step.outcome.truncated {
            let ended = self.episode.take();
            ended.iter().for_each(|episode| self.dataset.push(episode));
        }
        Ok(())
    }

    fn discarded(&mut self) {
        self.episode = None;
    }
}
