//! The `torch` backend: all algorithms on libtorch, on a CPU or an NVIDIA GPU.
//!
//! [`AutogradTrainer`] trains all algorithms and networks by autograd. [`TorchTrainer`] is a faster, hand-written
//! trainer for continuous SAC on perceptrons. It consists of these modules:
//!
//! - `networks`: forward and backward passes of perceptrons, whose parameters are views of flat vectors.
//! - `adam`: the optimiser on these flat vectors.
//! - `inputs`: packs a batch, its noise and Adam's scalars into one vector, so that one copy is enough.
//! - `ops`: tensor operations whose last argument is the result.
//! - `update`: one update; `work`: the intermediate results of an update; `undo`: restores the state if a number is not
//!   finite after an update.
//!
//! An update reads one vector of inputs and adds to one vector of statistics. The vector of statistics stays on the
//! device. On a GPU an update is only enqueued.

mod adam;
pub mod autograd;
mod inputs;
mod networks;
mod ops;
mod plain;
pub mod script;
mod serves;
mod undo;
mod update;
mod work;

pub use autograd::AutogradTrainer;
pub use plain::plain_inference;
pub use serves::{serves, trainer};

use crate::trainer::{
    AlphaLoss, Batch, Noise, NoiseSizes, ParamGroup, StepSizes, TrainState, Trainer, TrainerConfig,
    TrainerError, UpdateStats,
};
use adam::StepScalars;
use inputs::PackedInputs;
use ops::signed;
use tch::{Cuda, Device, Kind, TchError, Tensor};
use undo::Undo;
use update::TorchSac;
use work::SUMS;

type TchResult<T> = Result<T, TchError>;

/// Continuous SAC on libtorch, without autograd.
///
/// libtorch's thread pool does the arithmetic. The whole process has one pool, and the trainer that was created last
/// sets its size. The threads of the pool keep their cores busy while they wait for each other. Therefore use at most
/// as many threads as there are idle cores. With 2x256 networks, two threads do 282 updates/s on two idle cores, but
/// only 102 updates/s if one of the cores is busy. In that case, one thread does 146 updates/s.
#[derive(Debug)]
pub struct TorchTrainer {
    config: TrainerConfig,
    /// Device name as in the configuration.
    device: String,
    threads: usize,
    inputs: PackedInputs,
    sac: TorchSac,
    undo: Undo,
    /// Ring of [`Trainer::pipeline_depth`] slots for updates whose |td| has not been read yet. Each slot (B + 1) has
    /// the |td| of one update, then its verdict.
    td_abs: Vec<Tensor>,
    /// Total number of updates that were enqueued, including refused ones.
    enqueued: u64,
    /// Number of updates in the ring whose |td| has not been read yet.
    outstanding: usize,
    updates: u64,
    updates_summed: u64,
}

impl TorchTrainer {
    /// Creates a trainer with the given state on `cpu` or `cuda:N`. On the CPU it uses `threads` threads.
    ///
    /// # Errors
    /// Returns an error if the device is unknown or absent, if libtorch fails, or if the state does not fit the
    /// configuration.
    pub fn new(
        config: TrainerConfig,
        state: TrainState,
        device: &str,
        threads: usize,
    ) -> Result<Self, TrainerError> {
        let failed = |error: TchError| device_error(device, &error.to_string());
        let place = parse_device(device)?;
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        let inputs = PackedInputs::new(&config, place).map_err(failed)?;
        let sac = TorchSac::new(&config, &inputs, place).map_err(failed)?;
        let depth = if place.is_cuda() { 2 } else { 1 };
        let undo = Undo::new(sac.tensors(), place).map_err(failed)?;
        let td = || Tensor::f_zeros([signed(config.training.batch_size + 1)], (Kind::Float, place));
        let td_abs = (0..depth).map(|_| td()).collect::<TchResult<_>>().map_err(failed)?;
        let mut trainer = Self {
            device: device.into(),
            threads,
            config,
            inputs,
            sac,
            undo,
            td_abs,
            enqueued: 0,
            outstanding: 0,
            updates: 0,
            updates_summed: 0,
        };
        trainer.load(&state)?;
        Ok(trainer)
    }

