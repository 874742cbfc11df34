//! An update is a function of state, batch and noise: bit by bit the same in every run, on any number of threads, and
//! after the state went through a copy. What does not fit is refused and changes nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod drawn;

use drawn::{Drawn, config};
use learner::native::NativeTrainer;
use learner::trainer::{Batch, TrainState, Trainer, TrainerError, UpdateStats};

const SEED: u128 = 3;
const UPDATES: usize = 20;

fn trainer(drawn: &Drawn, threads: usize) -> NativeTrainer {
    NativeTrainer::new(config(), drawn.state.clone(), threads).unwrap()
}

/// The bits of everything that came out of [`UPDATES`] updates.
fn outcome(trainer: &mut NativeTrainer, drawn: &Drawn) -> (Vec<u32>, UpdateStats) {
    let mut td_abs = vec![0.0; config().batch_size];
    let mut bits = Vec::new();
    for _ in 0..UPDATES {
        trainer.update(&drawn.batch(), &drawn.noise()).unwrap();
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
    let drawn = Drawn::new(&config(), SEED);
    let expected = outcome(&mut trainer(&drawn, 1), &drawn);
    for threads in [1, 2, 2, 3, 5] {
        let got = outcome(&mut trainer(&drawn, threads), &drawn);
        assert!(got == expected, "{threads} threads, seed {SEED}");
    }
}

#[test]
fn a_copied_state_continues_like_the_original() {
    let drawn = Drawn::new(&config(), SEED);
    let mut original = trainer(&drawn, 2);
    outcome(&mut original, &drawn);

    let mut copy = trainer(&Drawn::new(&config(), SEED + 1), 2);
    outcome(&mut copy, &drawn);
    copy.load(&original.state()).unwrap();

    assert_eq!(state_bits(&copy.state()), state_bits(&original.state()));
    assert!(outcome(&mut copy, &drawn) == outcome(&mut original, &drawn), "seed {SEED}");
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
    let batch = drawn.batch();
    let wrong = [
        ("batch.obs", Batch { obs: &drawn.obs[1..], ..batch }),
        ("batch.action", Batch { action: &drawn.action[1..], ..batch }),
        ("batch.reward", Batch { reward: &drawn.reward[1..], ..batch }),
        ("batch.discount", Batch { discount: &drawn.discount[1..], ..batch }),
        ("batch.next_obs", Batch { next_obs: &[], ..batch }),
        ("batch.weight", Batch { weight: &drawn.obs, ..batch }),
    ];
    for (name, batch) in wrong {
        assert_shape(trainer.update(&batch, &drawn.noise()), name);
    }
    for name in ["noise.next_action", "noise.action"] {
        let mut noise = drawn.noise();
        if name == "noise.action" {
            noise.action = &[]
        } else {
            noise.next_action = &[]
        }
        assert_shape(trainer.update(&batch, &noise), name);
    }
    assert_eq!(state_bits(&trainer.state()), before);
    assert_eq!(trainer.take_stats().updates, 0);
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
    let mut td_abs = vec![0.0; config().batch_size];
    assert_shape(trainer.pop_td_abs(&mut td_abs), "outstanding updates");
    trainer.update(&drawn.batch(), &drawn.noise()).unwrap();
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
