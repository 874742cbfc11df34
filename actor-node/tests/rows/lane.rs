//! A synthetic lane: step i has the observation (i, −i), its successor is (i + 0.5, …), its action is i / 1000, and the
//! policy state before and after it is (i, i + 0.25). Every number in a row therefore identifies its step.

use actor_node::rows::{Assembler, LaneStep};
use common::config::{self, ClusterConfig, Layers};
use common::ids::PolicyVersion;
use common::spec::{ActionKind, EnvSpec, ItemLayout};
use proptest::prelude::*;
use std::ops::Range;

/// Outcome of one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact {
    pub(crate) reward: f64,
    pub(crate) terminated: bool,
    pub(crate) truncated: bool,
    pub(crate) discarded: bool,
}

impl Fact {
    pub(crate) fn ends(&self) -> bool {
        self.terminated || self.truncated || self.discarded
    }
}

/// Generates up to 200 steps, in episodes of all lengths, some of which are discarded.
pub(crate) fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = (-1.0..1.0_f64, 0..100_u8).prop_map(|(reward, fate)| Fact {
        reward,
        terminated: fate < 5 || fate == 99,
        truncated: (5..10).contains(&fate) || fate == 99,
        discarded: (10..12).contains(&fate),
    });
    prop::collection::vec(fact, 0..200)
}

/// Returns the steps of each episode, in order, and whether it ended normally. Of a discarded episode, only the steps
/// before the fault are included.
pub(crate) fn parts(facts: &[Fact]) -> Vec<(Range<usize>, bool)> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for (i, fact) in facts.iter().enumerate() {
        if fact.ends() {
            parts.push((start..if fact.discarded { i } else { i + 1 }, !fact.discarded));
            start = i + 1;
        }
    }
    parts.push((start..facts.len(), false));
    parts.retain(|(steps, _)| !steps.is_empty());
    parts
}

/// Returns a spec with two numbers per observation and one per action.
fn spec() -> EnvSpec {
    EnvSpec {
        id: "test".into(),
        obs_dim: 2,
        obs_image: None,
        actions: ActionKind::Continuous,
        act_dim: 1,
        action_low: vec![-1.0],
        action_high: vec![1.0],
        episode_steps_max: None,
    }
}

/// Returns the default settings with a change of those that determine the rows.
pub(crate) fn cluster(change: impl FnOnce(&mut ClusterConfig)) -> ClusterConfig {
    let mut cluster =
        config::load(&Layers::default()).expect("the defaults are valid").config.cluster;
    change(&mut cluster);
    cluster
}

/// Returns the layout of the lane's rows, with `state_dim` (0 or 1) floats of policy state.
fn layout(cluster: &ClusterConfig, state_dim: usize) -> ItemLayout {
    ItemLayout::of(&spec(), state_dim, cluster.sequence_len, cluster.cost_horizon)
}

/// Assembles the rows of these steps.
pub(crate) fn assemble(facts: &[Fact], cluster: &ClusterConfig, state_dim: usize) -> Vec<Row> {
    let layout = layout(cluster, state_dim);
    let mut assembler = Assembler::new(cluster, &layout);
    let (mut rows, mut emitted) = (Vec::new(), 0);
    for (i, fact) in facts.iter().enumerate() {
        if fact.discarded {
            assembler.discard();
            continue;
        }
        let now = i as f32;
        let step = LaneStep {
            obs: &[now, -now],
            action: &[now / 1000.0],
            reward: fact.reward,
            terminated: fact.terminated,
            truncated: fact.truncated,
            next_obs: &[now + 0.5, -now - 0.5],
            state: &[now][..state_dim],
            next_state: &[now + 0.25][..state_dim],
            version: PolicyVersion(i as u64),
        };
        emitted += assembler.push(&step, &mut rows);
    }
    assert_eq!(rows.len(), emitted * layout.row_bytes);
    rows.chunks_exact(layout.row_bytes)
        .map(|bytes| Row { bytes: bytes.to_vec(), layout: layout.clone() })
        .collect()
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    bytes: Vec<u8>,
    layout: ItemLayout,
}

impl Row {
    /// Returns the numbers of a field.
    pub(crate) fn get(&self, name: &str) -> Vec<f32> {
        let field = self.layout.field(name).unwrap_or_else(|| panic!("no field {name}"));
        let bytes = &self.bytes[field.offset..][..field.bytes()];
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// Returns the policy version of the row, which in these lanes is the number of its first step.
    pub(crate) fn first_step(&self) -> usize {
        let bytes = self.bytes[..8].try_into().expect("8 bytes");
        usize::try_from(i64::from_le_bytes(bytes)).expect("steps are not negative")
    }
}
