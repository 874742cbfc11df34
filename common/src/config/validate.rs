//! Valid ranges of settings. Each refusal names a key and the valid values. Contradictions are in [`super::compat`].

use super::rule::{Rule, expect};
use super::{AlgorithmKind, Config, ConfigError, LrSchedule, NetworkKind, Resolved};
use super::{compat, endpoints, wrappers};
use crate::limits;
use crate::values::VALUE_MAX;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Checks everything that can be checked before a socket is opened.
///
/// It does not check whether `error_buffer` is large enough to make progress. `replay-server` checks that when it
/// builds the rate limiter from the same values.
pub(super) fn check(resolved: &Resolved) -> Result<(), ConfigError> {
    let c = &resolved.config;
    let ranges = [networks(c), run(c), replay(c), actors(c), learner(c), temperature(c), rates(c)];
    hold(resolved, ranges.concat())?;
    hold(resolved, [special(c), tls(c)].concat())?;
    hold(resolved, wrappers::rules(c))?;
    hold(resolved, endpoints::rules(c))?;
    hold(resolved, compat::rules(c))?;
    compat::shapes(resolved)
}

fn hold(resolved: &Resolved, rules: Vec<Rule>) -> Result<(), ConfigError> {
    match rules.into_iter().find(|(holds, ..)| !holds) {
        Some((_, key, expected)) => Err(resolved.invalid(key, expected)),
        None => Ok(()),
    }
}

fn unit(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

/// Returns whether the number is positive and finite after it is converted to f32.
fn positive(x: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the narrowed number is what is checked")]
    let narrowed = x as f32;
    narrowed > 0.0 && narrowed.is_finite()
}

/// Largest step size. The limit is low because Adam changes every weight by about the step size in each update and
/// initial weights are below 1.
const STEP_SIZE_MAX: f64 = 0.1;

/// Valid values of `replay.sync_interval`. A replay server relies on the maximum: with longer intervals it could give
/// out the same item key twice.
const SYNC_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60);

fn widths(widths: &[usize]) -> bool {
    (1..=8).contains(&widths.len()) && widths.iter().all(|&width| (1..=16_384).contains(&width))
}

/// Returns whether `head` is a valid list of layer widths for a head on a trunk with the layer widths `hidden`.
fn widths_with_head(hidden: &[usize], head: &[usize]) -> bool {
    head.is_empty() || widths(&[hidden, head].concat())
}

fn has_head(network: NetworkKind, c: &Config) -> bool {
    matches!(network, NetworkKind::Mlp | NetworkKind::Cnn)
        && c.learner.algorithm != AlgorithmKind::Bcq
}

/// Returns whether the run uses the step size with the key `key`.
fn is_used(key: &str, c: &Config) -> bool {
    match key {
        "lac.lr_lambda" => c.learner.algorithm == AlgorithmKind::Lac,
        "bcq.lr_vae" => c.learner.algorithm == AlgorithmKind::Bcq,
        "learner.lr_alpha" => c.learner.algorithm != AlgorithmKind::Bcq && c.training.alpha_auto,
        _ => true,
    }
}

