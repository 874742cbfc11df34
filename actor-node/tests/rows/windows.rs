//! Sequences compared with a naive version over random episodes. Checks also that no step is lost or counted twice.

use super::lane::{Fact, Row, assemble, cluster, facts, parts};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn sequences(facts: &[Fact], len: usize, burn_in: usize, gamma: f64, state_dim: usize) -> Vec<Row> {
    let cluster = cluster(|c| {
        (c.sequence_len, c.burn_in, c.gamma) = (len, burn_in, gamma);
    });
    assemble(facts, &cluster, state_dim)
}

/// Returns one expected window, field by field.
fn window(facts: &[Fact], steps: std::ops::Range<usize>, len: usize, gamma: f64) -> Vec<Vec<f32>> {
    let padded = |mut numbers: Vec<f32>, to: usize| {
        numbers.resize(to, 0.0);
        numbers
    };
    let each = |number: &dyn Fn(usize) -> f32| padded(steps.clone().map(number).collect(), len);
    let mut obs: Vec<f32> = steps.clone().flat_map(|i| [i as f32, -(i as f32)]).collect();
    let last = (steps.end - 1) as f32 + 0.5;
    obs.extend([last, -last]);
    vec![
        padded(obs, 2 * (len + 1)),
        each(&|i| i as f32 / 1000.0),
        each(&|i| facts[i].reward as f32),
        each(&|i| if facts[i].terminated { 0.0 } else { gamma as f32 }),
        each(&|_| 1.0),
        vec![steps.start as f32],
    ]
}

/// Returns the expected windows, episode by episode. Windows start at 0, T − b, 2 (T − b), ... as long as there is a
/// step after the overlap. Of a running episode only full windows are included.
fn naive(facts: &[Fact], len: usize, burn_in: usize, gamma: f64) -> Vec<Vec<Vec<f32>>> {
    let mut rows = Vec::new();
    for (steps, has_ended) in parts(facts) {
        let mut start = steps.start;
        loop {
            let is_first = start == steps.start;
            let has_fresh_steps = start + if is_first { 0 } else { burn_in } < steps.end;
            let is_whole = start + len <= steps.end;
            if !has_fresh_steps || (!is_whole && !has_ended) {
                break;
            }
            rows.push(window(facts, start..(start + len).min(steps.end), len, gamma));
            start += len - burn_in;
        }
    }
    rows
}

fn shape() -> impl Strategy<Value = (usize, usize)> {
    (2..12_usize).prop_flat_map(|len| (Just(len), 0..len))
}

proptest! {
    #[test]
    fn windows_are_those_of_the_naive_version(
        facts in facts(), (len, burn_in) in shape(), gamma in 0.0..1.0_f64,
    ) {
        let names = ["obs", "action", "reward", "discount", "valid", "state"];
        let rows: Vec<_> = sequences(&facts, len, burn_in, gamma, 1)
            .iter()
            .map(|row| names.map(|name| row.get(name)).to_vec())
            .collect();
        prop_assert_eq!(rows, naive(&facts, len, burn_in, gamma));
    }

    #[test]
    fn every_step_is_in_one_window_outside_its_burn_in(facts in facts(), (len, burn_in) in shape()) {
        let mut seen = BTreeMap::<usize, (u32, u32)>::new();
        for row in sequences(&facts, len, burn_in, 0.9, 0) {
            prop_assert_eq!(row.first_step() as f32, row.get("obs")[0]);
            for (k, valid) in row.get("valid").into_iter().enumerate() {
                if valid == 1.0 {
                    let counts = seen.entry(row.first_step() + k).or_default();
                    *(if k < burn_in { &mut counts.0 } else { &mut counts.1 }) += 1;
                }
            }
        }
        for (steps, has_ended) in parts(&facts) {
            for (k, step) in steps.enumerate() {
                let (warm, counted) = seen.get(&step).copied().unwrap_or_default();
                // An episode's first steps only warm up its first window, because no steps precede them.
                let expected = u32::from(k >= burn_in);
                if has_ended {
                    prop_assert_eq!(counted, expected, "step {} of its episode", k);
                    prop_assert!(counted + warm >= 1, "step {} of its episode is nowhere", k);
                } else {
                    prop_assert!(counted <= expected);
                }
            }
        }
    }
}

#[test]
fn an_episode_of_five_makes_two_windows_of_three_that_share_a_step() {
    let fact = |reward, terminated| Fact { reward, terminated, truncated: false, discarded: false };
    let facts = [1.0, 2.0, 3.0, 4.0, 5.0].map(|reward| fact(reward, reward == 5.0));
    let rows = sequences(&facts, 3, 1, 0.5, 1);
    let rewards: Vec<_> = rows.iter().map(|row| row.get("reward")).collect();
    assert_eq!(rewards, [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]);
    assert_eq!(rows[1].get("discount"), [0.5, 0.5, 0.0]);
    assert_eq!(rows[1].get("state"), [2.0]);
    let rows = sequences(&facts[..], 4, 1, 0.5, 1);
    assert_eq!(rows[1].get("valid"), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(rows[1].get("obs"), [3.0, -3.0, 4.0, -4.0, 4.5, -4.5, 0.0, 0.0, 0.0, 0.0]);
}
