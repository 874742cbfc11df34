//! The hand-written backward pass compared with central differences of the losses in float64, for every activation,
//! environment units, a clamped log-std and discrete actions. (Most golden files have only ReLU networks.)

use crate::drawn::Drawn;
use crate::native_configs::{discrete, draw};
use common::policy::arch::{Activation, PolicyArch};
use learner::native::NativeTrainer;
use learner::trainer::{ActionUnits, CriticArch, TrainState, Trainer, TrainerConfig};

const SEED: u128 = 8;
const OBS: usize = 4;
const ACT: usize = 2;
const ROWS: usize = 15;
/// Number of discrete actions.
const ACTIONS: usize = 4;
const ACTOR_WIDTHS: [usize; 4] = [OBS, 9, 5, 2 * ACT];
const CRITIC_WIDTHS: [usize; 4] = [OBS + ACT, 8, 6, 1];
const LOGITS_WIDTHS: [usize; 4] = [OBS, 9, 5, ACTIONS];
const VALUES_WIDTHS: [usize; 4] = [OBS, 8, 6, ACTIONS];
/// Bounds of the log-std, narrow enough to clamp some rows of a fresh policy on both sides.
const LOG_STD: [f64; 2] = [0.03, 0.3];
const SCALE: [f64; ACT] = [2.0, 0.5];
const BIAS: [f64; ACT] = [-1.0, 0.25];
const LOSS_FACTOR: f64 = 0.5;

/// Tolerance for gradients of order 0.1: the rounding of f32 sums of a few dozen terms, times ten for recovering the
/// gradient from Adam's moment.
const TOLERANCE: f64 = 2e-6;

/// All activations that the native backend supports.
const ACTIVATIONS: [Activation; 4] =
    [Activation::Tanh, Activation::Elu, Activation::LeakyRelu, Activation::Relu];

#[test]
fn critic_gradients_are_the_slopes_of_the_critic_losses() {
    for activation in ACTIVATIONS {
        let case = Case::draw(activation);
        let (after, targets) = (case.update(), case.targets());
        case.assert_critic_gradients(&after, |params| case.critic_loss(params, &targets));
    }
}

#[test]
fn policy_gradients_are_the_slopes_of_the_actor_loss() {
    for activation in ACTIVATIONS {
        let case = Case::draw(activation);
        // The actor's loss uses the critics after their step.
        let after = case.update();
        let critics = twins(&after.critics.params);
        case.assert_actor_gradients(&after, |params| case.actor_loss(params, &critics));
    }
}

#[test]
fn discrete_critic_gradients_are_the_slopes_of_the_critic_losses() {
    for activation in ACTIVATIONS {
        let case = Case::draw_discrete(activation);
        let (after, targets) = (case.update(), case.discrete_targets());
        case.assert_critic_gradients(&after, |params| case.discrete_critic_loss(params, &targets));
    }
}

#[test]
fn discrete_policy_gradients_are_the_slopes_of_the_actor_loss() {
    for activation in ACTIVATIONS {
        let case = Case::draw_discrete(activation);
        let after = case.update();
        let critics = twins(&after.critics.params);
        case.assert_actor_gradients(&after, |params| case.discrete_actor_loss(params, &critics));
    }
}

/// An update and its losses in float64.
struct Case {
    drawn: Drawn,
    config: TrainerConfig,
    activation: Activation,
}

impl Case {
    fn draw(activation: Activation) -> Self {
        let config = config(activation, ACT);
        let case = Self { drawn: draw(&config, SEED), config, activation };
        case.assert_telling();
        case
    }

    fn draw_discrete(activation: Activation) -> Self {
        let config = discrete(config(activation, ACTIONS));
        let case = Self { drawn: draw(&config, SEED), config, activation };
        let critics = twins(&case.drawn.state.critics.params);
        let first = (0..ROWS).flat_map(|row| {
            let [q1, q2] = case.discrete_values(&critics, &row_of(&case.drawn.obs, OBS, row));
            (0..ACTIONS).filter(move |&a| q1[a] < q2[a]).collect::<Vec<_>>()
        });
        let all = ROWS * ACTIONS;
        assert!((1..all).contains(&first.count()), "seed {SEED}: one critic is always the lower");
        case
    }

    fn assert_critic_gradients(&self, after: &TrainState, loss: impl Fn(&[f64]) -> f64) {
        for twin in 0..2 {
            let parameters = self.drawn.state.critics.params.len() / 2;
            let span = twin * parameters..(twin + 1) * parameters;
            let slopes = slopes(&wide(&self.drawn.state.critics.params[span.clone()]), &loss);
            let what = format!("{:?}, critic {twin}", self.activation);
            assert_gradient(&what, &slopes, &after.critics.adam_m[span]);
        }
    }