    fn check_shapes(&self, batch: &Batch<'_>, noise: &Noise<'_>) -> Result<(), TrainerError> {
        let TrainerConfig { training, policy, .. } = &self.config;
        let (b, o, a) = (training.batch_size, policy.obs_dim, policy.act_dim);
        check("obs", batch.obs, b * o)?;
        check("action", batch.action, b * a)?;
        check("reward", batch.reward, b)?;
        check("discount", batch.discount, b)?;
        check("next_obs", batch.next_obs, b * o)?;
        check("weight", batch.weight, b)?;
        check("next_action noise", noise.next_action, b * a)?;
        check("action noise", noise.action, b * a)
    }

    /// Returns the index of the ring slot of update number `update`, counted from 0.
    fn slot(&self, update: u64) -> usize {
        let depth = u64::try_from(self.td_abs.len()).expect("a ring of one or two");
        usize::try_from(update % depth).expect("less than two")
    }

    /// Returns the result of a read from the device. Panics if the device has failed, because the calling methods of
    /// [`Trainer`] cannot return an error and no valid state is left.
    fn answered<T>(&self, what: &str, result: TchResult<T>) -> T {
        result.unwrap_or_else(|error| panic!("{} failed while {what}: {error}", self.device))
    }

    fn read_state(&self) -> TchResult<TrainState> {
        Ok(TrainState {
            actor: self.sac.actor.save()?,
            critics: self.sac.critics.save()?,
            targets: adam::to_vec(&self.sac.targets)?,
            log_alpha: self.sac.log_alpha.save()?,
            updates: self.updates,
            ..TrainState::default()
        })
    }

    fn write_state(&mut self, state: &TrainState) -> TchResult<()> {
        self.sac.actor.load(&state.actor)?;
        self.sac.critics.load(&state.critics)?;
        self.sac.targets.f_copy_(&Tensor::f_from_slice(&state.targets)?)?;
        self.sac.log_alpha.load(&state.log_alpha)?;
        self.sac.refresh_alpha()
    }

    fn read_sums(&mut self) -> TchResult<[f64; SUMS]> {
        let mut sums = [0.0; SUMS];
        self.sac.sums.f_copy_data(&mut sums, SUMS)?;
        drop(self.sac.sums.f_zero_()?);
        Ok(sums)
    }
}

impl Trainer for TorchTrainer {
    fn update(
        &mut self,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
    ) -> Result<(), TrainerError> {
        self.check_shapes(batch, noise)?;
        let slot = &self.td_abs[self.slot(self.enqueued)];
        let rows = signed(self.config.training.batch_size);
        let (adam_eps, t) = (self.config.training.adam_eps, self.updates + 1);
        let (inputs, sac, undo) = (&mut self.inputs, &self.sac, &self.undo);
        tch::no_grad(|| {
            undo.keep()?;
            inputs.upload(batch, noise, (&StepScalars::new(t, adam_eps), sizes))?;
            sac.step(inputs, &slot.f_narrow(0, 0, rows)?)?;
            undo.judge(&slot.f_narrow(0, rows, 1)?)
        })
        .map_err(|error| device_error(&self.device, &error.to_string()))?;
        self.updates = t;
        self.enqueued += 1;
        self.updates_summed += 1;
        self.outstanding = self.td_abs.len().min(self.outstanding + 1);
        Ok(())
    }

    /// On a GPU this waits for all enqueued work, because tch has no function that waits for only a part of the work.
    fn pop_td_abs(&mut self, out: &mut [f32]) -> Result<(), TrainerError> {
        check("td_abs", out, self.config.training.batch_size)?;
        let Some(left) = self.outstanding.checked_sub(1) else {
            return Err(device_error(&self.device, "|td| asked for without an update"));
        };
        let behind = u64::try_from(self.outstanding).expect("one or two");
        let (slot, rows) = (&self.td_abs[self.slot(self.enqueued - behind)], out.len());
        let read = adam::to_vec(slot);
        let read = read.map_err(|error| device_error(&self.device, &error.to_string()))?;
        out.copy_from_slice(&read[..rows]);
        self.outstanding = left;
        if read[rows].is_nan() {
            self.updates -= 1;
            self.updates_summed -= 1;
            return Err(TrainerError::NotFinite);
        }
        Ok(())
    }

    fn pipeline_depth(&self) -> usize {
        self.td_abs.len()
    }

