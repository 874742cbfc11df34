//! `faulty`: an environment that fails on schedule, for tests of code that must tolerate failures.

use super::helpers::{check_action, check_params, continuous};
use super::{Env, EnvError, EnvParams, StepOutcome};
use common::spec::EnvSpec;
use std::time::Duration;

/// Name of the environment.
pub const NAME: &str = "faulty";

/// Parameters that schedule a fault. The value is the step of the episode at which the fault occurs, counted from 1.
const FAULTS: &[&str] = &[
    "panic_at",
    "nan_obs_at",
    "nan_reward_at",
    "big_obs_at",
    "big_reward_at",
    "error_at",
    "hang_at",
];
/// Parameter: value that a scheduled fault gives to an observation or a reward to make it too large.
const BIG: &str = "big";
/// Parameter: duration of a hang in milliseconds.
const HANG_MS: &str = "hang_ms";
/// Parameter: if 1, no faults happen in episodes with an even seed.
const SPARE_EVEN_SEEDS: &str = "spare_even_seeds";
const EPISODE_STEPS: u32 = 50;

#[derive(Debug)]
struct Faulty {
    spec: EnvSpec,
    schedule: Vec<(&'static str, u64)>,
    big: f64,
    hang: Duration,
    spares_even_seeds: bool,
    is_spared: bool,
    steps: u64,
}

/// Creates the environment. Without parameters, it never fails. Its observation is (number of steps so far, 1).
pub(super) fn make(params: &EnvParams) -> Result<Box<dyn Env>, EnvError> {
    let known = FAULTS.iter().copied().chain([HANG_MS, BIG, SPARE_EVEN_SEEDS]);
    let known: Vec<&str> = known.collect();
    check_params(NAME, params, &known)?;
    let number = |key: &str| -> Result<Option<u64>, EnvError> {
        let Some(text) = params.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad(key, text, "expected a whole number"))
    };
    let mut schedule = Vec::new();
    for &fault in FAULTS {
        schedule.extend(number(fault)?.map(|step| (fault, step)));
    }
    let hang = Duration::from_millis(number(HANG_MS)?.unwrap_or(1_000));
    let big = match params.get(BIG) {
        None => 1e21,
        Some(text) => text.parse().map_err(|_| bad(BIG, text, "expected a number"))?,
    };
    let spec = continuous(NAME, 2, &[-1.0], &[1.0], EPISODE_STEPS);
    let spares_even_seeds = number(SPARE_EVEN_SEEDS)? == Some(1);
    let is_spared = false;
    Ok(Box::new(Faulty { spec, schedule, big, hang, spares_even_seeds, is_spared, steps: 0 }))
}

fn bad(key: &str, value: &str, expected: &str) -> EnvError {
    let (key, value, expected) = (key.to_owned(), value.to_owned(), expected.to_owned());
    EnvError::Parameter { env: NAME, key, value, expected }
}

impl Faulty {
    #[expect(clippy::cast_precision_loss, reason = "episodes are short")]
    fn observe(&self, obs: &mut [f32]) {
        obs.copy_from_slice(&[self.steps as f32, 1.0]);
    }
}

impl Env for Faulty {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        self.is_spared = self.spares_even_seeds && seed.is_some_and(|seed| seed.is_multiple_of(2));
        self.steps = 0;
        self.observe(obs);
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        check_action(action)?;
        self.steps += 1;
        self.observe(obs);
        let mut reward = 1.0;
        for &(fault, step) in &self.schedule {
            if step != self.steps || self.is_spared {
                continue;
            }
            match fault {
                "panic_at" => panic!("scheduled panic at step {step}"),
                "nan_obs_at" => obs[0] = f32::NAN,
                "nan_reward_at" => reward = f64::NAN,
                #[expect(clippy::cast_possible_truncation, reason = "observations are f32")]
                "big_obs_at" => obs[0] = self.big as f32,
                "big_reward_at" => reward = self.big,
                "error_at" => {
                    return Err(EnvError::Failed(format!("scheduled error at step {step}")));
                }
                _ => std::thread::sleep(self.hang),
            }
        }
        Ok(StepOutcome { reward, terminated: false, truncated: false })
    }
}