/// Returns the rules for layer widths and numbers of neurons. Ranges are checked even if the chosen network does not
/// use the setting.
fn networks(c: &Config) -> Vec<Rule> {
    let neurons = expect("must be in 2..=16384");
    let lstm = expect("must be one width, of the lstm's layers");
    let critic = c.learner.critic_network;
    let headless = expect("must be empty: only mlp and cnn, of sac and lac, have layers of a head");
    vec![
        (
            widths(&c.cluster.hidden),
            "cluster.hidden",
            expect("must be 1 to 8 widths of 1 to 16384"),
        ),
        (
            widths_with_head(&c.cluster.hidden, &c.cluster.head_hidden),
            "cluster.head_hidden",
            expect("must be widths of 1 to 16384, at most 8 with cluster.hidden"),
        ),
        (
            widths_with_head(&c.learner.critic_hidden, &c.learner.critic_head_hidden),
            "learner.critic_head_hidden",
            expect("must be widths of 1 to 16384, at most 8 with learner.critic_hidden"),
        ),
        (
            has_head(c.cluster.network, c) || c.cluster.head_hidden.is_empty(),
            "cluster.head_hidden",
            headless.clone(),
        ),
        (
            has_head(critic, c) || c.learner.critic_head_hidden.is_empty(),
            "learner.critic_head_hidden",
            headless,
        ),
        (
            c.cluster.network != NetworkKind::Lstm || c.cluster.hidden.len() == 1,
            "cluster.hidden",
            lstm.clone(),
        ),
        (
            (1..=8).contains(&c.cluster.lstm_layers),
            "cluster.lstm_layers",
            expect("must be in 1..=8"),
        ),
        ((2..=16_384).contains(&c.cluster.neurons), "cluster.neurons", neurons.clone()),
        (
            (0.0..=1000.0).contains(&c.cluster.mean_bound),
            "cluster.mean_bound",
            expect("must be 0 (no bound) to 1000"),
        ),
        (positive(c.cluster.obs_clip.into()), "cluster.obs_clip", expect("must be above 0")),
        (
            !matches!(critic, NetworkKind::Cfc | NetworkKind::WiredCfc),
            "learner.critic_network",
            expect("must be mlp, cnn, lstm, ncp or liquid"),
        ),
        (
            widths(&c.learner.critic_hidden),
            "learner.critic_hidden",
            expect("must be 1 to 8 widths of 1 to 16384"),
        ),
        (
            critic != NetworkKind::Lstm || c.learner.critic_hidden.len() == 1,
            "learner.critic_hidden",
            lstm,
        ),
        ((2..=16_384).contains(&c.learner.critic_neurons), "learner.critic_neurons", neurons),
    ]
}

/// Returns whether each text is `key=value` and no key occurs twice.
fn assigns(settings: &[String]) -> bool {
    let keys: Option<Vec<_>> =
        settings.iter().map(|text| Some(text.split_once('=')?.0.trim())).collect();
    keys.is_some_and(|keys| {
        keys.iter().enumerate().all(|(i, key)| !key.is_empty() && !keys[..i].contains(key))
    })
}

/// Returns whether a name can be the value of a metric label.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=63).contains(&name.len()) && name.bytes().all(plain)
}

fn run(c: &Config) -> Vec<Rule> {
    vec![
        (
            is_name(&c.run.name),
            "run.name",
            expect("must be 1 to 63 letters, digits, \".\", \"_\" or \"-\""),
        ),
        (
            assigns(&c.cluster.env_params),
            "cluster.env_params",
            expect("must be texts of the form key=value, each key once"),
        ),
        (unit(c.cluster.gamma), "cluster.gamma", expect("must be in [0, 1]")),
        ((1..=64).contains(&c.cluster.n_step), "cluster.n_step", expect("must be in 1..=64")),
        (
            (1..=1024).contains(&c.cluster.sequence_len),
            "cluster.sequence_len",
            expect("must be in 1..=1024"),
        ),
        (
            c.cluster.burn_in < c.cluster.sequence_len,
            "cluster.burn_in",
            format!("must be below cluster.sequence_len = {}", c.cluster.sequence_len),
        ),
        (
            c.cluster.log_std_min.is_finite() && c.cluster.log_std_min < c.cluster.log_std_max,
            "cluster.log_std_min",
            expect("must be finite and below cluster.log_std_max"),
        ),
        (c.cluster.log_std_max <= 20.0, "cluster.log_std_max", expect("must be at most 20")),
        (
            !c.run.target_return.is_nan(),
            "run.target_return",
            expect("must be a number, or inf for never"),
        ),
        ((1..=1024).contains(&c.run.actors), "run.actors", expect("must be in 1..=1024")),
    ]
}

