//! [`AutogradTrainer`]: the [`Trainer`] for every configuration.

use super::super::{check, check_group, device_error, parse_device};
use super::algorithm::{LearningRule, Losses, Model, STATISTICS, UpdateStep};
use super::bcq::BcqRule;
use super::discrete_sac::DiscreteSacRule;
use super::inputs::AutogradInputs;
use super::lac::LacRule;
use super::params::TensorOptions;
use super::sac::SacRule;
use crate::critic::CriticKind;
use crate::torch::ops::signed;
use crate::torch::undo::Undo;
use crate::trainer::{
    Algorithm, Batch, Noise, NoiseSizes, Normaliser, StepSizes, TrainState, Trainer, TrainerConfig,
    TrainerError, UpdateStats,
};
use common::policy::arch::Head;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::{Device, Kind, Tensor, no_grad};

/// Trainer of all networks and algorithms on libtorch, by autograd.
///
/// The whole process has one thread pool of libtorch. The trainer that was created last sets the size of the pool.
#[derive(Debug)]
pub struct AutogradTrainer {
    config: TrainerConfig,
    /// Device name as in the configuration.
    device: String,
    options: TensorOptions,
    threads: usize,
    algorithm: Box<dyn LearningRule>,
    model: Model,
    /// Observation statistics. Every update writes them to the policy's buffers. These buffers are published together
    /// with the policy.
    normaliser: Option<Normaliser>,
    inputs: AutogradInputs,
    undo: Undo,
    /// Updates whose |td| has not been read yet, oldest first. There are at most [`Trainer::pipeline_depth`] of them.
    outstanding: VecDeque<Outstanding>,
    /// Sums of the statistics over updates, in f64, (STATISTICS).
    sums: Tensor,
    updates: u64,
    updates_summed: u64,
}

/// An update whose |td| has not been read yet.
#[derive(Debug)]
struct Outstanding {
    /// |td| of each item, (B).
    td_abs: Tensor,
    /// Verdict of [`Undo::judge`], (1).
    verdict: Tensor,
    /// Observation statistics from before the update.
    normaliser: Option<Normaliser>,
}

impl AutogradTrainer {
    /// Creates a trainer with the given state on `cpu` or `cuda:N`. On the CPU it uses `threads` threads.
    ///
    /// # Errors
    /// Returns an error if the device is unknown or absent, if the algorithm cannot train the configured networks, or
    /// if the state does not fit them.
    pub fn new(
        config: TrainerConfig,
        state: TrainState,
        device: &str,
        threads: usize,
    ) -> Result<Self, TrainerError> {
        let options = (Kind::Float, parse_device(device)?);
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        let (algorithm, model) = build(&config, options)?;
        let sums = Tensor::zeros([signed(STATISTICS)], (Kind::Double, options.1));
        let live = model.tensors().into_iter().chain([sums.shallow_clone()]).collect();
        let undo = Undo::new(live, options.1);
        let undo = undo.map_err(|error| device_error(device, &error.to_string()))?;
        let mut trainer = Self {
            inputs: AutogradInputs::new(algorithm.noise_sizes()),
            config,
            device: device.into(),
            options,
            threads,
            algorithm,
            model,
            normaliser: None,
            undo,
            outstanding: VecDeque::new(),
            sums,
            updates: 0,
            updates_summed: 0,
        };
        trainer.load(&state)?;
        Ok(trainer)
    }

    /// Does one update. Returns its losses and the verdict of [`Undo::judge`]. Panics if libtorch fails.
    fn step(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
    ) -> (Losses, Tensor) {
        self.undo.keep().expect("copies on the device");
        let actor = (&self.model.actor.values().networks()[0], self.options.1);
        let (batch, noise) =
            self.inputs.upload(&self.config, batch, noise, self.normaliser.as_ref(), actor);
        let step = UpdateStep { number: self.updates + 1, sizes: *sizes };
        let losses = self.algorithm.update(&self.model, &batch, &noise, &step);
        self.sums += losses.numbers();
        let verdict = Tensor::zeros([1], self.options);
        no_grad(|| self.undo.judge(&verdict)).expect("sums on the device");
        (losses, verdict)
    }

