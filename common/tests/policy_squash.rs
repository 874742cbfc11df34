//! The squashed Gaussian's density: it integrates to one and stays finite where tanh has saturated.

use common::policy::squash::{Heads, log_prob_term};

/// Simpson's rule over u of p(tanh u) * dtanh/du, which is the integral of the action's density over (-1, 1).
fn mass(mu: f32, log_std: f32) -> f64 {
    const STEPS: u16 = 4_000;
    let width = 20.0 / f64::from(STEPS);
    let density = |i: u16| {
        #[expect(clippy::cast_possible_truncation, reason = "f32 is what is under test")]
        let noise = (f64::from(i) * width - 10.0) as f32;
        let u = mu + log_std.exp() * noise;
        let slope = f64::from(u).cosh().powi(-2);
        f64::from(log_prob_term(u, log_std, noise)).exp() * slope * f64::from(log_std).exp()
    };
    let inner = (1..STEPS).map(|i| density(i) * if i % 2 == 0 { 2.0 } else { 4.0 });
    (density(0) + density(STEPS) + inner.sum::<f64>()) * width / 3.0
}

#[test]
fn the_density_integrates_to_one() {
    for mu in [-3.0, -0.4, 0.0, 1.7] {
        for log_std in [-4.0, -1.0, 0.0, 0.7] {
            let mass = mass(mu, log_std);
            assert!((mass - 1.0).abs() <= 1e-5, "mu {mu}, log_std {log_std}: {mass}");
        }
    }
}

#[test]
fn the_density_over_actions_themselves_integrates_to_one() {
    // No substitution here: p(a) on a fine grid of a, with u = atanh(a).
    let (mu, log_std) = (0.3_f32, -0.5_f32);
    let steps = 200_000_u32;
    let mut mass = 0.0;
    for i in 0..steps {
        let a = (f64::from(i) + 0.5) / f64::from(steps) * 2.0 - 1.0;
        #[expect(clippy::cast_possible_truncation, reason = "f32 is what is under test")]
        let u = a.atanh() as f32;
        let noise = (u - mu) / log_std.exp();
        mass += f64::from(log_prob_term(u, log_std, noise)).exp() * 2.0 / f64::from(steps);
    }
    assert!((mass - 1.0).abs() <= 1e-5, "{mass}");
}

#[test]
fn log_prob_is_finite_and_even_for_huge_pre_activations() {
    for u in [0.0, 1e-30, 4.0, 20.0, 100.0, 1e6, 1e30] {
        let term = log_prob_term(u, 0.0, 0.0);
        assert!(term.is_finite(), "u = {u}: {term}");
        assert_eq!(term, log_prob_term(-u, 0.0, 0.0), "u = {u}");
    }
}

#[test]
fn a_sample_with_its_log_prob_is_the_same_sample() {
    let (mu, log_std, noise) =
        ([0.5, -2.0, 9.0, 0.1], [-1.0, 0.5, 2.0, -20.0], [1.0, -0.3, 0.8, 3.0]);
    let heads = Heads { mu: &mu, log_std: &log_std };
    let (mut plain, mut with, mut log_prob) = ([0.0; 4], [0.0; 4], [0.0; 2]);
    heads.sample(&noise, &mut plain);
    heads.sample_with_log_prob(&noise, &mut with, &mut log_prob);
    assert_eq!(plain, with);
    assert!(plain.iter().all(|a| a.abs() <= 1.0), "{plain:?}");
    let row_1: f32 = [2, 3]
        .map(|j| log_prob_term(mu[j] + log_std[j].exp() * noise[j], log_std[j], noise[j]))
        .iter()
        .sum();
    assert_eq!(log_prob[1], row_1);
}