fn replay(c: &Config) -> Vec<Rule> {
    vec![
        ((1..=256).contains(&c.replay.shards), "replay.shards", expect("must be in 1..=256")),
        (unit(c.replay.priority_exponent), "replay.priority_exponent", expect("must be in [0, 1]")),
        (
            c.replay.priority_epsilon > 0.0 && c.replay.priority_epsilon.is_finite(),
            "replay.priority_epsilon",
            expect("must be above 0: an item of priority 0 would never be seen again"),
        ),
        (c.replay.min_size >= 1, "replay.min_size", expect("must be at least 1")),
        (
            c.replay.samples_per_insert >= 0.0 && c.replay.samples_per_insert.is_finite(),
            "replay.samples_per_insert",
            expect("must be 0 (no limit) or above"),
        ),
        (
            c.replay.error_buffer >= 0.0 && c.replay.error_buffer.is_finite(),
            "replay.error_buffer",
            expect("must be 0 (chosen for you) or above"),
        ),
        (
            SYNC_INTERVALS.contains(&c.replay.sync_interval),
            "replay.sync_interval",
            expect("must be 10ms to 1m"),
        ),
    ]
}

fn actors(c: &Config) -> Vec<Rule> {
    vec![
        ((1..=4096).contains(&c.actor.num_envs), "actor.num_envs", expect("must be in 1..=4096")),
        (
            !c.actor.python.is_empty(),
            "actor.python",
            expect("must be a program, such as \"python3\""),
        ),
        (
            (1..=limits::INSERT_ROWS_MAX).contains(&c.actor.insert_rows),
            "actor.insert_rows",
            format!("must be in 1..={}", limits::INSERT_ROWS_MAX),
        ),
        (
            (1..=limits::INSERT_WINDOW_MAX).contains(&c.actor.window),
            "actor.window",
            format!("must be in 1..={}", limits::INSERT_WINDOW_MAX),
        ),
        (
            (0.0..=10.0).contains(&c.actor.exploration_sigma),
            "actor.exploration_sigma",
            expect("must be in [0, 10]: actions have a range of 2"),
        ),
        (
            c.actor.ou_theta >= 0.0 && c.actor.ou_theta.is_finite(),
            "actor.ou_theta",
            expect("must be 0 or above"),
        ),
        (positive(c.actor.ou_dt.into()), "actor.ou_dt", expect("must be above 0")),
        (c.evaluator.steps_max >= 1, "evaluator.steps_max", expect("must be at least 1")),
    ]
}

fn learner(c: &Config) -> Vec<Rule> {
    vec![
        (c.learner.threads <= 64, "learner.threads", expect("must be in 0..=64")),
        (
            (1..=limits::SAMPLE_ITEMS_MAX).contains(&c.training.batch_size),
            "learner.batch_size",
            format!("must be in 1..={}", limits::SAMPLE_ITEMS_MAX),
        ),
        (matches!(c.training.critics, 1 | 2), "learner.critics", expect("must be 1 or 2")),
        (
            positive(c.training.critic_loss_factor) && c.training.critic_loss_factor <= 1000.0,
            "learner.critic_loss_factor",
            expect("must be above 0 and at most 1000"),
        ),
        (
            (-1.0..=1.0).contains(&c.training.target_entropy_ratio),
            "learner.target_entropy_ratio",
            expect("must be in [-1, 1]: no policy reaches more than ln A"),
        ),
        (
            (-1000.0..=1000.0).contains(&c.training.target_entropy_per_dim),
            "learner.target_entropy_per_dim",
            expect("must be in [-1000, 1000]"),
        ),
        (
            unit(c.learner.importance_sampling_exponent),
            "learner.importance_sampling_exponent",
            expect("must be in [0, 1]"),
        ),
        (
            (1..=64).contains(&c.learner.prefetch_batches),
            "learner.prefetch_batches",
            expect("must be in 1..=64"),
        ),
        (c.learner.publish_updates >= 1, "learner.publish_updates", expect("must be at least 1")),
        (
            c.learner.checkpoint_updates >= 1,
            "learner.checkpoint_updates",
            expect("must be at least 1"),
        ),
        (c.learner.checkpoint_keep >= 1, "learner.checkpoint_keep", expect("must be at least 1")),
        (
            contents_are_known(&c.learner.checkpoint_contents),
            "learner.checkpoint_contents",
            format!("must be all, or words from {}", CHECKPOINT_ENTRIES.join(", ")),
        ),
        (c.learner.log_updates >= 1, "learner.log_updates", expect("must be at least 1")),
        (
            device_is_well_formed(&c.learner.device),
            "learner.device",
            expect("must be cpu or cuda:N"),
        ),
    ]
}

