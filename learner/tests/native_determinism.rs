//! An update is a function of state, batch and noise. It is the same bit by bit in every run, on any number of threads,
//! and after the state was copied. A batch or state that does not fit is refused and changes nothing.

use crate::drawn::{Drawn, config};
use crate::native_configs::{discrete, draw};
use common::policy::arch::{Activation, Body};
use learner::native::NativeTrainer;
use learner::trainer::{
    Algorithm, Batch, Noise, TrainState, Trainer, TrainerConfig, TrainerError, UpdateStats,
};

const SEED: u128 = 3;
const UPDATES: usize = 20;

fn trainer(drawn: &Drawn, threads: usize) -> NativeTrainer {
    of(&config(), drawn, threads)
}

fn of(config: &TrainerConfig, drawn: &Drawn, threads: usize) -> NativeTrainer {
    NativeTrainer::new(config.clone(), drawn.state.clone(), threads).unwrap()
}

/// Returns the bits of all results of [`UPDATES`] updates.
fn outcome(trainer: &mut NativeTrainer, drawn: &Drawn) -> (Vec<u32>, UpdateStats) {
    let mut td_abs = vec![0.0; config().training.batch_size];
    let mut bits = Vec::new();
    for _ in 0..UPDATES {
        trainer.update(&drawn.batch(), &drawn.noise(), &config().step_sizes()).unwrap();
        trainer.pop_td_abs(&mut td_abs).unwrap();
        bits.extend(td_abs.iter().map(|x| x.to_bits()));
    }
    bits.extend(state_bits(&trainer.state()));
    (bits, trainer.take_stats())
}

fn state_bits(state: &TrainState) -> Vec<u32> {
    let TrainState { actor, critics, targets, log_alpha, updates, .. } = state;
    let groups = [actor, critics, log_alpha];
    let moments = groups.iter().flat_map(|group| [&group.params, &group.adam_m, &group.adam_v]);
    let values = moments.chain([targets]).flatten().map(|x| x.to_bits());
    values.chain([u32::try_from(*updates).unwrap()]).collect()
}

#[test]
fn updates_are_the_same_in_every_run_and_on_any_number_of_threads() {
    for config in [config(), discrete(config())] {
        let drawn = draw(&config, SEED);
        let expected = outcome(&mut of(&config, &drawn, 1), &drawn);
        for threads in [1, 2, 2, 3, 5] {
            let got = outcome(&mut of(&config, &drawn, threads), &drawn);
            assert!(got == expected, "{:?}, {threads} threads, seed {SEED}", config.algorithm);
        }
    }
}

#[test]
fn a_copied_state_continues_like_the_original() {
    for config in [config(), discrete(config())] {
        let drawn = draw(&config, SEED);
        let mut original = of(&config, &drawn, 2);
        outcome(&mut original, &drawn);

        let mut copy = of(&config, &draw(&config, SEED + 1), 2);
        outcome(&mut copy, &drawn);
        copy.load(&original.state()).unwrap();

        assert_eq!(state_bits(&copy.state()), state_bits(&original.state()));
        assert!(outcome(&mut copy, &drawn) == outcome(&mut original, &drawn), "seed {SEED}");
    }
}

/// Losses are means, and the halves of the batch add up exactly. In a batch of one row, one half is empty.
#[test]
fn a_row_that_is_there_twice_counts_as_one() {
    for config in [config(), discrete(config())] {
        let sized = |batch_size| {
            config.clone().with(|training| {
                training.batch_size = batch_size;
            })
        };
        let once = draw(&sized(1), SEED);
        let mut twice = draw(&sized(1), SEED);
        let Drawn { state: _, obs, action, reward, discount, next_obs, weight, .. } = &mut twice;
        for column in [obs, action, reward, discount, next_obs, weight] {
            column.extend_from_within(..);
        }
        twice.noise.extend_from_within(..);
        twice.next_noise.extend_from_within(..);
        let [one, two] = [(1, once), (2, twice)].map(|(batch_size, drawn)| {
            let mut trainer = of(&sized(batch_size), &drawn, 1);
            for _ in 0..UPDATES {
                trainer.update(&drawn.batch(), &drawn.noise(), &config.step_sizes()).unwrap();
            }
            state_bits(&trainer.state())
        });
        assert!(one == two, "{:?}, seed {SEED}", config.algorithm);
    }
}

#[test]
fn the_actor_alone_is_what_the_state_says() {
    let drawn = Drawn::new(&config(), SEED);
    let mut trainer = trainer(&drawn, 1);
    outcome(&mut trainer, &drawn);
    let mut params = vec![0.0; drawn.state.actor.params.len()];
    trainer.actor_params(&mut params);
    assert_eq!(params, trainer.state().actor.params);
}

#[test]
fn a_batch_of_other_shapes_is_refused_and_nothing_changes() {
    let drawn = Drawn::new(&config(), SEED);
    let mut trainer = trainer(&drawn, 2);
    let before = state_bits(&trainer.state());
    let (batch, sizes) = (drawn.batch(), config().step_sizes());
    let wrong = [
        ("batch.obs", Batch { obs: &drawn.obs[1..], ..batch }),
        ("batch.action", Batch { action: &drawn.action[1..], ..batch }),
        ("batch.reward", Batch { reward: &drawn.reward[1..], ..batch }),
        ("batch.discount", Batch { discount: &drawn.discount[1..], ..batch }),
        ("batch.next_obs", Batch { next_obs: &[], ..batch }),
        ("batch.weight", Batch { weight: &drawn.obs, ..batch }),
    ];
    for (name, batch) in wrong {
        assert_shape(trainer.update(&batch, &drawn.noise(), &sizes), name);
    }
    for name in ["noise.next_action", "noise.action"] {
        let mut noise = drawn.noise();
        if name == "noise.action" {
            noise.action = &[]
        } else {
            noise.next_action = &[]
        }
        assert_shape(trainer.update(&batch, &noise, &sizes), name);
    }
    assert_eq!(state_bits(&trainer.state()), before);
    assert_eq!(trainer.take_stats().updates, 0);
}

