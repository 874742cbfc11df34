//! The backward pass, written by hand, against central differences of the losses in float64: tanh networks, environment
//! units, a clamped log-std. (The golden files have ReLU networks only.)

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod drawn;

use common::policy::arch::{Activation, PolicyArch};
use drawn::Drawn;
use learner::native::NativeTrainer;
use learner::trainer::{ActionUnits, CriticArch, TrainState, Trainer, TrainerConfig};

const SEED: u128 = 8;
const OBS: usize = 4;
const ACT: usize = 2;
const ROWS: usize = 15;
const ACTOR_WIDTHS: [usize; 4] = [OBS, 9, 5, 2 * ACT];
const CRITIC_WIDTHS: [usize; 4] = [OBS + ACT, 8, 6, 1];
/// Narrow enough to clamp some rows of a fresh policy, on both sides.
const LOG_STD: [f64; 2] = [0.03, 0.3];
const SCALE: [f64; ACT] = [2.0, 0.5];
const BIAS: [f64; ACT] = [-1.0, 0.25];
const LOSS_FACTOR: f64 = 0.5;

/// Of a gradient that is of order 0.1: f32 sums of a few dozen terms, tenfold from recovering it from Adam's moment.
const TOLERANCE: f64 = 2e-6;

#[test]
fn critic_gradients_are_the_slopes_of_the_critic_losses() {
    let case = Case::draw();
    let after = case.update();
    let targets = case.targets();
    for twin in 0..2 {
        let parameters = case.0.state.critics.params.len() / 2;
        let span = twin * parameters..(twin + 1) * parameters;
        let params = wide(&case.0.state.critics.params[span.clone()]);
        let slopes = slopes(&params, |params| case.critic_loss(params, &targets));
        assert_gradient("critic", &slopes, &after.critics.adam_m[span]);
    }
}

#[test]
fn policy_gradients_are_the_slopes_of_the_actor_loss() {
    let case = Case::draw();
    // The actor's loss is taken with the critics that have just stepped.
    let after = case.update();
    let critics = twins(&after.critics.params);
    let params = wide(&case.0.state.actor.params);
    let slopes = slopes(&params, |params| case.actor_loss(params, &critics));
    assert_gradient("actor", &slopes, &after.actor.adam_m);
}

/// The first update and its losses.
struct Case(Drawn);

impl Case {
    fn draw() -> Self {
        let case = Self(Drawn::new(&config(), SEED));
        case.assert_telling();
        case
    }

    /// The draw reaches every branch: rows for either critic, log-stds below, inside and above the clamp.
    fn assert_telling(&self) {
        let actor = wide(&self.0.state.actor.params);
        let [low, high] = LOG_STD;
        let raw: Vec<f64> = (0..ROWS)
            .flat_map(|row| {
                forward(&actor, &ACTOR_WIDTHS, &row_of(&self.0.obs, OBS, row))[ACT..].to_vec()
            })
            .collect();
        let below = raw.iter().filter(|x| **x < low).count();
        let above = raw.iter().filter(|x| **x > high).count();
        assert!(below > 0 && above > 0 && below + above < raw.len(), "seed {SEED}: {raw:?}");
        let critics = twins(&self.0.state.critics.params);
        let first = (0..ROWS).filter(|&row| {
            let obs = row_of(&self.0.obs, OBS, row);
            let (action, _) = sample(&actor, &obs, &row_of(&self.0.noise, ACT, row));
            let [q1, q2] = [0, 1].map(|twin| value(&critics[twin], &obs, &action));
            q1 < q2
        });
        assert!((1..ROWS).contains(&first.count()), "seed {SEED}: one critic is always the lower");
    }

    /// The state after the first update, by the backend.
    fn update(&self) -> TrainState {
        let mut trainer = NativeTrainer::new(config(), self.0.state.clone(), 2).unwrap();
        trainer.update(&self.0.batch(), &self.0.noise()).unwrap();
        trainer.state()
    }

    /// y, (B)
    fn targets(&self) -> Vec<f64> {
        let (actor, targets) = (wide(&self.0.state.actor.params), twins(&self.0.state.targets));
        let alpha = f64::from(self.0.state.log_alpha.params[0]).exp();
        let target = |row| {
            let obs = row_of(&self.0.next_obs, OBS, row);
            let (action, log_prob) = sample(&actor, &obs, &row_of(&self.0.next_noise, ACT, row));
            let [q1, q2] = [0, 1].map(|twin| value(&targets[twin], &obs, &action));
            let bootstrap = q1.min(q2) - alpha * log_prob;
            f64::from(self.0.reward[row]) + f64::from(self.0.discount[row]) * bootstrap
        };
        (0..ROWS).map(target).collect()
    }

    fn critic_loss(&self, params: &[f64], targets: &[f64]) -> f64 {
        let rows = (0..ROWS).map(|row| {
            let action = row_of(&self.0.action, ACT, row);
            let td = value(params, &row_of(&self.0.obs, OBS, row), &action) - targets[row];
            LOSS_FACTOR * f64::from(self.0.weight[row]) * td * td
        });
        rows.sum::<f64>() / ROWS as f64
    }