    fn assert_actor_gradients(&self, after: &TrainState, loss: impl Fn(&[f64]) -> f64) {
        let slopes = slopes(&wide(&self.drawn.state.actor.params), loss);
        assert_gradient(&format!("{:?}, actor", self.activation), &slopes, &after.actor.adam_m);
    }

    /// Asserts that the random draw covers every branch: rows for either critic, log-stds below, inside and above the
    /// clamp.
    fn assert_telling(&self) {
        let actor = wide(&self.drawn.state.actor.params);
        let [low, high] = LOG_STD;
        let raw: Vec<f64> = (0..ROWS)
            .flat_map(|row| {
                self.forward(&actor, &ACTOR_WIDTHS, &row_of(&self.drawn.obs, OBS, row))[ACT..]
                    .to_vec()
            })
            .collect();
        let below = raw.iter().filter(|x| **x < low).count();
        let above = raw.iter().filter(|x| **x > high).count();
        assert!(below > 0 && above > 0 && below + above < raw.len(), "seed {SEED}: {raw:?}");
        let critics = twins(&self.drawn.state.critics.params);
        let first = (0..ROWS).filter(|&row| {
            let obs = row_of(&self.drawn.obs, OBS, row);
            let (action, _) = self.sample(&actor, &obs, &row_of(&self.drawn.noise, ACT, row));
            let [q1, q2] = [0, 1].map(|twin| self.value(&critics[twin], &obs, &action));
            q1 < q2
        });
        assert!((1..ROWS).contains(&first.count()), "seed {SEED}: one critic is always the lower");
    }

    /// Returns the state after one update by the backend.
    fn update(&self) -> TrainState {
        let mut trainer =
            NativeTrainer::new(self.config.clone(), self.drawn.state.clone(), 2).unwrap();
        let sizes = self.config.step_sizes();
        trainer.update(&self.drawn.batch(), &self.drawn.noise(), &sizes).unwrap();
        trainer.state()
    }

    /// Returns the targets y, (B).
    fn targets(&self) -> Vec<f64> {
        let (actor, targets) =
            (wide(&self.drawn.state.actor.params), twins(&self.drawn.state.targets));
        let alpha = f64::from(self.drawn.state.log_alpha.params[0]).exp();
        let target = |row| {
            let obs = row_of(&self.drawn.next_obs, OBS, row);
            let (action, log_prob) =
                self.sample(&actor, &obs, &row_of(&self.drawn.next_noise, ACT, row));
            let [q1, q2] = [0, 1].map(|twin| self.value(&targets[twin], &obs, &action));
            let bootstrap = q1.min(q2) - alpha * log_prob;
            f64::from(self.drawn.reward[row]) + f64::from(self.drawn.discount[row]) * bootstrap
        };
        (0..ROWS).map(target).collect()
    }

    fn critic_loss(&self, params: &[f64], targets: &[f64]) -> f64 {
        let rows = (0..ROWS).map(|row| {
            let action = row_of(&self.drawn.action, ACT, row);
            let td = self.value(params, &row_of(&self.drawn.obs, OBS, row), &action) - targets[row];
            LOSS_FACTOR * f64::from(self.drawn.weight[row]) * td * td
        });
        rows.sum::<f64>() / ROWS as f64
    }

    fn actor_loss(&self, params: &[f64], critics: &[Vec<f64>; 2]) -> f64 {
        let alpha = f64::from(self.drawn.state.log_alpha.params[0]).exp();
        let rows = (0..ROWS).map(|row| {
            let obs = row_of(&self.drawn.obs, OBS, row);
            let (action, log_prob) =
                self.sample(params, &obs, &row_of(&self.drawn.noise, ACT, row));
            let [q1, q2] = [0, 1].map(|twin| self.value(&critics[twin], &obs, &action));
            alpha * log_prob - q1.min(q2)
        });
        rows.sum::<f64>() / ROWS as f64
    }

    /// Returns the probabilities and their logarithms, computed directly from the definition of softmax.
    fn probabilities(&self, params: &[f64], obs: &[f64]) -> Vec<(f64, f64)> {
        let masses = self.forward(params, &LOGITS_WIDTHS, obs);
        let masses: Vec<f64> = masses.into_iter().map(f64::exp).collect();
        let total: f64 = masses.iter().sum();
        masses.iter().map(|mass| (mass / total, (mass / total).ln())).collect()
    }

    fn discrete_values(&self, critics: &[Vec<f64>; 2], obs: &[f64]) -> [Vec<f64>; 2] {
        critics.each_ref().map(|critic| self.forward(critic, &VALUES_WIDTHS, obs))
    }

