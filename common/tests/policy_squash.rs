//! Density of the squashed Gaussian: it integrates to one and stays finite where tanh is saturated.

use common::policy::squash::{Heads, TanhCorrection, log_prob_term};

/// Returns the integral of the action's density over (-1, 1), by Simpson's rule over u of p(tanh u) * dtanh/du.
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
fn the_log_prob_of_a_row_is_the_sum_of_its_terms() {
    let (mu, log_std, noise) =
        ([0.5, -2.0, 9.0, 0.1], [-1.0, 0.5, 2.0, -20.0], [1.0, -0.3, 0.8, 3.0]);
    let heads = Heads { mu: &mu, log_std: &log_std };
    let (mut action, mut log_prob) = ([0.0; 4], [0.0; 2]);
    heads.sample(&noise, &mut action);
    assert!(action.iter().all(|a| a.abs() <= 1.0), "{action:?}");
    heads.log_prob(&noise, (TanhCorrection::Exact, &[1.0, 1.0]), &mut log_prob);
    let row = |dims: [usize; 2]| -> f32 {
        let u = |j: usize| mu[j] + log_std[j].exp() * noise[j];
        dims.map(|j| log_prob_term(u(j), log_std[j], noise[j])).iter().sum()
    };
    assert_eq!(log_prob, [row([0, 1]), row([2, 3])]);
}

#[test]
fn every_form_of_the_correction_is_the_originals_far_into_saturation() {
    for case in crate::golden::cases("log_prob_saturation") {
        let correction = match case.at("/config/form").as_str().unwrap() {
            "E" => TanhCorrection::Exact,
            "T" => TanhCorrection::F32Eps,
            "V" => TanhCorrection::Millionth,
            other => panic!("{}: form {other}", case.name),
        };
        let given = |pointer: &str| case.json.pointer(pointer).is_some();
        let mu = case.tensor_f32("/inputs/mu");
        let log_std: Vec<f32> = if given("/inputs/sigma") {
            case.tensor_f32("/inputs/sigma").into_iter().map(f32::ln).collect()
        } else {
            let (min, max) =
                (case.number_f32("/config/log_std_min"), case.number_f32("/config/log_std_max"));
            let raw = case.tensor_f32("/inputs/log_std");
            raw.into_iter().map(|log_std| log_std.clamp(min, max)).collect()
        };
        let act_dim = case.size("/config/num_actions");
        let (mut scale, mut bias) = (vec![1.0; act_dim], vec![0.0; act_dim]);
        let mut units = scale.clone();
        if given("/params/low") {
            let (low, high) = (case.tensor_f32("/params/low"), case.tensor_f32("/params/high"));
            let sides = || low.iter().zip(&high).cycle().take(act_dim);
            units = sides().map(|(low, high)| (high - low) / 2.0).collect();
            bias = sides().map(|(low, high)| f32::midpoint(*low, *high)).collect();
        } else if given("/params/action_scale") {
            // This original computes the density of the action in environment units.
            scale = case.tensor_f32("/params/action_scale");
            units.clone_from(&scale);
            bias = case.tensor_f32("/params/action_bias");
        }

        let noise = case.tensor_f32("/noise/0");
        let heads = Heads { mu: &mu, log_std: &log_std };
        let mut action = vec![0.0; mu.len()];
        heads.sample(&noise, &mut action);
        for (j, action) in action.iter_mut().enumerate() {
            *action = *action * units[j % act_dim] + bias[j % act_dim];
        }
        case.assert_close(&action, "/outputs/action", "forward");
        let mut log_prob = vec![0.0; mu.len() / act_dim];
        heads.log_prob(&noise, (correction, &scale), &mut log_prob);
        let pointers = ["/outputs/log_prob", "/outputs/log_prob_f64"];
        if !given("/outputs/tolerance_per_row") {
            for pointer in pointers {
                case.assert_close(&log_prob, pointer, "log_prob");
            }
            continue;
        }
        let tolerances = case.tensor("/outputs/tolerance_per_row");
        for pointer in pointers {
            let expected = case.tensor(pointer);
            for (row, (&ours, tolerance)) in log_prob.iter().zip(&tolerances).enumerate() {
                let error = (f64::from(ours) - expected[row]).abs();
                let what = format!("{}: {pointer}[{row}]", case.name);
                assert!(error <= *tolerance, "{what} is {ours}, expected {}", expected[row]);
            }
        }
        // All forms approximate this exact value; it must hold for any saturation.
        heads.log_prob(&noise, (TanhCorrection::Exact, &scale), &mut log_prob);
        let exact = case.tensor("/outputs/log_prob_exact_f64");
        for (row, (&ours, expected)) in log_prob.iter().zip(exact).enumerate() {
            let error = (f64::from(ours) - expected).abs() / expected.abs().max(1.0);
            let what = format!("{}: exact[{row}]", case.name);
            assert!(error <= 1e-5, "{what} is {ours}, expected {expected}");
        }
    }
}
