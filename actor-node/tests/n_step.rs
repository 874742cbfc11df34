//! n-step rows against a naive version over random episodes, and against returns recorded from Tianshou.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use actor_node::n_step::{NStep, Step};
use common::ids::PolicyVersion;
use common::spec::{EnvSpec, ItemLayout};
use proptest::prelude::*;
use serde_json::Value;
use std::path::PathBuf;

fn spec() -> EnvSpec {
    EnvSpec {
        id: "test".into(),
        obs_dim: 1,
        act_dim: 1,
        action_low: vec![-1.0],
        action_high: vec![1.0],
        episode_steps_max: None,
    }
}

#[derive(Debug, Clone, Copy)]
struct Fact {
    reward: f64,
    terminated: bool,
    truncated: bool,
    discarded: bool,
}

/// (obs, action, reward, discount, next_obs, version) of one row.
type Row = (f32, f32, f32, f32, f32, i64);

fn read(rows: &[u8]) -> Vec<Row> {
    let layout = ItemLayout::transition(&spec());
    let at = |row: &[u8], name: &str| {
        let offset = layout.field(name).unwrap().offset;
        f32::from_le_bytes(row[offset..offset + 4].try_into().unwrap())
    };
    let version = |row: &[u8]| i64::from_le_bytes(row[..8].try_into().unwrap());
    rows.chunks_exact(layout.row_bytes)
        .map(|row| {
            (
                at(row, "obs"),
                at(row, "action"),
                at(row, "reward"),
                at(row, "discount"),
                at(row, "next_obs"),
                version(row),
            )
        })
        .collect()
}

/// Observation i is i, its successor i + 0.5 (told apart from the next observation after a reset).
fn assemble(facts: &[Fact], n: usize, gamma: f64) -> Vec<Row> {
    let mut windows = NStep::new(&spec(), n, gamma);
    let mut rows = Vec::new();
    let mut emitted = 0;
    for (i, fact) in facts.iter().enumerate() {
        if fact.discarded {
            windows.discard();
            continue;
        }
        let now = i as f32;
        let step = Step {
            obs: &[now],
            action: &[-now],
            reward: fact.reward,
            terminated: fact.terminated,
            truncated: fact.truncated,
            next_obs: &[now + 0.5],
            version: PolicyVersion(i as u64),
        };
        emitted += windows.push(&step, &mut rows);
    }
    let rows = read(&rows);
    assert_eq!(rows.len(), emitted);
    rows
}

/// Every start t, looked at on its own: the window ends after n steps or with the episode; a window that a discarded
/// step or the end of the data cuts is no row.
fn naive(facts: &[Fact], n: usize, gamma: f64) -> Vec<Row> {
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
                let discount = if fact.terminated { 0.0 } else { discount };
                let (first, last) = (t as f32, (t + m) as f32);
                rows.push((first, -first, reward as f32, discount as f32, last + 0.5, t as i64));
                break;
            }
        }
    }
    rows
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = (-1.0..1.0_f64, 0..100_u8).prop_map(|(reward, fate)| Fact {
        reward,
        terminated: fate < 8 || fate == 99,
        truncated: (8..16).contains(&fate) || fate == 99,
        discarded: (16..20).contains(&fate),
    });
    prop::collection::vec(fact, 0..200)
}

proptest! {
    #[test]
    fn rows_are_those_of_the_naive_version(facts in facts(), n in 1..8_usize, gamma in 0.0..1.0_f64) {
        prop_assert_eq!(assemble(&facts, n, gamma), naive(&facts, n, gamma));
    }
}

#[test]
fn one_step_rows_are_exact() {
    let fact =
        |reward, terminated, truncated| Fact { reward, terminated, truncated, discarded: false };
    let facts = [fact(1.5, false, false), fact(-2.0, true, false), fact(3.0, false, true)];
    let rows = assemble(&facts, 1, 0.99);
    let expected = [
        (0.0, -0.0, 1.5, 0.99, 0.5, 0),
        (1.0, -1.0, -2.0, 0.0, 1.5, 1),
        (2.0, -2.0, 3.0, 0.99, 2.5, 2),
    ];
    assert_eq!(rows, expected);
}

/// Returns recorded from Tianshou (`T7_*.json`, or the folder in `SAPEX_GOLDENS_DIR`): ring buffers by slot, one equal
/// slice per environment. G = reward + discount · Q(last slot of the window). The original bootstraps an unfinished
/// episode from its last written slot, which is a truncation there to us.
#[test]
fn returns_equal_those_of_the_recorded_ring_buffers() {
    for name in ["T7_nstep_published.json", "T7_nstep_random.json"] {
        let file = golden(name);
        let cases = file["inputs"]["cases"].as_array().unwrap();
        let outputs = file["outputs"]["cases"].as_array().unwrap();
        assert!(!cases.is_empty() && cases.len() == outputs.len());
        for (case, output) in cases.iter().zip(outputs) {
            check_ring(name, case, &numbers(&output["returns"]));
        }
    }
}

fn check_ring(name: &str, case: &Value, expected: &[f64]) {
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
        // Oldest first: the slot after the last written one, where the ring is full.
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
        for row in assemble(&facts, n, case["gamma"].as_f64().unwrap()) {
            let (first, end) = (slots[row.0 as usize], slots[(row.4 - 0.5) as usize]);
            returns[first] = Some(f64::from(row.2) + f64::from(row.3) * q[end]);
        }
    }
    for (slot, expected) in numbers(&case["indices"]).iter().zip(expected) {
        let got = returns[*slot as usize].unwrap();
        let near = (got - expected).abs() <= 1e-5 * expected.abs().max(1.0);
        assert!(near, "{name}, n {n}, slot {slot}: {got}, expected {expected}");
    }
}

fn golden(name: &str) -> Value {
    let dir = std::env::var_os("SAPEX_GOLDENS_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/goldens")),
        PathBuf::from,
    );
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn numbers(tensor: &Value) -> Vec<f64> {
    tensor["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}
