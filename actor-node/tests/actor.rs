//! The actor's loop, driven manually: stored policy states, random actions, and rows of images.

use actor_node::actor::{Actor, ActorSettings, Exploration, Share};
use actor_node::env::EnvParams;
use actor_node::lanes::{LaneGroup, LaneGroupConfig};
use actor_node::metrics::ActorMetrics;
use actor_node::rows::{Assembler, Recorder};
use common::config::{self, Config, Layers};
use common::ids::{ActorId, PolicyVersion};
use common::policy::infer::PolicyNet;
use common::recording::{Header, Recording};
use common::runtime::seed::SeedTree;
use common::spec::{Dtype, ItemLayout};
use common::telemetry::metrics::Metrics;
use rand::RngExt;
use std::time::Duration;

const LANES: usize = 2;

struct Acting {
    actor: Actor,
    layout: ItemLayout,
}

/// Creates an actor with two lanes of `env`, with changed settings and a policy with random weights.
fn acting(env: &str, params: &[(&str, &str)], warmup_steps: u64, set: &[&str]) -> Acting {
    let set = set.iter().map(ToString::to_string).collect();
    let config = config::load(&Layers { set, ..Layers::default() }).unwrap().config;
    let params: EnvParams = params.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let seeds = SeedTree::new(11);
    let group = LaneGroupConfig {
        env: env.into(),
        setup: params.into(),
        lanes: LANES,
        seeds: seeds.role("env"),
    };
    let started = LaneGroup::new(group, Duration::ZERO).unwrap();
    let spec = started.0.spec().clone();
    let (arch, layout) = (config.policy_arch(&spec), config.item_layout(&spec));
    let assemblers = (0..LANES).map(|_| Assembler::new(&config.cluster, &layout)).collect();
    let settings = settings(&config, warmup_steps);
    let metrics = ActorMetrics::new(&Metrics::default(), 0).unwrap();
    let net = PolicyNet::new(&arch).unwrap();
    let mut actor =
        Actor::new(started, assemblers, net, seeds.role("exploration").rng(), settings, metrics);
    let mut rng = seeds.role("weights").rng();
    let parameters = arch.tensor_layout().parameters;
    let weights: Vec<f32> = (0..parameters).map(|_| rng.random_range(-0.5..0.5)).collect();
    actor.use_weights(PolicyVersion(7), &weights).unwrap();
    Acting { actor, layout }
}

fn settings(config: &Config, warmup_steps: u64) -> ActorSettings {
    ActorSettings {
        warmup_steps,
        insert_rows: 1,
        policy_age_max: Duration::ZERO,
        share: Share::default(),
        exploration: Exploration::new(&config.actor),
    }
}

impl Acting {
    /// Takes one turn and returns its rows one by one. If no rows are held back, that is one row per lane, in order.
    fn turn(&mut self) -> Vec<Vec<u8>> {
        self.actor.turn().unwrap();
        let mut rows = Vec::new();
        while let Some(batch) = self.actor.take_rows(true) {
            rows.push(batch.rows.to_vec());
        }
        rows
    }

    fn get(&self, row: &[u8], name: &str) -> Vec<f32> {
        let field = self.layout.field(name).unwrap();
        let bytes = &row[field.offset..][..field.bytes()];
        match field.dtype {
            Dtype::U8 => bytes.iter().map(|&byte| byte.into()).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        }
    }
}

/// Takes `turns` turns in an environment with episodes of 50 steps, checks the stored states, and returns the number of
/// episode starts.
fn follow_states(mut acting: Acting, turns: usize) -> usize {
    let mut expected: [Option<Vec<f32>>; LANES] = [None, None];
    let mut starts = 0;
    for _ in 0..turns {
        let rows = acting.turn();
        for (lane, row) in rows.iter().enumerate() {
            let [state, next_state, obs] =
                ["state", "next_state", "obs"].map(|name| acting.get(row, name));
            let is_start = obs[0] == 0.0;
            starts += usize::from(is_start);
            if is_start {
                assert!(state.iter().all(|&x| x == 0.0), "an episode starts without memories");
            } else if let Some(expected) = &expected[lane] {
                assert_eq!(state, *expected, "the state after the step before");
            }
            assert!(next_state.iter().any(|&x| x != 0.0) && next_state != state);
            expected[lane] = Some(next_state);
        }
    }
    starts
}

const LSTM: &[&str] = &["cluster.network=lstm", "cluster.hidden=[4]"];

#[test]
fn a_lane_carries_its_state_through_an_episode_and_no_further() {
    assert_eq!(follow_states(acting("faulty", &[], 0, LSTM), 120), 3 * LANES);
}

#[test]
fn random_actions_do_not_make_a_recurrent_policy_forget() {
    assert_eq!(follow_states(acting("faulty", &[], u64::MAX, LSTM), 120), 3 * LANES);
}