    /// Adds the observations of this batch to the observation statistics, except for steps that are padding. Does
    /// nothing if the statistics are frozen.
    fn observe(&mut self, batch: &Batch<'_>) {
        let Some(normaliser) = &mut self.normaliser else { return };
        if !self.config.training.normaliser_frozen {
            let happened = |step: usize| batch.valid.get(step).is_none_or(|valid| *valid > 0.0);
            let rows = batch.obs.chunks_exact(self.config.policy.obs_dim).enumerate();
            normaliser.see(rows.filter(|(step, _)| happened(*step)).map(|(_, row)| row));
        }
    }
}

/// Checks whether autograd can train with these settings.
///
/// # Errors
/// Returns a description of the settings that are not supported.
pub fn serves(config: &TrainerConfig) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    if config.burn_in >= config.sequence_len {
        return refuse("cluster.burn_in leaves no step of a sequence to learn from");
    }
    match (&config.algorithm, &config.policy.head, config.critic.kind) {
        (Algorithm::Sac, Head::Gaussian { .. }, CriticKind::Q)
        | (Algorithm::DiscreteSac(_), Head::Categorical, CriticKind::VectorQ)
        | (Algorithm::Lac(_), Head::Gaussian { .. }, CriticKind::Lyapunov) => Ok(()),
        (Algorithm::Bcq(bcq), ..) => BcqRule::new(config, bcq).map(drop),
        (Algorithm::Sac, ..) => {
            refuse("continuous sac trains a gaussian policy with scalar critics")
        }
        (Algorithm::DiscreteSac(_), ..) => {
            refuse("discrete sac trains a categorical policy with vector critics")
        }
        (Algorithm::Lac(_), ..) => refuse("lac trains a gaussian policy with lyapunov critics"),
    }
}

/// Creates the learning rule, and a model whose tensors are all zero.
fn build(
    config: &TrainerConfig,
    options: TensorOptions,
) -> Result<(Box<dyn LearningRule>, Model), TrainerError> {
    serves(config).map_err(TrainerError::Unsupported)?;
    let algorithm: Box<dyn LearningRule> = match &config.algorithm {
        Algorithm::Sac => Box::new(SacRule::new(config, options)),
        Algorithm::DiscreteSac(loss) => Box::new(DiscreteSacRule::new(config, *loss)),
        Algorithm::Lac(lac) => Box::new(LacRule::new(config, lac, options)),
        Algorithm::Bcq(bcq) => {
            Box::new(BcqRule::new(config, bcq).map_err(TrainerError::Unsupported)?)
        }
    };
    Ok((algorithm, Model::new(config, options)))
}

/// Runs libtorch operations and converts their panics to errors. After a failed operation the state is not used again,
/// because training cannot continue without the device.
fn guarded<T>(device: &str, operations: impl FnOnce() -> T) -> Result<T, TrainerError> {
    catch_unwind(AssertUnwindSafe(operations)).map_err(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        device_error(device, said.unwrap_or("libtorch gave no reason"))
    })
}

impl Trainer for AutogradTrainer {
    fn update(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
    ) -> Result<(), TrainerError> {
        self.inputs.check(&self.config, batch, noise)?;
        let normaliser = self.normaliser.clone();
        self.observe(batch);
        let device = self.device.clone();
        let (losses, verdict) = guarded(&device, || self.step(batch, noise, sizes))?;
        self.updates += 1;
        self.updates_summed += 1;
        if self.outstanding.len() == self.pipeline_depth() {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Outstanding { td_abs: losses.td_abs, verdict, normaliser });
        Ok(())
    }

    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError> {
        check("td_abs", out, self.config.training.batch_size)?;
        let Some(Outstanding { td_abs, verdict, normaliser }) = self.outstanding.pop_front() else {
            return Err(device_error(&self.device, "|td| asked for without an update"));
        };
        let read = td_abs.to_device(Device::Cpu).f_copy_data(out, out.len());
        read.map_err(|error| device_error(&self.device, &error.to_string()))?;
        if verdict.double_value(&[0]).is_nan() {
            self.normaliser = normaliser;
            self.updates -= 1;
            self.updates_summed -= 1;
            return Err(TrainerError::NotFinite);
        }
        Ok(())
    }

