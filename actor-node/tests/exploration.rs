//! Exploration noise compared with numbers recorded from Tianshou, and its invariants.

use crate::golden::{Case, numbers};
use actor_node::actor::Exploration;
use common::runtime::seed::SeedTree;

fn processes(case: &Case) -> [(Exploration, &'static str); 2] {
    let number = |pointer: &str| case.at(pointer).as_f64().unwrap();
    let gaussian = Exploration::Gaussian {
        mean: number("/config/gaussian/mu"),
        sigma: number("/config/gaussian/sigma"),
    };
    let ou = Exploration::Ou {
        mean: number("/config/ou/mu"),
        sigma: number("/config/ou/sigma"),
        theta: number("/config/ou/theta"),
        dt: number("/config/ou/dt"),
        x: Vec::new(),
    };
    [(gaussian, "gaussian"), (ou, "ou")]
}

#[test]
fn noise_equals_the_recorded_processes() {
    for case in crate::golden::cases("exploration_noise") {
        let mut normals = case.at("/noise").as_array().unwrap().iter();
        for (mut process, name) in processes(&case) {
            let calls = case.at(&format!("/outputs/{name}")).as_array().unwrap();
            assert!(!calls.is_empty());
            for (i, call) in calls.iter().enumerate() {
                let mut noise = numbers(normals.next().unwrap());
                process.shape(&mut noise);
                case.assert_near(&format!("{name} call {i}"), &noise, &numbers(call), "forward");
            }
        }
        assert!(normals.next().is_none(), "{}: every normal was used", case.name);
    }
}

#[test]
fn noisy_actions_stay_within_the_bounds_and_differ() {
    let mut rng = SeedTree::new(3).rng();
    let mut scratch = Vec::new();
    for mut process in [
        Exploration::Gaussian { mean: 0.0, sigma: 5.0 },
        Exploration::Ou { mean: 0.0, sigma: 9.0, theta: 0.15, dt: 0.1, x: Vec::new() },
    ] {
        let (mut inside, mut at_a_bound) = (0, 0);
        for _ in 0..200 {
            let mut actions = [0.9, -0.9, 0.0];
            process.disturb(&mut actions, &mut scratch, &mut rng);
            assert!(actions.iter().all(|action| (-1.0..=1.0).contains(action)), "{actions:?}");
            inside += actions.iter().filter(|action| action.abs() < 1.0).count();
            at_a_bound += actions.iter().filter(|action| action.abs() == 1.0).count();
        }
        assert!(inside > 0 && at_a_bound > 0, "{process:?}: {inside} inside, {at_a_bound} clipped");
    }
}

#[test]
fn no_noise_changes_nothing_and_draws_nothing() {
    let (mut rng, mut actions) = (SeedTree::new(3).rng(), [0.25, -1.5]);
    let before = rng.clone();
    Exploration::None.disturb(&mut actions, &mut Vec::new(), &mut rng);
    assert_eq!((actions, rng), ([0.25, -1.5], before));
}
