//! n-step rows compared with a naive version over random episodes, and with returns recorded from Tianshou.

use super::lane::{Fact, Row, assemble, cluster, facts};
use crate::golden::{self, Case, numbers};
use proptest::prelude::*;
use serde_json::Value;

/// Returns (obs, action, reward, discount, next_obs, state, next_state) of one row.
fn read(row: &Row) -> Vec<f32> {
    let names = ["obs", "action", "reward", "discount", "next_obs", "state", "next_state"];
    names.iter().flat_map(|name| row.get(name)).collect()
}

fn rows(facts: &[Fact], n: usize, gamma: f64, bootstrap: bool) -> Vec<Row> {
    let cluster = cluster(|c| {
        (c.n_step, c.gamma, c.truncation_bootstrap) = (n, gamma, bootstrap);
    });
    assemble(facts, &cluster, 1)
}

/// Computes the window of every start t separately. A window ends after n steps or with the episode. A window that is
/// cut by a discarded step or by the end of the data gives no row.
fn naive(facts: &[Fact], n: usize, gamma: f64, bootstrap: bool) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    for t in 0..facts.len() {
        let (mut reward, mut discount) = (0.0, 1.0);
        for (m, fact) in facts[t..].iter().take(n).enumerate() {
            if fact.discarded {
                break;
            }
            reward += discount * fact.reward;
            discount *= gamma;
            if m + 1 == n || fact.terminated || fact.truncated {
                let over = fact.terminated || (fact.truncated && !bootstrap);
                let discount = if over { 0.0 } else { discount };
                let (first, last) = (t as f32, (t + m) as f32);
                let (reward, discount) = (reward as f32, discount as f32);
                let action = first / 1000.0;
                rows.push(vec![
                    first,
                    -first,
                    action,
                    reward,
                    discount,
                    last + 0.5,
                    -last - 0.5,
                    first,
                    last + 0.25,
                ]);
                break;
            }
        }
    }
    rows
}

proptest! {
    #[test]
    fn rows_are_those_of_the_naive_version(
        facts in facts(), n in 1..8_usize, gamma in 0.0..1.0_f64, bootstrap: bool,
    ) {
        let rows = rows(&facts, n, gamma, bootstrap);
        let naive = naive(&facts, n, gamma, bootstrap);
        prop_assert_eq!(rows.iter().map(read).collect::<Vec<_>>(), naive);
        // Every step starts one row, which carries the step's version.
        prop_assert!(rows.iter().all(|row| row.get("obs")[0] == row.first_step() as f32));
    }
}

#[test]
fn one_step_rows_are_exact() {
    let fact =
        |reward, terminated, truncated| Fact { reward, terminated, truncated, discarded: false };
    let facts = [fact(1.5, false, false), fact(-2.0, true, false), fact(3.0, false, true)];
    let discounts = |bootstrap| -> Vec<f32> {
        rows(&facts, 1, 0.99, bootstrap).iter().flat_map(|row| row.get("discount")).collect()
    };
    assert_eq!(discounts(true), [0.99, 0.0, 0.99]);
    assert_eq!(discounts(false), [0.99, 0.0, 0.0], "a cut is taken for an end");
    let rewards: Vec<f32> =
        rows(&facts, 1, 0.99, true).iter().flat_map(|row| row.get("reward")).collect();
    assert_eq!(rewards, [1.5, -2.0, 3.0]);
}

/// Returns recorded from Tianshou: ring buffers by slot, one equal slice per environment. G = reward + discount ·
/// Q(last slot of the window). The original bootstraps an unfinished episode from its last written slot. Here that is a
/// truncation at this slot.
#[test]
fn returns_equal_those_of_the_recorded_ring_buffers() {
    for file in golden::cases("nstep_return") {
        let cases = file.at("/inputs/cases").as_array().unwrap();
        let outputs = file.at("/outputs/cases").as_array().unwrap();
        assert!(!cases.is_empty() && cases.len() == outputs.len());
        for (i, (case, output)) in cases.iter().zip(outputs).enumerate() {
            check_ring(&file, i, case, &numbers(&output["returns"]));
        }
    }
}

fn check_ring(file: &Case, index: usize, case: &Value, expected: &[f64]) {
    let number = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
    let (envs, n) = (number("n_envs"), number("n_step"));
    let slice = number("maxsize").div_ceil(envs);
    let [rewards, terminated, truncated, q, last] =
        ["rew", "terminated", "truncated", "target_q_by_slot", "last_written_slot"]
            .map(|key| numbers(&case[key]));
    let written_by = |env: usize| match case.get("inserts") {
        Some(inserts) => {
            numbers(&inserts["env"]).iter().filter(|&&e| e == env as f64).count().min(slice)
        }
        None => slice,
    };
    let mut returns = vec![None; rewards.len()];
    for env in 0..envs {
        let (start, last) = (env * slice, last[env] as usize);
        let written = written_by(env);
        // Oldest first. If the ring is full, that is the slot after the last written one.
        let slots: Vec<usize> = (0..written)
            .map(|i| start + (last - start + 1 + slice - written + i) % slice)
            .collect();
        let facts: Vec<Fact> = slots
            .iter()
            .map(|&slot| Fact {
                reward: rewards[slot],
                terminated: terminated[slot] > 0.0,
                truncated: truncated[slot] > 0.0 || slot == last,
                discarded: false,
            })
            .collect();
        for row in rows(&facts, n, case["gamma"].as_f64().unwrap(), true) {
            let (first, end) = (row.first_step(), (row.get("next_obs")[0] - 0.5) as usize);
            let [reward, discount] = ["reward", "discount"].map(|key| f64::from(row.get(key)[0]));
            returns[slots[first]] = Some(reward + discount * q[slots[end]]);
        }
    }
    let indices = numbers(&case["indices"]);
    let got: Vec<f64> = indices.iter().map(|&slot| returns[slot as usize].unwrap()).collect();
    file.assert_near(&format!("case {index}"), &got, expected, "returns");
}