/// Returns the rules for the temperature and its bounds.
fn temperature(c: &Config) -> Vec<Rule> {
    vec![
        (
            c.training.alpha_init >= 0.0 && c.training.alpha_init.is_finite(),
            "learner.alpha_init",
            expect("must be 0 or above"),
        ),
        (
            c.training.alpha_init > 0.0 || !c.training.alpha_auto,
            "learner.alpha_init",
            expect(
                "must be above 0 where learner.alpha_auto is true: its logarithm is what is tuned",
            ),
        ),
        (
            // For NaN this comparison is false, so that NaN is refused.
            c.training.alpha_max > 0.0,
            "learner.alpha_max",
            expect("must be above 0, or inf for none"),
        ),
        (
            (0.0..=c.training.alpha_max).contains(&c.training.alpha_min),
            "learner.alpha_min",
            format!("must be 0 (no bound) to learner.alpha_max = {}", c.training.alpha_max),
        ),
        (
            (c.training.alpha_min..=c.training.alpha_max).contains(&c.training.alpha_init)
                || !c.training.alpha_auto,
            "learner.alpha_init",
            format!(
                "must be at least learner.alpha_min = {} and at most learner.alpha_max = {}",
                c.training.alpha_min, c.training.alpha_max
            ),
        ),
    ]
}

/// Returns the rules for optimisers: step sizes, their schedules, decay rates, and updates of target networks.
fn rates(c: &Config) -> Vec<Rule> {
    let (l, lac, bcq) = (&c.training, &c.lac, &c.bcq);
    let sizes = [
        ("learner.lr_actor", l.lr_actor, "learner.lr_actor_final", l.lr_actor_final),
        ("learner.lr_critic", l.lr_critic, "learner.lr_critic_final", l.lr_critic_final),
        ("learner.lr_alpha", l.lr_alpha, "learner.lr_alpha_final", l.lr_alpha_final),
        ("lac.lr_lambda", lac.lr_lambda, "lac.lr_lambda_final", lac.lr_lambda_final),
        ("bcq.lr_vae", bcq.lr_vae, "bcq.lr_vae_final", bcq.lr_vae_final),
    ];
    let exponential = l.lr_schedule == LrSchedule::Exponential;
    let mut rules: Vec<Rule> = Vec::new();
    for (key, first, last_key, last) in sizes {
        let expected = format!("must be above 0 and at most {STEP_SIZE_MAX}");
        rules.push((positive(first) && first <= STEP_SIZE_MAX, key, expected));
        let expected = format!("must be 0 or above and at most {key} = {first}");
        rules.push(((0.0..=first).contains(&last), last_key, expected));
        let expected = format!(
            "must be above 0 where learner.lr_schedule is exponential; {key} = {first} keeps it"
        );
        rules.push((!exponential || last > 0.0 || !is_used(key, c), last_key, expected));
    }
    // An exponential schedule needs at least two steps, a start and an end.
    let steps_min = if exponential { 2 } else { 1 };
    rules.extend([
        (
            l.lr_schedule_steps >= steps_min,
            "learner.lr_schedule_steps",
            format!("must be at least {steps_min}"),
        ),
        (l.lr_schedule_updates >= 1, "learner.lr_schedule_updates", expect("must be at least 1")),
        (
            positive(l.adam_eps) && l.adam_eps <= 1.0,
            "learner.adam_eps",
            expect("must be above 0 and at most 1"),
        ),
        ((0.0..1.0).contains(&l.adam_beta1), "learner.adam_beta1", expect("must be in [0, 1)")),
        ((0.0..1.0).contains(&l.adam_beta2), "learner.adam_beta2", expect("must be in [0, 1)")),
        (positive(l.tau) && l.tau <= 1.0, "learner.tau", expect("must be in (0, 1]")),
        (l.target_updates >= 1, "learner.target_updates", expect("must be at least 1")),
    ]);
    rules
}