    fn take_stats(&mut self) -> UpdateStats {
        let sums = self.read_sums();
        let sums = self.answered("reading statistics", sums);
        let updates = std::mem::take(&mut self.updates_summed);
        if updates == 0 {
            return UpdateStats::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "2^53 updates are never reached")]
        let [loss1, loss2, log_prob, q, alpha, log_alpha, alpha_log_prob, log_alpha_log_prob] =
            sums.map(|sum| sum / updates as f64);
        let alpha_loss = |target: f64| match self.config.training.alpha_loss {
            AlphaLoss::Log => -(log_alpha_log_prob + log_alpha * target),
            AlphaLoss::Exp => -(alpha_log_prob + alpha * target),
        };
        UpdateStats {
            updates,
            critic1_loss: loss1 / 2.0,
            critic2_loss: loss2 / 2.0,
            actor_loss: alpha_log_prob - q,
            alpha_loss: self.config.target_entropy.map_or(0.0, alpha_loss),
            alpha,
            entropy: -log_prob,
            q_mean: q,
            ..UpdateStats::default()
        }
    }

    fn actor_params(&self, out: &mut [f32]) {
        let read = self.sac.actor.params.f_copy_data(out, out.len());
        self.answered("reading the actor", read);
    }

    fn state(&self) -> TrainState {
        self.answered("reading the state", self.read_state())
    }

    fn load(&mut self, state: &TrainState) -> Result<(), TrainerError> {
        check_group(
            ["actor", "actor.adam_m", "actor.adam_v"],
            &state.actor,
            &self.sac.actor.params,
        )?;
        check_group(
            ["critics", "critics.adam_m", "critics.adam_v"],
            &state.critics,
            &self.sac.critics.params,
        )?;
        check("targets", &state.targets, self.sac.targets.numel())?;
        check_group(
            ["log_alpha", "log_alpha.adam_m", "log_alpha.adam_v"],
            &state.log_alpha,
            &self.sac.log_alpha.params,
        )?;
        self.write_state(state).map_err(|error| device_error(&self.device, &error.to_string()))?;
        self.updates = state.updates;
        self.outstanding = 0;
        Ok(())
    }

    fn noise_sizes(&self) -> NoiseSizes {
        let each = self.config.training.batch_size * self.config.policy.act_dim;
        NoiseSizes { next_action: each, action: each, extra: 0 }
    }

    fn reconfigure(&mut self, config: &TrainerConfig) -> Result<(), TrainerError> {
        serves::serves_by_hand(config).map_err(TrainerError::Unsupported)?;
        self.config.same_networks(config).map_err(TrainerError::Unsupported)?;
        let state = self.state();
        *self = Self::new(config.clone(), state, &self.device, self.threads)?;
        Ok(())
    }

    fn describe(&self) -> String {
        format!("torch {}", self.device)
    }
}

fn check(what: &'static str, values: &[f32], expected: usize) -> Result<(), TrainerError> {
    let got = values.len();
    if got == expected { Ok(()) } else { Err(TrainerError::Shape { what, got, expected }) }
}

fn check_group(
    what: [&'static str; 3],
    group: &ParamGroup,
    params: &Tensor,
) -> Result<(), TrainerError> {
    let vectors = [&group.params, &group.adam_m, &group.adam_v];
    what.into_iter().zip(vectors).try_for_each(|(what, v)| check(what, v, params.numel()))
}

fn device_error(device: &str, message: &str) -> TrainerError {
    TrainerError::Device { device: device.into(), message: message.into() }
}

/// Checks whether libtorch can use this device.
///
/// # Errors
/// Returns a description of the values that would be valid.
pub(crate) fn check_device(device: &str) -> Result<(), String> {
    find_device(device).map(drop)
}

fn parse_device(device: &str) -> Result<Device, TrainerError> {
    find_device(device).map_err(|expected| device_error(device, &expected))
}

fn find_device(device: &str) -> Result<Device, String> {
    if device == "cpu" {
        return Ok(Device::Cpu);
    }
    let number = device.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok());
    let number = number.ok_or("expected cpu or cuda:N")?;
    match Cuda::device_count() {
        count if i64::try_from(number).is_ok_and(|number| number < count) => {
            Ok(Device::Cuda(number))
        }
        count if count > 0 => Err(format!("no such device, expected cuda:0 to cuda:{}", count - 1)),
        _ => Err("no such device: libtorch finds no GPU here (`make libtorch-cuda` fetches the \
                  libtorch that can), expected cpu"
            .to_owned()),
    }
}