    fn pipeline_depth(&self) -> usize {
        if self.options.1.is_cuda() { 2 } else { 1 }
    }

    fn take_stats(&mut self) -> UpdateStats {
        let mut sums = [0.0; STATISTICS];
        self.sums.to_device(Device::Cpu).copy_data(&mut sums, STATISTICS);
        let _zeros = self.sums.zero_();
        let updates = std::mem::take(&mut self.updates_summed);
        if updates == 0 {
            return UpdateStats::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "2^53 updates are never reached")]
        let means = sums.map(|sum| sum / updates as f64);
        let [critic1_loss, critic2_loss, actor_loss, alpha_loss, rest @ ..] = means;
        let [alpha, entropy, q_mean, lambda, extra_loss] = rest;
        UpdateStats {
            updates,
            critic1_loss,
            critic2_loss,
            actor_loss,
            alpha_loss,
            alpha,
            entropy,
            q_mean,
            lambda,
            extra_loss,
        }
    }

    fn actor_params(&self, out: &mut [f32]) {
        let Model { actor, vae, critics, .. } = &self.model;
        let [actor, vae, critics] = [actor, vae, critics].map(|group| group.values().save());
        out.copy_from_slice(&self.config.compose_policy(&actor, &vae, &critics));
    }

    fn state(&self) -> TrainState {
        let mut state = TrainState {
            normaliser: self.normaliser.clone(),
            updates: self.updates,
            ..TrainState::default()
        };
        self.model.save(&mut state);
        state
    }

    fn load(&mut self, state: &TrainState) -> Result<(), TrainerError> {
        let model = &self.model;
        let groups = [
            (["actor", "actor.adam_m", "actor.adam_v"], &state.actor, &model.actor),
            (["critics", "critics.adam_m", "critics.adam_v"], &state.critics, &model.critics),
            (["vae", "vae.adam_m", "vae.adam_v"], &state.vae, &model.vae),
            (
                ["log_alpha", "log_alpha.adam_m", "log_alpha.adam_v"],
                &state.log_alpha,
                &model.log_alpha,
            ),
            (
                ["log_lambda", "log_lambda.adam_m", "log_lambda.adam_v"],
                &state.log_lambda,
                &model.log_lambda,
            ),
        ];
        for (names, group, params) in groups {
            check_group(names, group, params.values().flat())?;
        }
        check("targets", &state.targets, model.targets.flat().numel())?;
        check("target_actor", &state.target_actor, model.target_actor.flat().numel())?;
        let width = self.config.policy.obs_dim;
        let normaliser = self
            .config
            .policy
            .obs_clip
            .map(|_| state.normaliser.clone().unwrap_or_else(|| Normaliser::new(width)));
        if let Some(Normaliser { mean, summed_variance, .. }) = &normaliser {
            for (what, got) in
                [("normaliser.mean", mean.len()), ("normaliser.std", summed_variance.len())]
            {
                if got != width {
                    return Err(TrainerError::Shape { what, got, expected: width });
                }
            }
        }
        guarded(&self.device, || model.load(state))?;
        self.normaliser = normaliser;
        self.updates = state.updates;
        self.outstanding.clear();
        Ok(())
    }

    fn noise_sizes(&self) -> NoiseSizes {
        self.algorithm.noise_sizes()
    }

    fn reconfigure(&mut self, config: &TrainerConfig) -> Result<(), TrainerError> {
        self.config.same_networks(config).map_err(TrainerError::Unsupported)?;
        let (_, model) = build(config, self.options)?;
        let mut state = self.state();
        if model.target_actor.flat().numel() == 0 {
            state.target_actor.clear();
        } else if state.target_actor.is_empty() {
            state.target_actor.clone_from(&state.actor.params);
        }
        *self = Self::new(config.clone(), state, &self.device, self.threads)?;
        Ok(())
    }

    fn describe(&self) -> String {
        format!("torch {}", self.device)
    }
}