/// Returns the rules for the sections `lac`, `bcq` and `offline`.
fn special(c: &Config) -> Vec<Rule> {
    let (lac, bcq) = (&c.lac, &c.bcq);
    vec![
        ((0.0..=1000.0).contains(&lac.alpha3), "lac.alpha3", expect("must be in [0, 1000]")),
        (
            positive(lac.lambda_init) && lac.lambda_init <= 1.0,
            "lac.lambda_init",
            expect("must be in (0, 1]"),
        ),
        (
            lac.reward_max.abs() <= VALUE_MAX.into(),
            "lac.reward_max",
            format!("must be in [-{VALUE_MAX:e}, {VALUE_MAX:e}]"),
        ),
        (widths(&bcq.vae_hidden), "bcq.vae_hidden", expect("must be 1 to 8 widths of 1 to 16384")),
        (
            bcq.vae_latent <= 16_384,
            "bcq.vae_latent",
            expect("must be 0 (two per action dimension) or up to 16384"),
        ),
        (positive(bcq.phi.into()) && bcq.phi <= 1.0, "bcq.phi", expect("must be in (0, 1]")),
        ((0.0..=1.0).contains(&bcq.lambda), "bcq.lambda", expect("must be in [0, 1]")),
        ((1..=1024).contains(&bcq.samples), "bcq.samples", expect("must be in 1..=1024")),
        ((1..=4096).contains(&bcq.act_samples), "bcq.act_samples", expect("must be in 1..=4096")),
        (
            positive(c.offline.share.into()) && c.offline.share <= 1.0,
            "offline.share",
            expect("must be in (0, 1]"),
        ),
    ]
}

/// Returns the rules for TLS. The user must set all files or none. Otherwise a user who sets only some of them would
/// have unencrypted connections without an error.
fn tls(c: &Config) -> Vec<Rule> {
    let files = [("tls.ca", &c.tls.ca), ("tls.cert", &c.tls.cert), ("tls.key", &c.tls.key)];
    let is_on = files.iter().any(|(_, path)| !path.is_empty());
    let expected = "must be set, too: tls.ca, tls.cert and tls.key are set together or not at all";
    files.map(|(key, path)| (!is_on || !path.is_empty(), key, expect(expected))).to_vec()
}

/// Entries that a checkpoint may be restricted to. `learner.checkpoint_contents` is `all`, or a list of words. Each
/// word selects the entries whose names contain the word (docs/algorithms/arlbench.md §8).
const CHECKPOINT_ENTRIES: [&str; 16] = [
    "actor_network_params",
    "actor_target_params",
    "actor_opt_state",
    "critic_network_params",
    "critic_target_params",
    "critic_opt_state",
    "vae_network_params",
    "vae_opt_state",
    "alpha_network_params",
    "alpha_opt_state",
    "lambda_network_params",
    "lambda_opt_state",
    "normaliser_params",
    "actor_loss",
    "critic_loss",
    "alpha_loss",
];

fn contents_are_known(contents: &[String]) -> bool {
    let known = |word: &String| {
        let entry = CHECKPOINT_ENTRIES.iter().any(|entry| entry.contains(word.as_str()));
        word == "all" || (entry && !word.is_empty())
    };
    !contents.is_empty() && contents.iter().all(known)
}

fn device_is_well_formed(device: &str) -> bool {
    device == "cpu" || device.strip_prefix("cuda:").is_some_and(|n| n.parse::<u8>().is_ok())
}