    /// Returns sum_a p_a (alpha ln p_a - min Q_a).
    fn surplus(&self, actor: &[f64], critics: &[Vec<f64>; 2], obs: &[f64]) -> f64 {
        let alpha = f64::from(self.drawn.state.log_alpha.params[0]).exp();
        let [q1, q2] = self.discrete_values(critics, obs);
        let actions = self.probabilities(actor, obs).into_iter().zip(q1).zip(q2);
        actions.map(|(((p, log_p), q1), q2)| p * (alpha * log_p - q1.min(q2))).sum()
    }

    fn discrete_targets(&self) -> Vec<f64> {
        let Drawn { state, next_obs, reward, discount, .. } = &self.drawn;
        let (actor, targets) = (wide(&state.actor.params), twins(&state.targets));
        let target = |row| {
            let surplus = self.surplus(&actor, &targets, &row_of(next_obs, OBS, row));
            f64::from(reward[row]) - f64::from(discount[row]) * surplus
        };
        (0..ROWS).map(target).collect()
    }

    fn discrete_critic_loss(&self, params: &[f64], targets: &[f64]) -> f64 {
        let rows = (0..ROWS).map(|row| {
            let obs = row_of(&self.drawn.obs, OBS, row);
            let values = self.forward(params, &VALUES_WIDTHS, &obs);
            let td = values[self.drawn.action[row] as usize] - targets[row];
            LOSS_FACTOR * f64::from(self.drawn.weight[row]) * td * td
        });
        rows.sum::<f64>() / ROWS as f64
    }

    fn discrete_actor_loss(&self, params: &[f64], critics: &[Vec<f64>; 2]) -> f64 {
        let rows =
            (0..ROWS).map(|row| self.surplus(params, critics, &row_of(&self.drawn.obs, OBS, row)));
        rows.sum::<f64>() / ROWS as f64
    }

    /// Evaluates a network for one row. `params` holds for each layer the weights (out, in), then the biases (out).
    fn forward(&self, params: &[f64], widths: &[usize], x: &[f64]) -> Vec<f64> {
        let (mut x, mut rest) = (x.to_vec(), params);
        for (i, pair) in widths.windows(2).enumerate() {
            let (weights, tail) = rest.split_at(pair[0] * pair[1]);
            let (biases, tail) = tail.split_at(pair[1]);
            rest = tail;
            let sums = weights.chunks_exact(pair[0]).zip(biases).map(|(w, bias)| {
                let sum = bias + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
                if i + 2 == widths.len() { sum } else { self.activate(sum) }
            });
            x = sums.collect();
        }
        assert!(rest.is_empty(), "the widths use up the parameters");
        x
    }

    /// Returns a normalised action and its log-probability in the environment's units, from the definition: the
    /// Gaussian's density divided by the slope of `scale · tanh`.
    fn sample(&self, params: &[f64], obs: &[f64], noise: &[f64]) -> (Vec<f64>, f64) {
        let heads = self.forward(params, &ACTOR_WIDTHS, obs);
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

    /// Returns Q of a normalised action, converted to the environment's units for the critic.
    fn value(&self, params: &[f64], obs: &[f64], action: &[f64]) -> f64 {
        let env = (0..ACT).map(|j| action[j] * SCALE[j] + BIAS[j]);
        let input: Vec<f64> = obs.iter().copied().chain(env).collect();
        self.forward(params, &CRITIC_WIDTHS, &input)[0]
    }

    fn activate(&self, x: f64) -> f64 {
        match self.activation {
            Activation::Tanh => x.tanh(),
            Activation::Relu => x.max(0.0),
            Activation::Elu => x.max(x.min(0.0).exp() - 1.0),
            Activation::LeakyRelu => x.max(0.01 * x),
            other => panic!("{other:?}"),
        }
    }
}

fn config(activation: Activation, act_dim: usize) -> TrainerConfig {
    TrainerConfig {
        policy: PolicyArch::mlp_gaussian(
            (OBS, act_dim),
            &ACTOR_WIDTHS[1..3],
            activation,
            (LOG_STD[0] as f32, LOG_STD[1] as f32),
        ),
        critic: CriticArch::mlp(OBS, act_dim, &CRITIC_WIDTHS[1..3], activation),
        action_scale: SCALE.map(|x| x as f32).to_vec(),
        action_bias: BIAS.map(|x| x as f32).to_vec(),
        ..crate::drawn::config()
    }
    .with(|training| {
        training.critic_loss_factor = LOSS_FACTOR;
        training.critic_action_units = ActionUnits::Env;
        training.log_prob_units = ActionUnits::Env;
        training.batch_size = ROWS;
    })
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

/// Returns the central differences of `loss` with respect to every parameter.
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

/// Compares gradients. Adam's first moment after the first step is a tenth of the gradient.
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