    fn actor_loss(&self, params: &[f64], critics: &[Vec<f64>; 2]) -> f64 {
        let alpha = f64::from(self.0.state.log_alpha.params[0]).exp();
        let rows = (0..ROWS).map(|row| {
            let obs = row_of(&self.0.obs, OBS, row);
            let (action, log_prob) = sample(params, &obs, &row_of(&self.0.noise, ACT, row));
            let [q1, q2] = [0, 1].map(|twin| value(&critics[twin], &obs, &action));
            alpha * log_prob - q1.min(q2)
        });
        rows.sum::<f64>() / ROWS as f64
    }
}

fn config() -> TrainerConfig {
    TrainerConfig {
        policy: PolicyArch::mlp_gaussian(
            (OBS, ACT),
            &ACTOR_WIDTHS[1..3],
            Activation::Tanh,
            (LOG_STD[0] as f32, LOG_STD[1] as f32),
        ),
        critic: CriticArch::mlp(OBS, ACT, &CRITIC_WIDTHS[1..3], Activation::Tanh),
        critic_loss_factor: LOSS_FACTOR as f32,
        critic_action_units: ActionUnits::Env,
        log_prob_units: ActionUnits::Env,
        action_scale: SCALE.map(|x| x as f32).to_vec(),
        action_bias: BIAS.map(|x| x as f32).to_vec(),
        batch_size: ROWS,
        ..drawn::config()
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

fn twins(params: &[f32]) -> [Vec<f64>; 2] {
    let (first, second) = params.split_at(params.len() / 2);
    [wide(first), wide(second)]
}

fn row_of(values: &[f32], width: usize, row: usize) -> Vec<f64> {
    wide(&values[row * width..(row + 1) * width])
}

/// A tanh network on one row; per layer the weights (out, in), then the biases (out).
fn forward(params: &[f64], widths: &[usize], x: &[f64]) -> Vec<f64> {
    let (mut x, mut rest) = (x.to_vec(), params);
    for (i, pair) in widths.windows(2).enumerate() {
        let (weights, tail) = rest.split_at(pair[0] * pair[1]);
        let (biases, tail) = tail.split_at(pair[1]);
        rest = tail;
        let sums = weights.chunks_exact(pair[0]).zip(biases).map(|(w, bias)| {
            let sum = bias + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
            if i + 2 == widths.len() { sum } else { sum.tanh() }
        });
        x = sums.collect();
    }
    assert!(rest.is_empty(), "the widths use up the parameters");
    x
}

/// A normalised action and its log-probability in the environment's units, by the textbook: the Gaussian's density over
/// the slope of `scale · tanh`.
fn sample(params: &[f64], obs: &[f64], noise: &[f64]) -> (Vec<f64>, f64) {
    let heads = forward(params, &ACTOR_WIDTHS, obs);
    let (mut action, mut log_prob) = (Vec::new(), 0.0);
    for j in 0..ACT {
        let log_std = heads[ACT + j].clamp(LOG_STD[0], LOG_STD[1]);
        let tanh = (heads[j] + log_std.exp() * noise[j]).tanh();
        let gaussian =
            -0.5 * noise[j] * noise[j] - log_std - 0.5 * (2.0 * std::f64::consts::PI).ln();
        log_prob += gaussian - (SCALE[j] * (1.0 - tanh * tanh)).ln();
        action.push(tanh);
    }
    (action, log_prob)
}

/// Q of a normalised action; the critic sees the environment's units.
fn value(params: &[f64], obs: &[f64], action: &[f64]) -> f64 {
    let env = (0..ACT).map(|j| action[j] * SCALE[j] + BIAS[j]);
    let input: Vec<f64> = obs.iter().copied().chain(env).collect();
    forward(params, &CRITIC_WIDTHS, &input)[0]
}

/// Central differences of `loss` in every parameter.
fn slopes(params: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let slope = |i: usize| {
        let [up, down] = [STEP, -STEP].map(|step| {
            let mut moved = params.to_vec();
            moved[i] += step;
            loss(&moved)
        });
        (up - down) / (2.0 * STEP)
    };
    (0..params.len()).map(slope).collect()
}

/// Adam's first moment after the first step is a tenth of the gradient.
fn assert_gradient(what: &str, slopes: &[f64], moment: &[f32]) {
    assert_eq!(slopes.len(), moment.len());
    for (i, (slope, moment)) in slopes.iter().zip(moment).enumerate() {
        let gradient = f64::from(*moment) / 0.1;
        assert!(
            (gradient - slope).abs() <= TOLERANCE,
            "{what}, parameter {i}, seed {SEED}: gradient {gradient:e}, slope {slope:e}"
        );
    }
    assert!(slopes.iter().any(|slope| slope.abs() > 0.05), "{what}: gradients are not tiny");
}
