//! Pictures of MuJoCo environments, if this machine has EGL or OSMesa.

use actor_node::draw::Frame;
use actor_node::env::mujoco::{self, Mujoco};
use actor_node::env::{Env, EnvError, EnvParams, StateAccess};
use std::io::Write as _;

fn environment(name: &str) -> (Mujoco, Vec<f32>) {
    let mut env = mujoco::new(name, &EnvParams::new()).unwrap();
    let mut obs = vec![0.0; env.spec().obs_dim];
    env.reset(Some(1), &mut obs).unwrap();
    (env, obs)
}

/// Draws a picture. If this machine cannot draw, returns `None` and reports the skipped test on stderr.
#[expect(
    clippy::explicit_write,
    reason = "past the capture of the harness: a test that did not run must be seen"
)]
fn picture(env: &mut Mujoco) -> Option<Frame> {
    match env.render() {
        Ok(frame) => Some(frame.unwrap()),
        Err(EnvError::Failed(reason)) if reason.contains("no EGL") => {
            writeln!(std::io::stderr(), "SKIPPED: {reason}").unwrap();
            None
        }
        Err(other) => panic!("{other}"),
    }
}

fn colours(frame: &Frame) -> usize {
    let mut pixels: Vec<_> = frame.rgb.as_chunks::<3>().0.to_vec();
    pixels.sort_unstable();
    pixels.dedup();
    pixels.len()
}

/// Returns the mean byte of the rows from `top` to `bottom`, which are fractions of the height.
fn mean(frame: &Frame, top: f64, bottom: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a picture")]
    let byte = |at: f64| 3 * frame.width as usize * (at * f64::from(frame.height)) as usize;
    let bytes = &frame.rgb[byte(top)..byte(bottom)];
    #[expect(clippy::cast_precision_loss, reason = "fewer than a million bytes")]
    let count = bytes.len() as f64;
    bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / count
}

#[test]
fn a_picture_shows_the_state_and_nothing_else() {
    // The body's own camera, then the free camera at the task's distance and at the model's distance.
    for (name, seconds) in [("HalfCheetah-v5", 0.05), ("Pusher-v5", 0.05), ("Reacher-v5", 0.02)] {
        let (mut env, mut obs) = environment(name);
        let Some(first) = picture(&mut env) else { return };
        assert_eq!((first.width, first.height), (480, 480), "{name}");
        assert_eq!(first.rgb.len(), 480 * 480 * 3, "{name}");
        assert!((first.seconds - seconds).abs() < 1e-12, "{name}: {} s", first.seconds);
        assert!(colours(&first) > 50, "{name}: {} colours", colours(&first));
        assert_eq!(picture(&mut env).unwrap(), first, "{name}: drawing changes nothing");
        let start = env.state();
        let action = vec![1.0; env.spec().act_dim];
        for _ in 0..10 {
            env.step(&action, &mut obs).unwrap();
        }
        assert_ne!(picture(&mut env).unwrap().rgb, first.rgb, "{name} stands still");
        env.set_state(&start);
        assert_eq!(picture(&mut env).unwrap(), first, "{name}: back where it was");
        let (mut again, _) = environment(name);
        assert_eq!(picture(&mut again).unwrap(), first, "{name}: another one in the same state");
    }
}

#[test]
fn the_first_row_is_the_top_one() {
    let (mut env, _) = environment("HalfCheetah-v5");
    let Some(frame) = picture(&mut env) else { return };
    let (sky, floor) = (mean(&frame, 0.0, 0.1), mean(&frame, 0.9, 1.0));
    assert!(sky > 1.2 * floor, "a bright sky of {sky} above a chequered floor of {floor}");
}

#[test]
fn a_trajectory_is_the_same_with_pictures_and_without() {
    let (mut filmed, mut obs) = environment("Ant-v5");
    let (mut plain, mut plain_obs) = environment("Ant-v5");
    for step in 0..50_u8 {
        let action: Vec<_> =
            (0..8).map(|joint| f32::from((step + joint) % 5) / 2.0 - 1.0).collect();
        if picture(&mut filmed).is_none() {
            return;
        }
        let outcome = filmed.step(&action, &mut obs).unwrap();
        assert_eq!(outcome, plain.step(&action, &mut plain_obs).unwrap(), "step {step}");
        assert_eq!(filmed.observation(), plain.observation(), "step {step}");
    }
}

#[test]
fn an_environment_draws_on_whatever_thread_it_is() {
    let (mut env, _) = environment("Hopper-v5");
    let Some(first) = picture(&mut env) else { return };
    let (env, there) = std::thread::spawn(move || {
        let frame = picture(&mut env).unwrap();
        (env, frame)
    })
    .join()
    .unwrap();
    assert_eq!(there, first);
    // Two renderers at the same time, one of which outlives the other.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut env = env;
            assert_eq!(picture(&mut env).unwrap(), first);
        });
        let (mut other, _) = environment("Walker2d-v5");
        assert!(colours(&picture(&mut other).unwrap()) > 50);
    });
}
