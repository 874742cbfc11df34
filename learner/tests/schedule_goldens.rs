//! Step sizes over time compared with the originals' tables, for every file of both kinds.

use crate::golden::{compared, numbers, of_kind};
use common::config::LrSchedule;
use learner::schedule::Schedule;
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Returns the schedule of a table. Each of its steps is `updates_per_step` updates long.
fn decay(table: &Value, steps: f64, updates_per_step: u64) -> Schedule {
    let kind = match table["type"].as_str().unwrap() {
        "constant" => LrSchedule::Constant,
        "linear" => LrSchedule::Linear,
        "exponential" => LrSchedule::Exponential,
        other => panic!("no schedule {other}"),
    };
    let (initial, last) = (number(&table["init"]), number(&table["final"]));
    Schedule { kind, initial, last, steps, updates_per_step }
}

/// Asserts |got - given| <= tolerance |given|. The error is relative, because the rates are far below 1.
fn assert_relative(told: &str, got: f64, given: f64, tolerance: f64) {
    assert!((got - given).abs() <= tolerance * given.abs(), "{told}: {got:e}, expected {given:e}");
    compared();
}

#[test]
fn rates_after_every_step_are_those_of_the_tables() {
    for (name, file) in of_kind("slc_lr_decay") {
        let tolerance = number(&file["tolerance"]["relative"]);
        let tables = file["inputs"]["tables"].as_array().unwrap();
        assert!(!tables.is_empty());
        for (i, table) in tables.iter().enumerate() {
            // An epoch is several updates long, with one rate for all of them.
            let updates_per_step = if table["reference"] == "epoch" { 7 } else { 1 };
            let schedule = decay(table, number(&table["steps"]), updates_per_step);
            let rates = numbers(&file["outputs"]["tables"][i]);
            assert_eq!(rates.len() as u64, whole(&table["count"]), "{name} table {i}");
            for (k, given) in (0..).zip(rates) {
                for update in k * updates_per_step..(k + 1) * updates_per_step {
                    let told = format!("{name} table {i} step {k} update {update}");
                    assert_relative(&told, schedule.rate(update), given, tolerance);
                }
            }
        }
    }
}

/// An estimate over environment steps: the initial rate until updates begin, the final rate at the run's end.
#[test]
fn estimates_over_environment_steps_follow_the_same_laws() {
    for (name, file) in of_kind("slc_lr_decay") {
        let tolerance = number(&file["tolerance"]["relative"]);
        let estimates = file["inputs"]["estimates"].as_array().unwrap();
        for (i, estimate) in estimates.iter().enumerate() {
            let first = whole(&estimate["update_after"]);
            let intervals = number(&estimate["total_steps"]) - number(&estimate["update_after"]);
            let schedule = decay(estimate, intervals + 1.0, 1);
            let given = numbers(&file["outputs"]["estimates"][i]);
            let at_steps = estimate["at_steps"]["data"].as_array().unwrap();
            assert_eq!(at_steps.len(), given.len(), "{name} estimate {i}");
            for (step, given) in at_steps.iter().map(whole).zip(given) {
                let told = format!("{name} estimate {i} at step {step}");
                let rate = schedule.rate(step.saturating_sub(first));
                assert_relative(&told, rate, given, tolerance);
            }
        }
    }
}

/// The original's rate becomes negative; ours stays at 0.
#[test]
fn linear_rates_fall_to_zero_with_the_originals_and_stay_there() {
    for (name, file) in of_kind("tianshou_linear_lr") {
        let tolerance = number(&file["tolerance"]["forward"]);
        for (i, case) in file["inputs"]["cases"].as_array().unwrap().iter().enumerate() {
            let per_epoch =
                whole(&case["step_per_epoch"]).div_ceil(whole(&case["step_per_collect"]));
            let updates = u32::try_from(per_epoch * whole(&case["epochs"])).unwrap();
            let schedule = Schedule {
                kind: LrSchedule::Linear,
                last: 0.0,
                steps: f64::from(updates + 1),
                ..Schedule::constant(number(&case["lr"]))
            };
            let rates = numbers(&file["outputs"]["lr"][i]);
            assert_eq!(rates.len() as u64, whole(&case["updates"]), "{name} case {i}");
            for (k, given) in (0..).zip(rates) {
                let (got, given) = (schedule.rate(k), given.max(0.0));
                assert!(
                    (got - given).abs() <= tolerance,
                    "{name} case {i} update {k}: {got:e}, expected {given:e}"
                );
                compared();
            }
        }
    }
}
