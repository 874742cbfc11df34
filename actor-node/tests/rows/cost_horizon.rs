//! Costs summed over a finite horizon, compared with recorded buffers of the original and with a naive version.

use super::lane::{Fact, assemble, cluster, facts, parts};
use crate::golden::{self, numbers};
use proptest::prelude::*;
use serde_json::Value;

fn costs(facts: &[Fact], horizon: usize) -> Vec<(usize, f64)> {
    let cluster = cluster(|c| c.cost_horizon = horizon);
    let rows = assemble(facts, &cluster, 0);
    rows.iter().map(|row| (row.first_step(), row.get("horizon_cost")[0].into())).collect()
}

/// The original fills slots when an episode ends and leaves the slots of a running episode unchanged. Sapex holds such
/// rows back. Each snapshot is therefore compared only in slots whose last write belongs to an
/// ended episode.
#[test]
fn sums_equal_those_of_the_recorded_buffers() {
    for case in golden::cases("slc_finite_horizon_buffer") {
        let inputs = case.at("/inputs/cases").as_array().unwrap();
        let outputs = case.at("/outputs/cases").as_array().unwrap();
        assert!(!inputs.is_empty() && inputs.len() == outputs.len());
        for (i, (input, output)) in inputs.iter().zip(outputs).enumerate() {
            for snapshot in output["snapshots"].as_array().unwrap() {
                check_snapshot(&case, i, input, snapshot);
            }
        }
    }
}

fn check_snapshot(case: &golden::Case, index: usize, input: &Value, snapshot: &Value) {
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let (size, horizon) = (number(&input["size"]), number(&input["horizon"]));
    let written = number(&snapshot["after_insert"]);
    let [cost, done, truncated] =
        ["cost", "done", "truncated"].map(|key| numbers(&input["inserts"][key]));
    let facts: Vec<Fact> = (0..written)
        .map(|i| Fact {
            reward: cost[i],
            terminated: done[i] > 0.0,
            truncated: truncated[i] > 0.0,
            discarded: false,
        })
        .collect();
    let ended = facts.iter().rposition(Fact::ends).map_or(0, |last| last + 1);
    let recorded = numbers(&snapshot["horizon_cost"]);
    let sums = costs(&facts, horizon);
    let told = format!("case {index} after {written}");
    assert!(sums.len() >= ended, "{told}: every step of an ended episode has its row");
    for (step, sum) in sums.iter().take(ended) {
        let was_overwritten = step + size < written;
        if !was_overwritten {
            case.assert_near(&told, &[*sum], &[recorded[step % size]], "forward");
        }
    }
}

/// Returns for each step of `steps` the sum of its cost and the next horizon − 1 costs. After the end, the last cost is
/// repeated.
fn naive(facts: &[Fact], steps: std::ops::Range<usize>, horizon: usize) -> Vec<f32> {
    let last = steps.end - 1;
    steps.map(|i| (i..i + horizon).map(|k| facts[k.min(last)].reward).sum::<f64>() as f32).collect()
}

proptest! {
    #[test]
    fn transitions_have_the_sums_of_the_naive_version(
        facts in facts(), horizon in 1..12_usize, n in 1..4_usize,
    ) {
        let cluster = cluster(|c| (c.cost_horizon, c.n_step) = (horizon, n));
        let rows = assemble(&facts, &cluster, 1);
        let mut rows = rows.iter();
        for (steps, has_ended) in parts(&facts) {
            let expected = if has_ended {
                naive(&facts, steps.clone(), horizon)
            } else {
                // If the episode is running or was discarded, only the rows that were complete by then.
                let known = steps.len().saturating_sub(horizon.max(n) - 1);
                naive(&facts, steps.clone(), horizon)[..known].to_vec()
            };
            for (step, expected) in steps.zip(expected) {
                let row = rows.next().unwrap();
                prop_assert_eq!(row.first_step(), step);
                prop_assert_eq!(row.get("horizon_cost"), vec![expected]);
                prop_assert_eq!(row.get("state"), vec![step as f32]);
            }
        }
        prop_assert!(rows.next().is_none());
    }

    #[test]
    fn sequences_have_the_sums_of_the_naive_version(
        facts in facts(), horizon in 1..12_usize, len in 2..6_usize, burn_in in 0..2_usize,
    ) {
        let cluster = cluster(|c| {
            (c.cost_horizon, c.sequence_len, c.burn_in) = (horizon, len, burn_in);
        });
        let rows = assemble(&facts, &cluster, 0);
        for (steps, has_ended) in parts(&facts) {
            let sums = naive(&facts, steps.clone(), horizon);
            let own = rows.iter().filter(|row| steps.contains(&row.first_step()));
            let mut starts = 0;
            for row in own {
                let first = row.first_step() - steps.start;
                let mut expected = sums[first..(first + len).min(sums.len())].to_vec();
                expected.resize(len, 0.0);
                prop_assert_eq!(row.get("horizon_cost"), expected);
                starts += 1;
            }
            let stride = len - burn_in;
            let all = if steps.len() <= len { 1 } else { 1 + (steps.len() - len).div_ceil(stride) };
            prop_assert!(!has_ended || starts == all, "{} windows of {:?}", starts, steps);
        }
    }
}

#[test]
fn an_episode_that_ends_early_goes_on_with_its_last_cost() {
    let fact =
        |reward| Fact { reward, terminated: reward == 5.0, truncated: false, discarded: false };
    let facts = [1.0, 2.0, 3.0, 4.0, 5.0].map(fact);
    let sums: Vec<f64> = costs(&facts, 3).into_iter().map(|(_, sum)| sum).collect();
    assert_eq!(sums, [6.0, 9.0, 12.0, 14.0, 15.0]);
    let running: Vec<f64> = costs(&facts[..4], 3).into_iter().map(|(_, sum)| sum).collect();
    assert_eq!(running, [6.0, 9.0], "the others wait for their costs");
}