#[test]
fn discrete_actions_are_indices_and_take_no_noise() {
    let config = discrete(config());
    let (drawn, sizes) = (draw(&config, SEED), config.step_sizes());
    let mut trainer = of(&config, &drawn, 2);
    let before = state_bits(&trainer.state());
    for wrong in [-1.0, 0.5, 3.0, 1e30, f32::NAN, f32::INFINITY] {
        let mut action = drawn.action.clone();
        action[17] = wrong;
        let batch = Batch { action: &action, ..drawn.batch() };
        let message = trainer.update(&batch, &Noise::default(), &sizes).unwrap_err().to_string();
        let expected = format!("batch.action[17] is {wrong}, expected a whole number below 3");
        assert_eq!(message, expected);
    }
    let noise = Noise { next_action: &drawn.obs, ..Noise::default() };
    assert_shape(trainer.update(&drawn.batch(), &noise, &sizes), "noise.next_action");
    let one_hot = Batch { action: &drawn.obs[..3 * config.training.batch_size], ..drawn.batch() };
    assert_shape(trainer.update(&one_hot, &Noise::default(), &sizes), "batch.action");
    assert_eq!(trainer.noise_sizes(), learner::trainer::NoiseSizes::default());
    assert_eq!(state_bits(&trainer.state()), before);
    trainer.update(&drawn.batch(), &Noise::default(), &sizes).unwrap();
}

#[test]
fn what_another_backend_must_train_is_refused_by_name() {
    type Change = fn(&mut TrainerConfig);
    let changes: [(&str, Change); 6] = [
        ("leaky-relu", |c| activation(c, Activation::Silu)),
        ("leaky-relu", |c| activation(c, Activation::Mish)),
        ("learner.critics", |c| c.training.critics = 1),
        ("cluster.sequence_len", |c| c.sequence_len = 2),
        ("learner.target_updates", |c| c.training.target_updates = 2),
        ("perceptron", |c| c.policy.obs_clip = Some(5.0)),
    ];
    for served in [config(), discrete(config())] {
        let drawn = draw(&served, SEED);
        for (name, change) in changes {
            let mut config = served.clone();
            change(&mut config);
            let refused = NativeTrainer::new(config.clone(), drawn.state.clone(), 1).unwrap_err();
            assert!(refused.to_string().contains(name), "{name}: {refused}");
            assert!(of(&served, &drawn, 1).reconfigure(&config).is_err(), "{name}");
        }
    }
    let sampled = Algorithm::DiscreteSac(learner::trainer::DiscreteLoss::Sampled);
    let config = TrainerConfig { algorithm: sampled, ..discrete(config()) };
    assert!(learner::native::serves(&config).is_err());
}

fn activation(config: &mut TrainerConfig, activation: Activation) {
    let bodies = [&mut config.policy.body, &mut config.critic.body];
    for body in bodies {
        let Body::Mlp(mlp) = body else { panic!("a perceptron") };
        mlp.activation = activation;
    }
}

#[test]
fn a_state_of_other_shapes_is_refused_and_nothing_changes() {
    let drawn = Drawn::new(&config(), SEED);
    let mut trainer = trainer(&drawn, 1);
    let before = state_bits(&trainer.state());
    type Damage = fn(&mut TrainState);
    let damage: [(&str, Damage); 4] = [
        ("state.actor", |state| state.actor.adam_v.truncate(3)),
        ("state.critics", |state| state.critics.params.push(0.0)),
        ("state.targets", |state| state.targets.clear()),
        ("state.log_alpha", |state| state.log_alpha.adam_m.push(0.0)),
    ];
    for (name, damage) in damage {
        let mut state = Drawn::new(&config(), SEED + 1).state;
        damage(&mut state);
        assert_shape(trainer.load(&state), name);
        assert_shape(NativeTrainer::new(config(), state, 1).map(drop), name);
    }
    assert_eq!(state_bits(&trainer.state()), before);
}

#[test]
fn an_update_is_asked_for_its_errors_once() {
    let drawn = Drawn::new(&config(), SEED);
    let mut trainer = trainer(&drawn, 1);
    let mut td_abs = vec![0.0; config().training.batch_size];
    assert_shape(trainer.pop_td_abs(&mut td_abs), "outstanding updates");
    trainer.update(&drawn.batch(), &drawn.noise(), &config().step_sizes()).unwrap();
    assert_shape(trainer.pop_td_abs(&mut td_abs[1..]), "td_abs");
    trainer.pop_td_abs(&mut td_abs).unwrap();
    assert_shape(trainer.pop_td_abs(&mut td_abs), "outstanding updates");
}

fn assert_shape(result: Result<(), TrainerError>, name: &str) {
    assert!(
        matches!(&result, Err(TrainerError::Shape { what, .. }) if *what == name),
        "{name}: {result:?}"
    );
}