#[test]
fn a_discarded_episode_takes_its_state_with_it() {
    let mut acting = acting("faulty", &[("nan_obs_at", "3")], 0, LSTM);
    for turn in 0..9 {
        let rows = acting.turn();
        assert_eq!(rows.len(), if turn % 3 == 2 { 0 } else { LANES }, "turn {turn}");
        for row in rows {
            let is_fresh = acting.get(&row, "state").iter().all(|&x| x == 0.0);
            assert_eq!(is_fresh, turn % 3 == 0, "turn {turn}");
        }
    }
}

#[test]
fn of_a_discarded_episode_the_rows_that_were_complete_are_kept_and_no_others() {
    let set = ["cluster.n_step=3", "cluster.hidden=[4]"];
    let mut acting = acting("faulty", &[("error_at", "6")], 0, &set);
    for episode in 0..3 {
        let mut firsts = Vec::new();
        for _ in 0..6 {
            for row in acting.turn() {
                firsts.push(acting.get(&row, "obs")[0]);
            }
        }
        // Steps 0 to 4 succeed and step 5 fails. The windows that start at step 3 or later are then still open.
        assert_eq!(firsts, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0], "episode {episode}");
    }
}

#[test]
fn sequences_start_with_the_state_before_their_first_step() {
    let set = [LSTM, &["cluster.sequence_len=20", "cluster.burn_in=5"]].concat();
    let mut acting = acting("faulty", &[], 0, &set);
    let (mut firsts, mut fresh) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        for row in acting.turn() {
            firsts.push(acting.get(&row, "obs")[0]);
            fresh.push(acting.get(&row, "state").iter().all(|&x| x == 0.0));
        }
    }
    assert_eq!(firsts, [0.0, 0.0, 15.0, 15.0, 30.0, 30.0], "50 steps are whole windows");
    assert_eq!(fresh, [true, true, false, false, false, false]);
}

#[test]
fn random_discrete_actions_are_all_the_choices() {
    let set = ["cluster.actions=discrete", "cluster.hidden=[4]"];
    let mut acting = acting("MountainCar-v0", &[], u64::MAX, &set);
    let mut counts = [0_usize; 3];
    for _ in 0..300 {
        for row in acting.turn() {
            let action = acting.get(&row, "action");
            assert_eq!((action.len(), action[0].fract()), (1, 0.0));
            counts[action[0] as usize] += 1;
        }
    }
    assert!(counts.iter().all(|count| (140..260).contains(count)), "{counts:?}");
}

#[test]
fn a_discrete_policy_sends_the_indices_that_it_draws() {
    let set = ["cluster.actions=discrete", "cluster.hidden=[4]"];
    let mut acting = acting("CartPole-v1", &[], 0, &set);
    let mut counts = [0_usize; 2];
    for _ in 0..200 {
        acting.turn().iter().for_each(|row| counts[acting.get(row, "action")[0] as usize] += 1);
    }
    assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
}

#[test]
fn images_are_stored_as_the_bytes_that_the_policy_saw() {
    let mut acting = acting("PixelCatch-v1", &[], u64::MAX, &[]);
    let mut before: [Option<Vec<f32>>; LANES] = [None, None];
    for _ in 0..20 {
        for (lane, row) in acting.turn().iter().enumerate() {
            let [obs, next] = ["obs", "next_obs"].map(|name| acting.get(row, name));
            assert_eq!(obs.len(), 256);
            assert!(obs.iter().all(|&pixel| pixel == 0.0 || pixel == 255.0));
            assert!(obs.contains(&255.0));
            assert!(before[lane].as_ref().is_none_or(|before| *before == obs));
            before[lane] = Some(next);
        }
    }
    assert_eq!(acting.layout.row_bytes, 8 + 256 + 4 + 4 + 4 + 256 + 4, "padded to eight");
}

#[test]
fn exploration_disturbs_the_policy_but_not_the_warm_up() {
    let first_actions = |warmup, exploration: &str| -> Vec<f32> {
        let set = format!("actor.exploration={exploration}");
        let mut acting = acting("faulty", &[], warmup, &["cluster.hidden=[4]", &set]);
        acting.turn().iter().flat_map(|row| acting.get(row, "action")).collect()
    };
    assert_ne!(first_actions(0, "none"), first_actions(0, "gaussian"));
    assert_eq!(first_actions(9, "none"), first_actions(9, "gaussian"));
}

#[test]
fn what_is_recorded_is_what_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::load(&Layers::default()).unwrap().config;
    let Acting { actor, layout } = acting("Pendulum-v1", &[], u64::MAX, &[]);
    let env = actor_node::env::registry::make("Pendulum-v1", &EnvParams::new()).unwrap();
    let header = Header::new(env.spec(), &config.cluster, 0);
    let recorder = Recorder::open(dir.path(), ActorId(3), &header).unwrap();
    let mut acting = Acting { actor: actor.recorded_by(Some(recorder)), layout };
    let sent: Vec<u8> = (0..10).flat_map(|_| acting.turn().concat()).collect();
    let recording = Recording::open(dir.path()).unwrap();
    assert_eq!(recording.layout(), &acting.layout);
    let read: Vec<u8> = recording.blocks(3).flat_map(Result::unwrap).collect();
    assert!(!sent.is_empty() && read == sent);
}
